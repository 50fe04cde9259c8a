//! The supply chain: advisories, licences and sources of dependencies, packages that anybody can build again, and lists
//! of what is in them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
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

/// Checks the dependencies with cargo-deny, compares the packages of two clones of the last commit, and lists the
/// dependencies of each published crate as `CycloneDX`, in `target/supply/sbom`.
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
    list_dependencies(&directory, &packages, install)
}

/// Writes the list of each package's dependencies, with all features, and compares it with what cargo says.
///
/// The lists are made of the whole workspace, and may name more: a dependency that another crate of the workspace
/// switches on.
fn list_dependencies(directory: &Path, packages: &[Package], install: Install) -> Result<()> {
    let (clone, lists, sh) = (directory.join("one/clone"), directory.join("sbom"), Shell::new()?);
    let program = setup::cargo_cyclonedx(install)?;
    sh.change_dir(&clone);
    fs_err::create_dir_all(&lists)?;
    let manifest = clone.join("crates/longwire/Cargo.toml");
    let format = ["--format", "json", "--spec-version", "1.5"];
    cmd!(sh, "{program} cyclonedx --quiet {format...} --all-features --manifest-path {manifest}").run()?;
    for (name, _) in packages {
        let file = format!("{name}.cdx.json");
        let made = fs_err::read_to_string(clone.join("crates").join(name).join(&file))?;
        let listed = components(&serde_json::from_str(&made)?)?;
        let tree = cmd!(
            sh,
            "cargo tree --locked --package {name} --all-features --edges normal,build --prefix none"
        );
        let missing: Vec<_> =
            in_tree(&tree.read()?).into_iter().skip(1).filter(|one| !listed.contains(one)).collect();
        ensure!(missing.is_empty(), "the list of {name} lacks {}", missing.join(", "));
        fs_err::write(lists.join(file), made)?;
    }
    println!("{} lists of dependencies are in {}", packages.len(), lists.display());
    Ok(())
}

/// Returns the components of a list, each as its name and version. Fails if one has no licence.
fn components(list: &Value) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for component in list["components"].as_array().context("a list without components")? {
        let text = |key: &str| component[key].as_str().with_context(|| format!("a component without {key}"));
        let name = format!("{} v{}", text("name")?, text("version")?);
        ensure!(component["licenses"].as_array().is_some_and(|all| !all.is_empty()), "{name} has no licence");
        names.insert(name);
    }
    Ok(names)
}

/// Returns the packages that `cargo tree` shows, each as its name and version. The first is the one that was asked for.
fn in_tree(tree: &str) -> Vec<String> {
    let name = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    tree.lines().filter(|line| !line.is_empty()).map(name).collect()
}

/// A published package: its name, and the name of its file.
type Package = (String, String);

/// Returns the published packages of the workspace.
fn published() -> Result<Vec<Package>> {
    let packages = workspace::published()?.into_iter();
    Ok(packages
        .map(|package| (package.name.to_string(), format!("{}-{}.crate", package.name, package.version)))
        .collect())
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
    use serde_json::json;

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
    fn a_list_is_compared_with_the_tree() {
        let component =
            |name: &str| json!({ "name": name, "version": "1.2.3", "licenses": [{ "expression": "MIT" }] });
        let list = json!({ "components": [component("a"), component("b")] });
        let listed = components(&list).unwrap();
        let tree = in_tree("own v0.1.0 (/home)\na v1.2.3\nc v0.1.0 (proc-macro) (*)\n\nb v1.2.3\n");
        assert_eq!(tree, ["own v0.1.0", "a v1.2.3", "c v0.1.0", "b v1.2.3"]);
        assert_eq!(
            tree.iter().skip(1).filter(|one| !listed.contains(*one)).collect::<Vec<_>>(),
            ["c v0.1.0"]
        );
        let mut without = component("d");
        without["licenses"] = json!([]);
        assert!(components(&json!({ "components": [without] })).is_err());
        assert!(components(&json!({})).is_err());
    }

    #[test]
    fn what_is_not_published_is_left_out() {
        let packages = published().unwrap();
        let is_published = |name: &str| packages.iter().any(|(package, _)| package == name);
        assert!(is_published("longwire") && is_published("longwire-frame"), "{packages:?}");
        assert!(!is_published("xtask") && !is_published("soak"), "{packages:?}");
    }
}
