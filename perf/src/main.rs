//! Comparisons of the router with its peers on the same work.
fn main() {}
