//! Checks docs/ws-parity.md and SECURITY.md against the tests: each test named on one of the pages must exist,
//! and each row of a table whose last column is "tests" must name one.
//!
//! A test is named as code of the form `longwire-client: redirects::follows_where_the_location_leads`: the crate,
//! the file in its `tests` (or `src/..` for a module's own tests) without the `.rs`, the function. Readers must
//! judge whether the test proves the claim on the page.

use std::collections::HashSet;

use anyhow::{Result, anyhow, bail};

use super::File;

const PAGES: [&str; 2] = ["docs/ws-parity.md", "SECURITY.md"];

/// Runs all checks.
pub(super) fn check(files: &[File]) -> Vec<String> {
    PAGES.iter().flat_map(|path| check_page(path, files)).collect()
}

fn check_page(path: &str, files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|file| file.path == path) else {
        return vec![format!("{path}: is not in the repository")];
    };
    let mut complaints = Vec::new();
    let mut named = 0;
    let mut in_table = false;
    for (i, line) in page.text.lines().enumerate() {
        // The table of a page where each row is a promise; other tables have no such column.
        in_table = line.starts_with('|') && (in_table || line.ends_with("| tests |"));
        let is_row = in_table && !line.ends_with("| tests |") && !line.starts_with("|---");
        if is_row && !code_of(line).any(is_reference) {
            complaints.push(format!("{path}:{}: the row names no test", i + 1));
        }
        for reference in code_of(line).filter(|code| is_reference(code)) {
            named += 1;
            if let Err(reason) = look_up(reference, files) {
                complaints.push(format!("{path}:{}: `{reference}`: {reason:#}", i + 1));
            }
        }
    }
    if named == 0 {
        complaints.push(format!("{path}: names no test"));
    }
    complaints
}

/// Returns the text between backquotes in a line.
fn code_of(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Returns whether a piece of code is meant to name a test, correctly or not.
fn is_reference(code: &str) -> bool {
    code.starts_with("longwire") && code.contains(": ")
}

fn look_up(reference: &str, files: &[File]) -> Result<()> {
    let parts = reference.split_once(": ").and_then(|(name, rest)| Some((name, rest.split_once("::")?)));
    let Some((name, (file, test))) = parts else {
        bail!("has not the form `crate: file::test`");
    };
    let below = if file.starts_with("src/") { "" } else { "tests/" };
    let path = format!("crates/{name}/{below}{file}.rs");
    match files.iter().find(|file| file.path == path) {
        None => Err(anyhow!("there is no {path}")),
        Some(file) if tests_of(&file.text).contains(test) => Ok(()),
        Some(_) => Err(anyhow!("{path} has no such test")),
    }
}

/// Returns the names of the functions that an attribute marks as tests.
pub(super) fn tests_of(text: &str) -> HashSet<&str> {
    let mut tests = HashSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = function_of(line) {
            if is_test {
                tests.insert(name);
            }
            is_test = false;
        }
    }
    tests
}

/// Returns the name of the function that begins in a line.
fn function_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let end = rest.find(['(', '<'])?;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    /// Checks a repository with a page of one line and a few tests.
    fn check_line(line: &str) -> Vec<String> {
        check_lines(line, "`longwire-hub: rooms::a_room_is_gone`")
    }

    /// Checks the same with two pages.
    fn check_lines(parity: &str, security: &str) -> Vec<String> {
        check(&[
            file(PAGES[0], &format!("# Parity\n\n{parity}\n")),
            file(PAGES[1], &format!("# Security\n\n{security}\n")),
            file("crates/longwire-hub/tests/rooms.rs", "#[test]\nfn a_room_is_gone() {}\nfn helper() {}\n"),
            file(
                "crates/longwire-hub/src/limits.rs",
                "mod tests {\n    #[tokio::test(start_paused = true)]\n    async fn waits() {}\n}\n",
            ),
        ])
    }

    #[test]
    fn tests_that_exist_are_found() {
        for line in [
            "| K1 | rooms | `longwire-hub: rooms::a_room_is_gone` |",
            "`longwire-hub: src/limits::waits`",
            "`longwire-hub: rooms::a_room_is_gone`, `longwire-hub: src/limits::waits`",
            "`Hub::join`, `longwire_hub::Hub` are no tests; `longwire-hub: rooms::a_room_is_gone` is one",
        ] {
            assert_eq!(check_line(line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn tests_that_do_not_exist_are_complained_about_with_their_line() {
        for (line, complaint) in [
            ("`longwire-hub: rooms::a_room_stays`", "crates/longwire-hub/tests/rooms.rs has no such test"),
            ("`longwire-hub: rooms::a_room`", "crates/longwire-hub/tests/rooms.rs has no such test"),
            ("`longwire-hub: rooms::helper`", "crates/longwire-hub/tests/rooms.rs has no such test"),
            ("`longwire-hub: doors::a_room_is_gone`", "there is no crates/longwire-hub/tests/doors.rs"),
            ("`longwire-hub: limits::waits`", "there is no crates/longwire-hub/tests/limits.rs"),
            ("`longwire-bus: rooms::a_room_is_gone`", "there is no crates/longwire-bus/tests/rooms.rs"),
            ("`longwire-hub: a_room_is_gone`", "has not the form `crate: file::test`"),
        ] {
            let complaints = check_line(line);
            assert_eq!(complaints.len(), 1, "{line}: {complaints:?}");
            assert!(complaints[0].starts_with("docs/ws-parity.md:3: "), "{line}: {complaints:?}");
            assert!(complaints[0].ends_with(complaint), "{line}: {complaints:?}");
        }
    }

    #[test]
    fn a_page_without_tests_and_no_page_are_complained_about() {
        assert_eq!(check_line("nothing"), ["docs/ws-parity.md: names no test"]);
        let missing = PAGES.map(|page| format!("{page}: is not in the repository"));
        assert_eq!(check(&[]), missing);
    }

    #[test]
    fn both_pages_are_held_to_their_word() {
        let good = "`longwire-hub: rooms::a_room_is_gone`";
        let complaints = check_lines(good, "`longwire-hub: rooms::a_room_stays`");
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("SECURITY.md:3: "), "{complaints:?}");
        assert_eq!(check_lines(good, "nothing"), ["SECURITY.md: names no test"]);
    }

    #[test]
    fn each_row_of_a_table_with_tests_names_one() {
        let reference = "`longwire-hub: rooms::a_room_is_gone`";
        let head = "| behavior | tests |\n|---|---|";
        for (case, page, line) in [
            ("named", format!("{head}\n| joins | {reference} |"), None),
            ("not named", format!("{head}\n| joins | {reference} |\n| leaves | `Hub` |"), Some(6)),
            (
                "another table",
                format!("{head}\n| joins | {reference} |\n\n| a | b |\n|---|---|\n| c | d |"),
                None,
            ),
        ] {
            let complaints = check_lines(reference, &page);
            let expected: Vec<_> =
                line.into_iter().map(|line| format!("SECURITY.md:{line}: the row names no test")).collect();
            assert_eq!(complaints, expected, "{case}");
        }
    }

    #[test]
    fn only_what_an_attribute_makes_a_test_is_one() {
        let text = "#[test]\nfn one() {}\n\nfn two() {}\n\n#[tokio::test]\nasync fn three() {}\n\
                    proptest! {\n    #[test]\n    fn four(x in 0..9) {}\n}\n";
        let mut tests: Vec<_> = tests_of(text).into_iter().collect();
        tests.sort_unstable();
        assert_eq!(tests, ["four", "one", "three"]);
    }
}
