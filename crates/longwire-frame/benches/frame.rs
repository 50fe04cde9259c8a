//! Measures headers, masking and UTF-8.
fn main() {
    divan::main();
}
