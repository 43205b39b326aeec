//! Where the program begins.
fn main() {}
