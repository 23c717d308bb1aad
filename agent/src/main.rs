//! The `lyncwall` command.

fn main() {}
