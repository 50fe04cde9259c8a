//! Requirements for every manifest: the lints, the Rust version and the other values of the workspace.

use anyhow::Result;
use cargo_metadata::{Metadata, Package};

/// Checks the packages of the workspace, as cargo and users' resolvers see them.
pub(super) fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let packages = metadata.workspace_packages();
    let mut complaints = check_shared(&packages);
    for package in packages {
        let manifest = fs_err::read_to_string(&package.manifest_path)?;
        complaints.extend(check_lints(&package.name, &manifest));
    }
    Ok(complaints)
}

/// Programs, whose Rust version no other package depends on: it may be newer, and is checked by the job `msrv` only
/// for the others.
const PROGRAMS: &[&str] = &["longwire-cli"];

/// Checks that all packages have the same values.
fn check_shared(packages: &[&Package]) -> Vec<String> {
    let rust_version =
        |package: &Package| package.rust_version.as_ref().map_or("none".to_owned(), ToString::to_string);
    let libraries = packages.iter().find(|package| !PROGRAMS.contains(&package.name.as_str()));
    let shared = |package: &Package| {
        let Package { version, edition, license, .. } = package;
        // A program must state one as well.
        let exempt = PROGRAMS.contains(&package.name.as_str()) && package.rust_version.is_some();
        let stated = if exempt { libraries.copied().unwrap_or(package) } else { package };
        [
            format!("version {version}"),
            format!("edition {edition}"),
            format!("rust-version {}", rust_version(stated)),
            format!("license {}", license.as_deref().unwrap_or("none")),
        ]
    };
    let Some(first) = packages.first().map(|package| shared(package)) else {
        return vec!["cargo metadata names no package".to_owned()];
    };
    let mut complaints = Vec::new();
    for package in packages {
        for (value, expected) in shared(package).into_iter().zip(&first) {
            if value != *expected || value.ends_with(" none") {
                complaints.push(format!("{}: has {value} where others have {expected}", package.name));
            }
        }
    }
    complaints
}

/// Checks that a package takes the lints of the workspace, which cargo's metadata does not tell.
fn check_lints(name: &str, manifest: &str) -> Option<String> {
    let takes = manifest.contains("[lints]\nworkspace = true\n");
    (!takes).then(|| format!("{name}: does not take the lints of the workspace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_the_values_of_the_workspace() {
        type Break = fn(&mut Package);
        let metadata = super::super::metadata().unwrap();
        let packages = metadata.workspace_packages();
        let library = *packages.iter().find(|package| package.name == "longwire-hub").unwrap();
        assert_eq!(check_shared(&packages), Vec::<String>::new());
        let breaks: &[(&str, Break)] = &[
            ("version", |package| package.version.patch += 1),
            ("edition", |package| package.edition = cargo_metadata::Edition::E2021),
            ("no rust-version", |package| package.rust_version = None),
            ("rust-version", |package| package.rust_version = Some(package.version.clone())),
            ("license", |package| package.license = Some("MIT".to_owned())),
        ];
        for (case, break_it) in breaks {
            let mut other = library.clone();
            break_it(&mut other);
            let complaints = check_shared(&[packages[0], &other]);
            assert_eq!(complaints.len(), 1, "{case}: {complaints:?}");
        }
        let program = packages.iter().find(|package| package.name == PROGRAMS[0]).unwrap();
        let mut newer = (*program).clone();
        newer.rust_version = Some(newer.version.clone());
        assert_eq!(check_shared(&[library, &newer]), Vec::<String>::new());
        newer.rust_version = None;
        assert_eq!(check_shared(&[library, &newer]).len(), 1);
        assert_eq!(check_shared(&[]).len(), 1);
    }

    #[test]
    fn a_manifest_takes_the_lints_of_the_workspace() {
        assert!(check_lints("a", "[package]\n\n[lints]\nworkspace = true\n").is_none());
        assert!(check_lints("a", "[package]\n\n[lints]\n").is_some());
    }
}
