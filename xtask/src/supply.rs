//! The supply chain: advisories, licences and sources of dependencies, and packages that anybody can build again.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use cargo_metadata::MetadataCommand;
use xshell::{Shell, cmd};

use crate::{
    setup::{self, Install},
    workspace::{self, shell},
};

/// The options of `cargo xtask supply`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leaves out the advisories, whose database is on GitHub.
    #[arg(long)]
    without_advisories: bool,
}

/// Checks the dependencies with cargo-deny, and compares the packages of two clones of the last commit.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let (sh, deny) = (shell()?, setup::cargo_deny(install)?);
    let advisories: &[&str] = if arguments.without_advisories { &[] } else { &["advisories"] };
    cmd!(sh, "{deny} --log-level error check bans licenses sources {advisories...}").run()?;

    let directory = workspace::target()?.join("supply");
    workspace::empty_directory(&directory)?;
    let packages = published()?;
    let one = pack(&directory.join("one"), &packages)?;
    // The files of the second clone are younger: times are given in whole seconds.
    thread::sleep(Duration::from_secs(2));
    let two = pack(&directory.join("another/folder"), &packages)?;
    let different = differing(&one, &two, &packages)?;
    ensure!(different.is_empty(), "differ between two clones: {}", different.join(", "));
    println!("{} packages are the same from two clones", packages.len());
    Ok(())
}

/// A published package: its name, and the name of its file.
type Package = (String, String);

/// Returns the packages of the workspace that are published.
fn published() -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new().current_dir(workspace::root()).no_deps().exec()?;
    let mut packages = Vec::new();
    for package in metadata.packages {
        // An empty list of registries is `publish = false`.
        if package.publish.is_none() {
            packages.push((package.name.to_string(), format!("{}-{}.crate", package.name, package.version)));
        }
    }
    Ok(packages)
}

/// Packs the last commit, cloned into a directory, and returns the directory of the packages.
fn pack(directory: &Path, packages: &[Package]) -> Result<PathBuf> {
    let (root, clone) = (workspace::root(), directory.join("clone"));
    let sh = Shell::new()?;
    cmd!(sh, "git clone --quiet {root} {clone}").run()?;
    sh.change_dir(&clone);
    let names = packages.iter().flat_map(|(name, _)| ["--package", name]);
    let target = directory.join("target");
    cmd!(sh, "cargo package --quiet --locked --no-verify {names...}")
        .env("CARGO_TARGET_DIR", &target)
        .run()?;
    Ok(target.join("package"))
}

/// Returns the names of the packages whose bytes differ.
fn differing(one: &Path, two: &Path, packages: &[Package]) -> Result<Vec<String>> {
    let mut different = Vec::new();
    for (name, file) in packages {
        if fs_err::read(one.join(file))? != fs_err::read(two.join(file))? {
            different.push(name.clone());
        }
    }
    Ok(different)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_other_bytes_are_named() {
        let scratch = std::env::temp_dir().join(format!("longwire-supply-{}", std::process::id()));
        let [one, two] = ["one", "two"].map(|name| scratch.join(name));
        for (directory, second) in [(&one, "same"), (&two, "same, but later")] {
            fs_err::create_dir_all(directory).unwrap();
            fs_err::write(directory.join("a-1.crate"), "same").unwrap();
            fs_err::write(directory.join("b-1.crate"), second).unwrap();
        }
        let packages = ["a", "b"].map(|name| (name.to_owned(), format!("{name}-1.crate")));
        assert_eq!(differing(&one, &two, &packages).unwrap(), ["b"]);
        let missing = [("c".to_owned(), "c-1.crate".to_owned())];
        assert!(differing(&one, &two, &missing).is_err());
        fs_err::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn what_is_not_published_is_left_out() {
        let packages = published().unwrap();
        let is_published = |name: &str| packages.iter().any(|(package, _)| package == name);
        assert!(is_published("longwire") && is_published("longwire-frame"), "{packages:?}");
        assert!(!is_published("xtask") && !is_published("soak"), "{packages:?}");
    }
}
