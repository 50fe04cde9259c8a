//! The public API of each library, compared with the listing in `docs/api`, so that no change of it goes unnoticed.
//!
//! The items come from rustdoc's JSON, whose format belongs to the toolchain: the crate `public-api` reads that of one
//! range of toolchains, and the error says so if this toolchain is outside of it.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use xshell::cmd;

use crate::workspace::{self, shell};

/// The options of `cargo xtask api`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Writes the listing instead of comparing with it.
    #[arg(long)]
    update: bool,
}

/// Compares the public API of every published library with its listing.
pub(crate) fn check() -> Result<()> {
    run(&Arguments { update: false })
}

/// Compares the public API of every published library with its listing, or writes the listing.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // A separate directory: the variable causes a rebuild of everything whose build script looks at it.
    let target = workspace::target()?.join("api");
    let sh = shell()?;
    cmd!(sh, "cargo doc --workspace --exclude longwire-cli --exclude longwire-examples --exclude wire-model")
        .args([
            "--exclude",
            "fuzz-targets",
            "--exclude",
            "simulation",
            "--exclude",
            "soak",
            "--exclude",
            "xtask",
        ])
        .args(["--lib", "--all-features", "--no-deps"])
        .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target)
        .run()?;
    let listings = workspace::root().join("docs/api");
    let mut changes = Vec::new();
    for name in crates()? {
        let json = target.join("doc").join(format!("{}.json", name.replace('-', "_")));
        let items = items(&json)?;
        let listing = listings.join(format!("{name}.txt"));
        if arguments.update {
            fs::write(&listing, items)?;
        } else {
            changes.extend(difference(&fs::read_to_string(&listing)?, &items));
        }
    }
    ensure!(
        changes.is_empty(),
        "the public API differs from docs/api:\n{}\nif that is intended: cargo xtask api --update",
        changes.join("\n")
    );
    Ok(())
}

/// Returns the names of the published libraries.
fn crates() -> Result<Vec<String>> {
    let files = workspace::files()?;
    let libraries = files.iter().filter_map(|file| file.strip_prefix("crates/")?.strip_suffix("/src/lib.rs"));
    Ok(libraries.map(str::to_owned).collect())
}

/// Returns the public items that rustdoc has described in a file, a line each.
fn items(json: &Path) -> Result<String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .with_context(|| format!("cannot read {}: is this toolchain's rustdoc too new?", json.display()))?;
    let lines: Vec<_> = api.items().map(ToString::to_string).collect();
    Ok(lines.join("\n") + "\n")
}

/// Returns the lines of only one of two listings, marked by `-` for the old one and `+` for the new one.
fn difference(old: &str, new: &str) -> Vec<String> {
    let [old, new] = [old, new].map(|listing| listing.lines().collect::<BTreeSet<_>>());
    let gone = old.difference(&new).map(|line| format!("- {line}"));
    let come = new.difference(&old).map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_from_both_sides() {
        assert_eq!(difference("a\nb\nc\n", "a\nd\nc\n"), ["- b", "+ d"]);
        assert!(difference("a\nb\n", "b\na\n").is_empty());
    }
}
