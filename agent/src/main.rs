//! `lyncwall`.
fn main() {}
