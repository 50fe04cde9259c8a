//! Checks the layers: which crate may know which, and that tokio stays above the sans-IO crates.

use anyhow::Result;
use xshell::cmd;

use crate::workspace::shell;

use super::File;

/// A crate's place: the crates of longwire that it may depend on, and whether it is sans-IO.
struct Layer {
    name: &'static str,
    may_know: &'static [&'static str],
    sans_io: bool,
}

/// The diagram of ARCHITECTURE.md, as a table. Arrows point down only.
const LAYERS: &[Layer] = &[
    Layer { name: "longwire-frame", may_know: &[], sans_io: true },
    Layer { name: "longwire-deflate", may_know: &[], sans_io: true },
    Layer { name: "longwire-handshake", may_know: &["longwire-deflate"], sans_io: true },
    Layer { name: "longwire-protocol", may_know: &["longwire-frame", "longwire-deflate"], sans_io: true },
    Layer { name: "longwire-connection", may_know: &["longwire-protocol"], sans_io: false },
    Layer { name: "longwire-hub", may_know: &["longwire-connection"], sans_io: false },
    Layer {
        name: "longwire-client",
        may_know: &["longwire-handshake", "longwire-connection"],
        sans_io: false,
    },
    Layer { name: "longwire-server", may_know: EDGE_OF_SERVERS, sans_io: false },
    Layer { name: "longwire-hyper", may_know: EDGE_OF_SERVERS, sans_io: false },
    // The facade re-exports all of them.
    Layer { name: "longwire", may_know: &["longwire-*"], sans_io: false },
];

const EDGE_OF_SERVERS: &[&str] = &["longwire-handshake", "longwire-connection", "longwire-hub"];

/// Runtimes, sockets, and sources of randomness: in no dependency of a sans-IO crate, however far down.
const NOT_SANS_IO: &[&str] = &["tokio", "mio", "socket2", "async-io", "smol", "hyper", "getrandom", "rand"];

/// Checks the dependencies of every crate.
pub(super) fn check(files: &[File]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in files.iter().filter_map(|file| crate_of(&file.path)) {
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            complaints.push(format!("crates/{name}: has no place in the layers (xtask/src/tidy/layers.rs)"));
            continue;
        };
        complaints.extend(check_direct(layer, &tree(name, &["--depth", "1"])?));
        if layer.sans_io {
            complaints.extend(check_sans_io(layer, &tree(name, &[])?));
        }
    }
    Ok(complaints)
}

/// Returns the crate whose manifest is at a path.
fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

/// Returns the names of a crate's dependencies, itself first, a line each, with every feature and on every platform.
fn tree(name: &str, more: &[&str]) -> Result<String> {
    let sh = shell()?;
    let tree = cmd!(sh, "cargo tree --package {name} --edges normal --all-features --target all {more...}");
    Ok(tree.args(["--prefix", "none", "--format", "{p}"]).read()?)
}

/// Returns the names of the packages in a tree, except the first.
fn dependencies(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().skip(1).filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty())
}

fn check_direct(layer: &Layer, tree: &str) -> Vec<String> {
    let name = layer.name;
    let may_know = |other: &str| {
        layer.may_know.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => other.starts_with(prefix),
            None => other == *known,
        })
    };
    dependencies(tree)
        .filter(|other| other.starts_with("longwire") && !may_know(other))
        .map(|other| format!("crates/{name}: depends on {other}, which is not below it"))
        .collect()
}

fn check_sans_io(layer: &Layer, tree: &str) -> Vec<String> {
    let name = layer.name;
    dependencies(tree)
        .filter(|other| NOT_SANS_IO.contains(other))
        .map(|other| format!("crates/{name}: is sans-IO and has {other} among its dependencies"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> &'static Layer {
        LAYERS.iter().find(|layer| layer.name == name).unwrap()
    }

    #[test]
    fn arrows_point_down_only() {
        for (name, other, allowed) in [
            ("longwire-protocol", "longwire-frame", true),
            ("longwire-frame", "longwire-protocol", false),
            ("longwire-hub", "longwire-handshake", false),
            ("longwire-hub", "longwire-server", false),
            ("longwire-server", "longwire-hub", true),
            ("longwire-hyper", "longwire-hub", true),
            ("longwire-hyper", "longwire-server", false),
            ("longwire-client", "longwire-hub", false),
            ("longwire-client", "longwire", false),
            ("longwire", "longwire-server", true),
        ] {
            let tree = format!("{name} v0.1.0 (/a/path)\nbytes v1.12.0\n{other} v0.1.0 (/a/path)\n");
            assert_eq!(check_direct(layer(name), &tree).is_empty(), allowed, "{name} on {other}");
        }
    }

    #[test]
    fn sans_io_crates_have_no_runtime() {
        let tree = "longwire-frame v0.1.0 (/a/path)\nbytes v1.12.0\n";
        assert!(check_sans_io(layer("longwire-frame"), tree).is_empty());
        let complaints = check_sans_io(layer("longwire-frame"), &format!("{tree}tokio v1.54.0 (*)\n"));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }

    #[test]
    fn cargo_sees_a_runtime_where_there_is_one() {
        let tree = tree("longwire-connection", &[]).unwrap();
        assert!(dependencies(&tree).any(|name| name == "tokio"), "{tree}");
    }
}
