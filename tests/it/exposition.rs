//! A strict parser of the text of `OpenMetrics` 1.0, as far as a router uses it, and what it refuses.

use std::collections::HashSet;
use std::iter::Peekable;
use std::str::Chars;

/// A value with its name and labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// The samples of one metric.
#[derive(Default, Debug)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub unit: Option<String>,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// Parses a whole text.
///
/// # Errors
///
/// Says which line violates which rule.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF and a line feed")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the mark of the end does not stand on its own line".to_owned());
    }
    let mut families: Vec<Family> = Vec::new();
    for line in body.split_terminator('\n') {
        read_line(line, &mut families).map_err(|what| format!("{what}: {line:?}"))?;
    }
    let mut names = HashSet::new();
    for family in &families {
        check_family(family).map_err(|what| format!("{}: {what}", family.name))?;
        if !names.insert(&family.name) {
            return Err(format!("{} is there twice, or its lines are not together", family.name));
        }
    }
    Ok(families)
}

fn read_line(line: &str, families: &mut Vec<Family>) -> Result<(), String> {
    let Some(rest) = line.strip_prefix("# ") else {
        let family = families.last_mut().ok_or("a sample before every family")?;
        family.samples.push(read_sample(line)?);
        return Ok(());
    };
    let mut words = rest.splitn(3, ' ');
    let [Some(what), Some(name), Some(text)] = [(); 3].map(|()| words.next()) else {
        return Err("a description has a name and a text".to_owned());
    };
    if !is_name(name, ":") {
        return Err("the name is not legal".to_owned());
    }
    if families.last().is_none_or(|family| family.name != name) {
        families.push(Family { name: name.to_owned(), ..Family::default() });
    }
    let Some(family) = families.last_mut() else { return Ok(()) };
    if !family.samples.is_empty() {
        return Err("a description behind samples".to_owned());
    }
    match what {
        "TYPE" if family.kind.is_empty() && ["counter", "gauge", "histogram"].contains(&text) => {
            text.clone_into(&mut family.kind);
        }
        "UNIT" if family.unit.is_none() && is_name(text, "") && name.ends_with(&format!("_{text}")) => {
            family.unit = Some(text.to_owned());
        }
        "HELP" if family.help.is_empty() => family.help = unescape(text)?,
        _ => return Err("the description is not legal, or is there twice".to_owned()),
    }
    Ok(())
}

fn read_sample(line: &str) -> Result<Sample, String> {
    let mut letters = line.chars().peekable();
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|letter| !matches!(letter, '{' | ' ')) {
        name.push(letter);
    }
    let labels = if letters.next_if_eq(&'{').is_some() { read_labels(&mut letters)? } else { Vec::new() };
    if !is_name(&name, ":") || letters.next() != Some(' ') {
        return Err("a sample has a legal name, labels, one space and a value".to_owned());
    }
    let value = read_number(&letters.collect::<String>())?;
    Ok(Sample { name, labels, value })
}

fn read_labels(letters: &mut Peekable<Chars<'_>>) -> Result<Vec<(String, String)>, String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    loop {
        let mut name = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=') {
            name.push(letter);
        }
        let known = labels.iter().any(|(known, _)| *known == name);
        if !is_name(&name, "") || known || letters.next() != Some('=') || letters.next() != Some('"') {
            return Err("a label has a legal name of its own, and a text in quotes".to_owned());
        }
        let mut text = String::new();
        loop {
            match letters.next().ok_or("a text has no end")? {
                '"' => break,
                '\\' => text.extend(['\\', letters.next().ok_or("an escape has no end")?]),
                letter => text.push(letter),
            }
        }
        labels.push((name, unescape(&text)?));
        match letters.next() {
            Some(',') => {}
            Some('}') => return Ok(labels),
            _ => return Err("labels have a comma between them and a brace at the end".to_owned()),
        }
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some(escaped @ ('\\' | '"')) => escaped,
                _ => return Err("only \\, \" and the line feed are escaped".to_owned()),
            },
            letter if letter.is_control() => return Err("a control character".to_owned()),
            letter => letter,
        });
    }
    Ok(plain)
}

