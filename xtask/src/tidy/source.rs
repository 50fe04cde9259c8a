//! Requirements for every Rust source file: its opening, and its length.
//!
//! `unsafe` is left to the compiler and to clippy (`unsafe_code`, `undocumented_unsafe_blocks`); this checks that
//! each crate asks for it, and that only one file makes an exception.

use super::File;

/// The file with an exception, justified by a measurement (see ARCHITECTURE.md). Its crate has the lint of the
/// workspace, which denies everything that is not allowed by name.
const UNSAFE_ALLOWED: &str = "crates/longwire-protocol/src/text.rs";

/// Exceptions from the lint, in pieces so that this file does not contain them.
const EXCEPTIONS: [&str; 2] = [concat!("allow(", "unsafe_code"), concat!("expect(", "unsafe_code")];

/// Lines before a file's tests. Beyond that the file contains a second idea, which should move out.
const MOST_LINES_BEFORE_TESTS: usize = 500;

/// Lines in total.
const MOST_LINES: usize = 1200;

/// Checks the opening of a file.
pub(super) fn check(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    if !file.text.starts_with("//! ") {
        complaints.push(format!("{}:1: does not open with `//!` and what the file owns", file.path));
    }
    let of_crate = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    let has_exception = file.path == "crates/longwire-protocol/src/lib.rs";
    if of_crate && !has_exception && !file.text.contains("#![forbid(unsafe_code)]") {
        complaints.push(format!("{}:1: lacks `#![forbid(unsafe_code)]`", file.path));
    }
    if file.path != UNSAFE_ALLOWED && EXCEPTIONS.iter().any(|exception| file.text.contains(exception)) {
        complaints.push(format!("{}:1: allows unsafe code, which only {UNSAFE_ALLOWED} may", file.path));
    }
    complaints
}

/// Returns files that may contain a second idea. This is not a failure: a limit must not dictate the structure.
pub(super) fn long(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let before_tests = lines_before_tests(&file.text).count();
    // A file that contains only tests has no part before them.
    let only_tests = file.path.split('/').any(|part| part == "tests" || part == "tests.rs");
    if !only_tests && before_tests > MOST_LINES_BEFORE_TESTS {
        complaints.push(format!(
            "{}: {before_tests} lines before the tests, at most {MOST_LINES_BEFORE_TESTS} read well",
            file.path
        ));
    }
    let lines = file.text.lines().count();
    if lines > MOST_LINES {
        complaints.push(format!("{}: {lines} lines, at most {MOST_LINES} read well", file.path));
    }
    complaints
}

fn lines_before_tests(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]")
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    const OPENING: &str = "//! Owns a thing.\n";

    #[test]
    fn a_file_says_first_what_it_owns() {
        assert!(check(&file("a.rs", OPENING)).is_empty());
        assert_eq!(check(&file("a.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(check(&file("a.rs", "//!\n")).len(), 1);
    }

    #[test]
    fn a_crate_forbids_unsafe_code() {
        let forbids = format!("{OPENING}#![forbid(unsafe_code)]\n");
        for path in ["crates/longwire/src/lib.rs", "xtask/src/main.rs"] {
            assert!(check(&file(path, &forbids)).is_empty(), "{path}");
            assert_eq!(check(&file(path, OPENING)).len(), 1, "{path}");
        }
    }

    #[test]
    fn one_file_may_allow_unsafe_code() {
        for exception in EXCEPTIONS {
            let text = format!("{OPENING}#[{exception}, reason = \"fast\")]\nfn f() {{}}\n");
            assert!(check(&file(UNSAFE_ALLOWED, &text)).is_empty());
            assert_eq!(check(&file("crates/longwire-protocol/src/inbound.rs", &text)).len(), 1);
        }
    }

    #[test]
    fn a_file_is_short_before_its_tests() {
        let with_lines = |before: usize, after: usize| {
            format!("{OPENING}{}#[cfg(test)]\n{}", "x\n".repeat(before), "y\n".repeat(after))
        };
        assert!(long(&file("a.rs", &with_lines(499, 600))).is_empty());
        assert_eq!(long(&file("a.rs", &with_lines(500, 0))).len(), 1);
        assert_eq!(long(&file("a.rs", &with_lines(499, 700))).len(), 1);
        assert!(long(&file("crates/longwire/tests/a.rs", &with_lines(600, 0))).is_empty());
    }
}
