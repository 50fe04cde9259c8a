//! Requirements for every manifest: the lints, the Rust version and the other values of the workspace.

use anyhow::{Context, Result};
use xshell::cmd;

use crate::workspace::shell;

use super::File;

/// The values that a package takes from the workspace.
const SHARED: &[&str] = &[
    "version.workspace = true",
    "edition.workspace = true",
    "rust-version.workspace = true",
    "license.workspace = true",
];

/// Checks the manifests of the packages, and cargo's view of them.
pub(super) fn check(files: &[File]) -> Result<Vec<String>> {
    let root = files.iter().find(|file| file.path == "Cargo.toml").context("there is no Cargo.toml")?;
    let mut complaints: Vec<_> =
        files.iter().filter(|file| is_member(&file.path)).flat_map(check_manifest).collect();
    let sh = shell()?;
    let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1").read()?;
    complaints.extend(check_rust_versions(&root.text, &metadata));
    Ok(complaints)
}

/// Returns whether a path is that of a manifest of the workspace: `benches` and `fuzz` are separate workspaces.
fn is_member(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    matches!(parts[..], ["crates", _, "Cargo.toml"] | ["examples" | "xtask", "Cargo.toml"])
}

fn check_manifest(file: &File) -> Vec<String> {
    let has = |line: &str| file.text.lines().any(|other| other == line);
    let mut complaints: Vec<_> = SHARED
        .iter()
        .filter(|line| !has(line))
        .map(|line| format!("{}: lacks `{line}`", file.path))
        .collect();
    if !file.text.contains("[lints]\nworkspace = true\n") {
        complaints.push(format!("{}: does not take the lints of the workspace", file.path));
    }
    complaints
}

/// Checks that each package's Rust version, as users' resolvers see it, is the one in the root manifest.
fn check_rust_versions(root: &str, metadata: &str) -> Vec<String> {
    let stated = root.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let Some(stated) = stated else {
        return vec!["Cargo.toml: states no rust-version".to_owned()];
    };
    let versions: Vec<_> = metadata
        .split("\"rust_version\":")
        .skip(1)
        .map(|rest| rest.split([',', '}']).next().unwrap_or_default())
        .collect();
    if versions.is_empty() {
        return vec!["cargo metadata tells no rust_version".to_owned()];
    }
    let other = |version: &&str| version.trim() != stated.trim();
    let complaint = |version| format!("a package has rust-version {version}, the workspace {stated}");
    versions.into_iter().filter(other).map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    #[test]
    fn a_manifest_takes_what_the_workspace_has() {
        let good = format!("[package]\n{}\n\n[lints]\nworkspace = true\n", SHARED.join("\n"));
        assert!(check_manifest(&file("crates/a/Cargo.toml", &good)).is_empty());
        for line in SHARED {
            let bad = good.replace(&format!("\n{line}\n"), "\n\n");
            assert_eq!(check_manifest(&file("crates/a/Cargo.toml", &bad)).len(), 1, "{line}");
        }
        let bad = good.replace("[lints]\nworkspace = true\n", "[dependencies]\n");
        assert_eq!(check_manifest(&file("crates/a/Cargo.toml", &bad)).len(), 1);
    }

    #[test]
    fn rust_versions_are_those_of_the_workspace() {
        let root = "rust-version = \"1.88\"\n";
        for (metadata, complaints) in [
            (r#"{"a":1,"rust_version":"1.88","b":2},{"rust_version":"1.88"}"#, 0),
            (r#"{"rust_version":"1.88"},{"rust_version":"1.90"}"#, 1),
            (r#"{"rust_version":null}"#, 1),
            ("{}", 1),
        ] {
            assert_eq!(check_rust_versions(root, metadata).len(), complaints, "{metadata}");
        }
        assert_eq!(check_rust_versions("", r#"{"rust_version":"1.88"}"#).len(), 1);
    }

    #[test]
    fn members_are_the_packages_of_this_workspace() {
        assert!(is_member("crates/longwire/Cargo.toml") && is_member("xtask/Cargo.toml"));
        assert!(!is_member("benches/Cargo.toml") && !is_member("Cargo.toml"));
    }
}
