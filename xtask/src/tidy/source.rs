//! Requirements for every Rust source file: its opening, its length, and its `unsafe`.

use super::{
    File,
    code::{has_word, without_comments_and_literals},
};

/// The files that may use `unsafe`. Each is one small module, justified by a measurement (see ARCHITECTURE.md).
const UNSAFE_ALLOWED: &[&str] = &["crates/longwire-protocol/src/text.rs"];

/// Lines before a file's tests. Beyond that the file contains a second idea, which should move out.
const MOST_LINES_BEFORE_TESTS: usize = 500;

/// Lines in total.
const MOST_LINES: usize = 1200;

/// The crates that are pure: bytes in, events and bytes out, with time and randomness passed in.
const PURE: &[&str] = &["longwire-frame", "longwire-deflate", "longwire-handshake", "longwire-protocol"];

/// Names that a pure crate does not use: sockets, clocks, threads, files, processes. Types of `std::net` and
/// `std::io` that are mere data, such as addresses and I/O slices, are not among them.
const IMPURE: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::thread",
    "std::fs",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime",
];

/// Runs all checks of one file.
pub(super) fn check(file: &File) -> Vec<String> {
    let code = without_comments_and_literals(&file.text);
    let mut complaints = check_opening(file);
    complaints.extend(check_unsafe(file, &code, UNSAFE_ALLOWED));
    complaints.extend(check_purity(file, &code));
    complaints
}

fn check_opening(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    if !file.text.starts_with("//! ") {
        complaints.push(format!("{}:1: does not open with `//!` and what the file owns", file.path));
    }
    let of_crate = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    // A crate with an exception has the workspace's lint, which denies everything not allowed by name.
    let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let has_exception = UNSAFE_ALLOWED.iter().any(|allowed| allowed.starts_with(directory));
    if of_crate && !has_exception && !file.text.contains("#![forbid(unsafe_code)]") {
        complaints.push(format!("{}:1: lacks `#![forbid(unsafe_code)]`", file.path));
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

fn check_unsafe(file: &File, code: &str, allowed: &[&str]) -> Vec<String> {
    let lines: Vec<_> = file.text.lines().collect();
    let mut complaints = Vec::new();
    for (i, _) in code.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe")) {
        let place = format!("{}:{}", file.path, i + 1);
        if !allowed.contains(&file.path.as_str()) {
            complaints.push(format!("{place}: `unsafe` is not allowed in this file"));
        }
        let above = lines[..i].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
        if !above.chain([&lines[i]]).any(|line| line.contains("// SAFETY: ")) {
            complaints.push(format!("{place}: `unsafe` without a `// SAFETY:` comment above it"));
        }
    }
    complaints
}

fn check_purity(file: &File, code: &str) -> Vec<String> {
    let is_pure = PURE.iter().any(|name| file.path.starts_with(&format!("crates/{name}/src/")));
    if !is_pure {
        return Vec::new();
    }
    let named = |line: &str| IMPURE.iter().find(|word| has_word(line, word)).copied();
    lines_before_tests(code)
        .enumerate()
        .filter_map(|(i, line)| Some((i, named(line)?)))
        .map(|(i, word)| format!("{}:{}: a sans-IO crate names `{word}`", file.path, i + 1))
        .collect()
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
    fn a_file_is_short_before_its_tests() {
        let with_lines = |before: usize, after: usize| {
            format!("{OPENING}{}#[cfg(test)]\n{}", "x\n".repeat(before), "y\n".repeat(after))
        };
        assert!(long(&file("a.rs", &with_lines(499, 600))).is_empty());
        assert_eq!(long(&file("a.rs", &with_lines(500, 0))).len(), 1);
        assert_eq!(long(&file("a.rs", &with_lines(499, 700))).len(), 1);
        assert!(long(&file("crates/longwire/tests/a.rs", &with_lines(600, 0))).is_empty());
    }

    #[test]
    fn unsafe_is_allowed_by_name_and_has_its_reason() {
        let with = "// SAFETY: the slice is not empty.\nunsafe { f() }\n";
        for (text, allowed, complaints) in [
            (with, &["a.rs"][..], 0),
            (with, &[], 1),
            ("unsafe { f() }\n", &["a.rs"], 1),
            ("unsafe { f() }\n", &[], 2),
            ("// SAFETY: far away.\n\nunsafe { f() }\n", &["a.rs"], 1),
            ("// an unsafe thing\nlet x = \"unsafe\";\n", &[], 0),
        ] {
            let code = without_comments_and_literals(text);
            assert_eq!(
                check_unsafe(&file("a.rs", text), &code, allowed).len(),
                complaints,
                "{text} {allowed:?}"
            );
        }
    }

    #[test]
    fn pure_crates_have_no_clocks_and_no_sockets() {
        let text = format!("{OPENING}fn f() {{ let now = Instant::now(); }}\n");
        let path = "crates/longwire-protocol/src/timers.rs";
        let complaints = check(&file(path, &text));
        assert_eq!(complaints, [format!("{path}:2: a sans-IO crate names `Instant::now`")]);
        assert!(check(&file("crates/longwire-connection/src/timers.rs", &text)).is_empty());
        assert!(
            check(&file(path, &format!("{OPENING}#[cfg(test)]\nlet now = Instant::now();\n"))).is_empty()
        );
        assert_eq!(check(&file(path, &format!("{OPENING}use std::net::TcpStream;\n"))).len(), 1);
    }
}