fn read_number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        // Rust knows more words than the specification.
        _ if text.contains(|letter: char| !(letter.is_ascii_digit() || "+-.eE".contains(letter))) => {
            Err("the value is not a number, or something follows it".to_owned())
        }
        _ => text.parse().map_err(|_| "the value is not a number".to_owned()),
    }
}

fn is_name(name: &str, also: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || also.contains(letter);
    !name.is_empty() && name.chars().all(legal) && !name.starts_with(|letter: char| letter.is_ascii_digit())
}

fn check_family(family: &Family) -> Result<(), String> {
    let Family { name, kind, help, samples, .. } = family;
    let suffixes: &[&str] = match kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => return Err("it has no type".to_owned()),
    };
    if help.is_empty() {
        return Err("it has no help".to_owned());
    }
    let mut seen = HashSet::new();
    for Sample { name: of_sample, labels, value } in samples {
        if !suffixes.iter().any(|suffix| *of_sample == format!("{name}{suffix}")) {
            return Err(format!("{of_sample} is not of a {kind}"));
        }
        let mut sorted = labels.clone();
        sorted.sort();
        if !seen.insert((of_sample, sorted)) {
            return Err(format!("{of_sample}{labels:?} is there twice"));
        }
        if kind != "gauge" && !(*value >= 0.0 && value.is_finite()) {
            return Err(format!("{of_sample} counts {value}"));
        }
    }
    if kind == "histogram" { check_histogram(family) } else { Ok(()) }
}

/// Checks a histogram without labels but `le`.
fn check_histogram(family: &Family) -> Result<(), String> {
    let of = |suffix: &str| -> Vec<&Sample> {
        family.samples.iter().filter(|sample| sample.name == format!("{}{suffix}", family.name)).collect()
    };
    let mut last = (f64::NEG_INFINITY, 0.0);
    for bucket in of("_bucket") {
        let [(label, bound)] = bucket.labels.as_slice() else { return Err("a bucket has one label".to_owned()) };
        let bound = read_number(bound)?;
        let is_next = label == "le" && bound > last.0 && bucket.value >= last.1;
        if !is_next || bucket.value.fract() != 0.0 {
            return Err(format!("{bucket:?} does not follow on {last:?}"));
        }
        last = (bound, bucket.value);
    }
    let [count] = of("_count")[..] else { return Err("it has one count".to_owned()) };
    let [_] = of("_sum")[..] else { return Err("it has one sum".to_owned()) };
    let is_whole = last.0 == f64::INFINITY && last.1.to_bits() == count.value.to_bits();
    if is_whole { Ok(()) } else { Err(format!("the last bucket {last:?} does not have all {}", count.value)) }
}

#[test]
fn a_legal_text_is_read() {
    let text = "# HELP a_seconds A \\\"time\\\", in \\\\ and\\nmore.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n\
                a_seconds{name=\"x\\\"y\\\\z\\n,}\",other=\"\"} 1.5e-3\na_seconds 2\n\
                # HELP b B.\n# TYPE b histogram\nb_bucket{le=\"0.5\"} 1\nb_bucket{le=\"+Inf\"} 3\nb_sum 4.5\nb_count 3\n\
                # HELP c C.\n# TYPE c counter\nc_total 7\n# EOF\n";
    let families = parse(text).expect("it is legal");
    let names: Vec<_> = families.iter().map(|family| (family.name.as_str(), family.kind.as_str())).collect();
    assert_eq!(names, [("a_seconds", "gauge"), ("b", "histogram"), ("c", "counter")]);
    assert_eq!(
        (families[0].unit.as_deref(), families[0].help.as_str()),
        (Some("seconds"), "A \"time\", in \\ and\nmore.")
    );
    let label = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(families[0].samples[0].labels, [label("name", "x\"y\\z\n,}"), label("other", "")]);
    assert_eq!(parse("# EOF\n").map(|families| families.len()), Ok(0));
}

