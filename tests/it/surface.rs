//! What embedders see, read from the sources: names of errors, and what may grow.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder of the repository.
fn sources(folder: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    files
}

/// Public types with their attributes: whether each is an enum, its name, and the lines of attributes above it.
fn public_types(source: &str) -> Vec<(bool, String, String)> {
    let mut attributes = String::new();
    let mut types = Vec::new();
    for line in source.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["pub", kind @ ("enum" | "struct"), name, ..] => {
                let end = name.find(|character: char| !character.is_alphanumeric()).unwrap_or(name.len());
                types.push((*kind == "enum", name[..end].to_owned(), std::mem::take(&mut attributes)));
            }
            [first, ..] if first.starts_with("#[") || !attributes.is_empty() && !line.ends_with('}') => {
                attributes.push_str(line);
            }
            [first, ..] if first.starts_with("///") => {}
            _ => attributes.clear(),
        }
    }
    types
}

/// Folders whose types embedders do not see, or that have the words of a standard: the exceptions of FIPA SC00023.
const APART: [&str; 3] = ["cli", "management", "sim"];

#[test]
fn public_errors_are_named_so_and_may_grow() {
    let (mut errors, mut complaints) = (0, Vec::new());
    for file in sources("shards/src").into_iter().chain(sources("src")) {
        if file.components().any(|part| APART.iter().any(|apart| part.as_os_str() == *apart)) {
            continue;
        }
        let source = fs::read_to_string(&file).expect("it is text");
        for (is_enum, name, attributes) in public_types(&source) {
            if !attributes.contains("thiserror::Error") && !source.contains(&format!("Error for {name} ")) {
                continue;
            }
            errors += 1;
            if !["Error", "Errors", "ErrorKind"].iter().any(|end| name.ends_with(end)) {
                complaints.push(format!("{}: the error {name} does not end in Error", file.display()));
            }
            if is_enum && !attributes.contains("#[non_exhaustive]") {
                complaints.push(format!("{}: the error {name} is not #[non_exhaustive]", file.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(errors > 30, "the sources have errors, and {errors} were found");
}

/// Names that embedders need not look for in a module.
const ROOT_NAMES_MAX: usize = 10;

#[test]
fn the_root_has_few_names() {
    let source = include_str!("../../src/lib.rs");
    let mut names = Vec::new();
    for item in
        source.split(';').filter(|item| item.trim_start().starts_with("pub use ") || item.contains("\npub use "))
    {
        // Whole modules are no names of their own.
        let Some((path, list)) = item.rsplit_once("::") else { continue };
        let exported = list.trim_matches(|character| "{} \n".contains(character)).split(',').map(str::trim);
        let indented = path.lines().last().is_some_and(|line| line.starts_with(' '));
        if !indented {
            names.extend(exported.filter(|name| name.starts_with(char::is_uppercase)));
        }
    }
    assert!((5..=ROOT_NAMES_MAX).contains(&names.len()), "{names:?}");
}

#[test]
fn embedders_need_no_other_crate() {
    // Those of the journal read and write its records.
    let of_the_journal = ["damage.rs", "journal_crash.rs"];
    for file in sources("tests").into_iter().chain(sources("examples")) {
        let apart = of_the_journal.iter().any(|name| file.ends_with(name)) || file.ends_with("surface.rs");
        if apart || file.components().any(|part| part.as_os_str() == "fuzz") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("it is text");
        assert!(!source.contains("caxton_shards"), "{} names the engine's crate", file.display());
    }
}
