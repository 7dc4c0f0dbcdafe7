//! Suggestions for misspelt names.

/// Minimum similarity of a suggested name, from 0 to 1.
const LIKENESS_MIN: f64 = 0.6;
/// Maximum length of a compared name, in bytes: no known name is nearly as long, and comparing takes time by length.
const COMPARED_BYTES_MAX: usize = 64;

/// Returns the known name most similar to `name`, if one is similar enough.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if name.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&name, &known.to_ascii_lowercase());
    let best = known.iter().copied().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) >= LIKENESS_MIN).then_some(best)
}
