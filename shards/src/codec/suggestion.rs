//! What a misspelt name was probably meant to be.

/// How alike two names must be for one to be suggested in place of the other, from 0 to 1.
const LIKENESS_MIN: f64 = 0.6;
/// Longer names are not compared, in bytes: no known name is nearly as long, and comparing takes time by length.
const COMPARED_BYTES_MAX: usize = 64;

/// The known name that is most like `name`, if one is like it.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if name.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&name, &known.to_ascii_lowercase());
    let best = known.iter().copied().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) >= LIKENESS_MIN).then_some(best)
}
