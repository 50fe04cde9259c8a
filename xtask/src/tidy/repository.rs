//! Requirements for the repository as a whole: its documents, its lock file, its examples.

use std::path::Path;

use super::{File, parity::tests_of};

const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "Cargo.lock",
    ".ci/run",
    ".github/workflows/ci.yml",
];

/// Runs all checks.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let missing = DOCUMENTS.iter().filter(|path| text(path).is_none());
    let mut complaints: Vec<_> = missing.map(|path| format!("{path}: is not in the repository")).collect();
    complaints.extend(text("CHANGELOG.md").and_then(check_changelog));
    let readme = text("README.md").unwrap_or_default();
    complaints.extend(
        files
            .iter()
            .filter_map(|file| example(&file.path))
            .flat_map(|name| check_example(name, readme, is_tested(name, files))),
    );
    for command in [".ci/run", ".github/workflows/ci.yml", "README.md"] {
        if text(command).is_some_and(|text| !text.contains("cargo xtask ci")) {
            complaints.push(format!("{command}: does not name `cargo xtask ci`"));
        }
    }
    complaints
}

/// Returns the name of the example in a file, from the file's path in the repository.
fn example(file: &str) -> Option<&str> {
    let path = Path::new(file);
    let in_examples = path.parent() == Some(Path::new("examples"));
    let name = path.file_name()?.to_str()?.strip_suffix(".rs")?;
    // The library only exists because a package must have a target that is not an example.
    (in_examples && name != "lib").then_some(name)
}

/// Returns whether an example has a test, which has its name.
fn is_tested(name: &str, files: &[File]) -> bool {
    let mut tests = files.iter().filter(|file| file.path.starts_with("xtask/tests/examples/"));
    TESTED_BY_AUTOBAHN.contains(&name) || tests.any(|file| tests_of(&file.text).contains(name))
}

/// The examples that `cargo xtask autobahn` tests.
const TESTED_BY_AUTOBAHN: &[&str] = &["axum_echo", "autobahn_client"];

fn check_changelog(changelog: &str) -> Option<String> {
    let has_section = changelog.lines().any(|line| line == "## Unreleased" || line == "## [Unreleased]");
    (!has_section).then(|| "CHANGELOG.md: has no section `## Unreleased`".to_owned())
}

fn check_example(name: &str, readme: &str, is_tested: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    if !readme.contains(&format!("`{name}`")) && !readme.contains(&format!("examples/{name}.rs")) {
        complaints.push(format!("README.md: does not list the example `{name}`"));
    }
    if !is_tested {
        complaints.push(format!("examples/{name}.rs: no test runs it (xtask/tests/examples)"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    fn repository() -> Vec<File> {
        let mut files: Vec<_> = DOCUMENTS.iter().map(|path| file(path, "`echo`: cargo xtask ci\n")).collect();
        files.retain(|file| file.path != "CHANGELOG.md");
        files.push(file("CHANGELOG.md", "# Changelog\n\n## Unreleased\n"));
        files.push(file("examples/echo.rs", "//! Echoes.\n"));
        files.push(file("xtask/tests/examples/main.rs", "#[test]\nfn echo() {}\nfn unknown() {}\n"));
        files
    }

    #[test]
    fn a_whole_repository_passes() {
        assert!(check(&repository()).is_empty(), "{:?}", check(&repository()));
    }

    #[test]
    fn every_document_is_missed() {
        for document in DOCUMENTS {
            let mut files = repository();
            files.retain(|file| file.path != *document);
            let complaints = check(&files);
            assert!(complaints[0].starts_with(document), "{document}: {complaints:?}");
        }
    }

    #[test]
    fn the_changelog_has_room_for_what_is_new() {
        assert!(check_changelog("## [Unreleased]\n").is_none());
        assert!(check_changelog("## 0.1.0\n\nUnreleased changes\n").is_some());
    }

    #[test]
    fn every_example_is_listed_and_run() {
        assert!(check_example("echo", "| `echo` | echoes |", true).is_empty());
        assert_eq!(check_example("echo", "an echo server", true).len(), 1);
        assert_eq!(check_example("echo", "| `echo` | echoes |", false).len(), 1);
        let mut files = repository();
        files.push(file("examples/unknown.rs", "//! New.\n"));
        assert_eq!(check(&files).len(), 2);
    }

    #[test]
    fn the_workflows_call_the_one_command() {
        for path in [".ci/run", ".github/workflows/ci.yml", "README.md"] {
            let mut files = repository();
            files.retain(|file| file.path != path);
            files.push(file(path, "`echo`: cargo test\n"));
            assert_eq!(check(&files).len(), 1, "{path}");
        }
    }

    #[test]
    fn examples_are_the_files_of_their_directory() {
        for (file, name) in [
            ("examples/echo.rs", Some("echo")),
            ("examples/lib.rs", None),
            ("examples/demo/page.html", None),
            ("examples/demo/page.rs", None),
            ("crates/longwire/examples/echo.rs", None),
        ] {
            assert_eq!(example(file), name, "{file}");
        }
    }
}
