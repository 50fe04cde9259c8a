//! Checks the layers: which crate may know which, and that tokio stays above the sans-IO crates.
//!
//! The table is ours because only this project knows it, and because the bans of cargo-deny name the crates that may
//! depend on another directly, not those that must not reach it at any depth. The standard library's part of sans-IO
//! is in the `clippy.toml` of each such crate.

use std::collections::{BTreeSet, HashMap};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

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
    Layer { name: "longwire-handshake", may_know: &["longwire-frame", "longwire-deflate"], sans_io: true },
    Layer { name: "longwire-protocol", may_know: &["longwire-frame", "longwire-deflate"], sans_io: true },
    Layer { name: "longwire-connection", may_know: &["longwire-protocol"], sans_io: false },
    Layer { name: "longwire-hub", may_know: &["longwire-connection"], sans_io: false },
    Layer { name: "longwire-cluster", may_know: &["longwire-connection", "longwire-hub"], sans_io: false },
    Layer {
        name: "longwire-client",
        may_know: &["longwire-handshake", "longwire-connection"],
        sans_io: false,
    },
    Layer { name: "longwire-server", may_know: EDGE_OF_SERVERS, sans_io: false },
    Layer { name: "longwire-hyper", may_know: EDGE_OF_SERVERS, sans_io: false },
    // The facade re-exports all of them.
    Layer { name: "longwire", may_know: &["longwire-*"], sans_io: false },
    // A user of the facade, like any other.
    Layer { name: "longwire-cli", may_know: &["longwire"], sans_io: false },
];

const EDGE_OF_SERVERS: &[&str] = &["longwire-handshake", "longwire-connection", "longwire-hub"];

/// Runtimes, sockets, and sources of randomness: in no dependency of a sans-IO crate, however far down.
const NOT_SANS_IO: &[&str] = &["tokio", "mio", "socket2", "async-io", "smol", "hyper", "getrandom", "rand"];

/// Checks every crate: its dependencies, and the bans of the sans-IO ones.
pub(super) fn check(files: &[File], metadata: &Metadata) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            if !NO_CRATES.contains(&name) {
                complaints.push(format!("{name}: has no place in the layers (xtask/src/tidy/layers.rs)"));
            }
            continue;
        };
        complaints.extend(check_direct(layer, &direct(package)));
        if layer.sans_io {
            complaints.extend(check_sans_io(layer, &at_any_depth(package, metadata)));
        }
    }
    complaints.extend(check_bans(files));
    complaints
}

/// Packages that are never published, and depend on whatever they need.
const NO_CRATES: &[&str] =
    &["fuzz-targets", "longwire-examples", "simulation", "soak", "wire-model", "xtask"];

/// Returns the names of a crate's direct dependencies, with every feature and on every platform.
fn direct(package: &Package) -> BTreeSet<&str> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    normal.map(|dependency| dependency.name.as_str()).collect()
}

/// Returns the names of all packages that a crate is built with, with every feature and on every platform.
fn at_any_depth<'a>(package: &Package, metadata: &'a Metadata) -> BTreeSet<&'a str> {
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let nodes: HashMap<&PackageId, _> = nodes.map(|node| (&node.id, node)).collect();
    let (mut seen, mut rest) = (BTreeSet::new(), vec![&package.id]);
    while let Some(node) = rest.pop().and_then(|id| nodes.get(id)) {
        let normal = node
            .deps
            .iter()
            .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
        rest.extend(normal.map(|dependency| &dependency.pkg).filter(|id| seen.insert(*id)));
    }
    seen.into_iter().map(|id| metadata[id].name.as_str()).collect()
}

fn check_direct(layer: &Layer, dependencies: &BTreeSet<&str>) -> Vec<String> {
    let name = layer.name;
    let may_know = |other: &str| {
        layer.may_know.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => other.starts_with(prefix),
            None => other == *known,
        })
    };
    dependencies
        .iter()
        .filter(|other| other.starts_with("longwire") && !may_know(other))
        .map(|other| format!("crates/{name}: depends on {other}, which is not below it"))
        .collect()
}

fn check_sans_io(layer: &Layer, dependencies: &BTreeSet<&str>) -> Vec<String> {
    let name = layer.name;
    let banned = NOT_SANS_IO.iter().filter(|banned| dependencies.contains(**banned));
    banned.map(|other| format!("crates/{name}: is sans-IO and has {other} among its dependencies")).collect()
}

/// Checks that the sans-IO crates have the same bans, and that there are some.
fn check_bans(files: &[File]) -> Vec<String> {
    let path = |layer: &Layer| format!("crates/{}/clippy.toml", layer.name);
    let bans = |layer: &Layer| files.iter().find(|file| file.path == path(layer)).map(|file| &file.text);
    let mut sans_io = LAYERS.iter().filter(|layer| layer.sans_io);
    let Some(first) = sans_io.clone().find_map(bans) else {
        return vec!["no sans-IO crate has a clippy.toml".to_owned()];
    };
    let others = sans_io.by_ref().filter(|layer| bans(layer) != Some(first));
    others
        .map(|layer| format!("{}: is not the same as that of the other sans-IO crates", path(layer)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

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
            ("longwire-cli", "longwire", true),
            ("longwire-cli", "longwire-client", false),
        ] {
            let complaints = check_direct(layer(name), &["bytes", other].into());
            assert_eq!(complaints.is_empty(), allowed, "{name} on {other}");
        }
    }

    #[test]
    fn sans_io_crates_have_no_runtime() {
        assert!(check_sans_io(layer("longwire-frame"), &["bytes"].into()).is_empty());
        let complaints = check_sans_io(layer("longwire-frame"), &["bytes", "tokio"].into());
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }

    #[test]
    fn cargo_sees_a_runtime_where_there_is_one() {
        let metadata = super::super::metadata().unwrap();
        let packages = metadata.workspace_packages();
        let package = |name| *packages.iter().find(|package| package.name == name).unwrap();
        assert!(direct(package("longwire-server")).contains("longwire-hub"));
        let hub = at_any_depth(package("longwire-hub"), &metadata);
        assert!(hub.contains("tokio") && hub.contains("longwire-frame"), "{hub:?}");
    }

    #[test]
    fn sans_io_crates_have_the_same_bans() {
        let sans_io = LAYERS.iter().filter(|layer| layer.sans_io);
        let path = |layer: &Layer| format!("crates/{}/clippy.toml", layer.name);
        let mut files: Vec<_> = sans_io.map(|layer| file(&path(layer), "the bans\n")).collect();
        assert!(check_bans(&files).is_empty());
        files[1].text = "other bans\n".to_owned();
        assert_eq!(check_bans(&files).len(), 1);
        files.remove(1);
        assert_eq!(check_bans(&files).len(), 1);
        assert_eq!(check_bans(&[]).len(), 1);
    }
}
