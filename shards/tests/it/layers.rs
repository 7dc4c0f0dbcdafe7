//! The engine's folders form layers: a file imports from its own folder and from those before it, never from a later
//! one.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of `shards/src`, lowest layer first. `planted` is a switch for tests that every layer may use.
const LAYERS: [&str; 20] = [
    "base",
    "planted",
    "domain",
    "outcome",
    "mesh",
    "message",
    "codec",
    "protocol",
    "supervision",
    "mailbox",
    "flow_control",
    "dead_letter",
    "routing",
    "replies",
    "conversation",
    "journal",
    "stats",
    "trace",
    "shard",
    "management",
];
/// Code written against the whole engine: roles for agents, and the simulators.
const ABOVE: [&str; 2] = ["roles", "sim"];

/// Returns every Rust file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns the layer of a folder or file of `shards/src`.
fn rank(name: &str) -> usize {
    let place = LAYERS.iter().chain(&ABOVE).position(|layer| *layer == name);
    place.unwrap_or_else(|| panic!("{name} is in no layer: give it a place in {}", file!()))
}

/// Returns the folders named in a text after `crate::`, ignoring comments.
fn named_in(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1)).map(|behind| {
        let end = behind.find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        &behind[..end.unwrap_or(behind.len())]
    })
}

#[test]
fn every_file_imports_only_from_its_own_layer_and_those_below() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upward = Vec::new();
    for path in files_below(&source) {
        let inside = path.strip_prefix(&source).unwrap();
        let own = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if own == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for named in named_in(&text) {
            if rank(named) > rank(own) {
                upward.push(format!("{} imports {named}", inside.display()));
            }
        }
    }
    assert!(upward.is_empty(), "a lower layer knows a higher one:\n{}", upward.join("\n"));
}

#[test]
fn comments_are_no_imports_and_paths_are() {
    let text =
        "use crate::base::slab;\n// crate::sim is not meant\nlet x = crate::shard::Shard::new(crate::domain::Y);";
    assert_eq!(named_in(text).collect::<Vec<_>>(), ["base", "shard", "domain"]);
}

/// A shard consists of components: what one of them can hold is not a field of the whole.
#[test]
fn a_shard_has_few_fields_and_only_its_own_folder_sees_them() {
    const FIELDS_MAX: usize = 26;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shard/mod.rs");
    let text = fs::read_to_string(source).unwrap();
    let (_, body) = text.split_once("pub struct Shard {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let fields: Vec<&str> = body.lines().map(str::trim).filter(|line| line.contains(": ")).collect();
    let fields: Vec<&str> = fields.into_iter().filter(|line| !line.starts_with("//")).collect();
    assert!((20..=FIELDS_MAX).contains(&fields.len()), "{} fields", fields.len());
    for field in fields {
        assert!(field.starts_with("pub(in crate::shard) "), "{field} is visible to others");
    }
}
