//! What runs measured, and how it is reported.

use serde_json::json;

/// What one run measured: names and values.
pub type Figures = Vec<(&'static str, f64)>;

/// Prints one run as a JSON object.
pub fn print_run(load: &str, server: &str, run: usize, figures: &Figures) {
    let figures: serde_json::Map<_, _> =
        figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    println!("{}", json!({ "load": load, "server": server, "run": run, "figures": figures }));
}

/// Prints the median of each figure of a load, and for two servers the median of the ratios of runs that followed one
/// another. `measured` has the runs of each server.
pub fn print_medians(load: &str, servers: &[&str], measured: &[Vec<Figures>]) {
    println!("{load}");
    let Some(names) = measured[0].first().map(|figures| figures.iter().map(|(name, _)| *name).collect::<Vec<_>>())
    else {
        return;
    };
    for (index, name) in names.iter().enumerate() {
        let values = |server: usize| measured[server].iter().map(move |figures| figures[index].1);
        let each: Vec<String> =
            (0..measured.len()).map(|server| format!("{} {:>12.1}", servers[server], median(values(server)))).collect();
        let ratio = match measured {
            [_, _] => {
                let ratio = median(values(0).zip(values(1)).map(|(ours, theirs)| ours / theirs));
                if ratio.is_finite() { format!("   {ratio:.2} x") } else { String::new() }
            }
            _ => String::new(),
        };
        println!("  {name:<24} {}{ratio}", each.join("   "));
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}