#[test]
fn what_is_not_legal_is_refused() {
    const HEAD: &str = "# HELP a A.\n# TYPE a gauge\n";
    for (text, why) in [
        (format!("{HEAD}a 1\n"), "no mark of the end"),
        (format!("{HEAD}a 1\n# EOF\na 2\n"), "something behind the end"),
        (format!("{HEAD}a 1\n# EOF"), "no line feed at the end"),
        (format!("{HEAD}a 1# EOF\n"), "the end on another line"),
        (format!("{HEAD}\na 1\n# EOF\n"), "an empty line"),
        (format!("{HEAD}a  1\n# EOF\n"), "two spaces"),
        (format!("{HEAD}a 1 2\n# EOF\n"), "a time"),
        (format!("{HEAD}a one\n# EOF\n"), "no number"),
        (format!("{HEAD}a inf\n# EOF\n"), "another word for infinity"),
        (format!("{HEAD}a 1\na 1\n# EOF\n"), "the same series twice"),
        (format!("{HEAD}a{{}} 1\n# EOF\n"), "no label in braces"),
        (format!("{HEAD}a{{x=\"1\",x=\"2\"}} 1\n# EOF\n"), "a label twice"),
        (format!("{HEAD}a{{x=\"1\",y=\"2\"}} 1\na{{y=\"2\",x=\"1\"}} 1\n# EOF\n"), "the same labels in another order"),
        (format!("{HEAD}a{{1x=\"1\"}} 1\n# EOF\n"), "a label with a digit in front"),
        (format!("{HEAD}a{{x=\"\\t\"}} 1\n# EOF\n"), "another escape"),
        (format!("{HEAD}a{{x=\"1}} 1\n# EOF\n"), "a text without an end"),
        (format!("{HEAD}a{{x=1}} 1\n# EOF\n"), "a text without quotes"),
        (format!("{HEAD}b 1\n# EOF\n"), "a sample of another metric"),
        (format!("{HEAD}a_total 1\n# EOF\n"), "a gauge with the name of a counter"),
        (format!("{HEAD}a 1\n# UNIT a x\n# EOF\n"), "a description behind samples"),
        (format!("{HEAD}# UNIT a seconds\na 1\n# EOF\n"), "a unit that is not part of the name"),
        (format!("{HEAD}# TYPE a gauge\na 1\n# EOF\n"), "two types"),
        (
            format!("{HEAD}a 1\n# HELP b B.\n# TYPE b gauge\n# HELP a A.\n# TYPE a gauge\n# EOF\n"),
            "a metric in two places",
        ),
        ("# HELP a A.\na 1\n# EOF\n".to_owned(), "no type"),
        ("# TYPE a gauge\na 1\n# EOF\n".to_owned(), "no help"),
        ("# HELP a A.\n# TYPE a summary\n# EOF\n".to_owned(), "an unknown type"),
        ("# HELP a A.\n# TYPE a counter\na_total -1\n# EOF\n".to_owned(), "a negative count"),
        ("# HELP a A.\n# TYPE a counter\na 1\n# EOF\n".to_owned(), "a counter without its suffix"),
    ] {
        assert!(parse(&text).is_err(), "{why}: {text}");
    }
    let histogram = |rest: &str| format!("# HELP a A.\n# TYPE a histogram\n{rest}a_sum 1\na_count 2\n# EOF\n");
    assert!(parse(&histogram("a_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 2\n")).is_ok());
    for buckets in [
        "",
        "a_bucket{le=\"1\"} 2\n",
        "a_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 3\n",
        "a_bucket{le=\"1\"} 2\na_bucket{le=\"2\"} 1\na_bucket{le=\"+Inf\"} 2\n",
        "a_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 2\n",
        "a_bucket{le=\"1\"} 0.5\na_bucket{le=\"+Inf\"} 2\n",
        "a_bucket 2\n",
    ] {
        assert!(parse(&histogram(buckets)).is_err(), "{buckets}");
    }
}
