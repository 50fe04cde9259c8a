//! Requirements for the repository as a whole: its documents, its lock file, its examples.

use crate::examples;

use super::File;

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
            .filter_map(|file| examples::name_of(&file.path))
            .flat_map(|name| check_example(name, readme, examples::has_script(name))),
    );
    for command in [".ci/run", ".github/workflows/ci.yml", "README.md"] {
        if text(command).is_some_and(|text| !text.contains("cargo xtask ci")) {
            complaints.push(format!("{command}: does not name `cargo xtask ci`"));
        }
    }
    complaints
}

fn check_changelog(changelog: &str) -> Option<String> {
    let has_section = changelog.lines().any(|line| line == "## Unreleased" || line == "## [Unreleased]");
    (!has_section).then(|| "CHANGELOG.md: has no section `## Unreleased`".to_owned())
}

fn check_example(name: &str, readme: &str, has_script: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    if !readme.contains(&format!("`{name}`")) && !readme.contains(&format!("examples/{name}.rs")) {
        complaints.push(format!("README.md: does not list the example `{name}`"));
    }
    if !has_script {
        complaints.push(format!("examples/{name}.rs: no script runs it (xtask/src/examples.rs)"));
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
}
