//! The corpus of each target, which was found by fuzzing and is now a test; and every place that lists the targets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The most files and bytes of one target's corpus, so that these tests stay quick and the repository small.
const MOST: (usize, u64) = (50, 100 * 1024);

macro_rules! targets {
    ($($name:ident)*) => {
        /// The name of every target.
        const TARGETS: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            replay(stringify!($name), fuzz_targets::$name);
        })*
    };
}

targets! {
    close_payload
    connection
    deflate
    extensions
    forwarded
    frame_header
    hub
    inbound
    inflate
    outbound
    proxy_protocol
    request_head
    response_head
    uris
    utf8
}

/// Returns the directory of the fuzzing workspace.
fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in `fuzz`").to_owned()
}

/// Calls a target with each file of its corpus.
fn replay(name: &str, target: fn(&[u8])) {
    let (mut files, mut bytes) = (0, 0);
    let directory = fuzz().join("seeds").join(name);
    for entry in
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
    {
        let path = entry.expect("an entry of the corpus").path();
        let data = std::fs::read(&path).expect("a file of the corpus");
        (files, bytes) = (files + 1, bytes + data.len() as u64);
        let run = catch_unwind(AssertUnwindSafe(|| target(&data)));
        assert!(run.is_ok(), "{name} failed on {}", path.display());
    }
    assert!(files > 0, "{name} has no corpus");
    assert!(
        files <= MOST.0 && bytes <= MOST.1,
        "the corpus of {name} has {files} files and {bytes} bytes: minimize it"
    );
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names = |directory: &str| {
        let entries = std::fs::read_dir(fuzz().join(directory)).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut names: Vec<_> =
            paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        names.sort();
        names
    };
    assert_eq!(names("fuzz_targets"), TARGETS);
    assert_eq!(names("seeds"), TARGETS);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
    for name in TARGETS {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "Cargo.toml does not list {name}"
        );
        let program =
            std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).expect("a program");
        assert!(program.contains(&format!("fuzz_targets::{name}(data)")), "{name}.rs calls another target");
    }
}

#[test]
fn a_dictionary_belongs_to_a_target() {
    for entry in std::fs::read_dir(fuzz().join("dictionaries")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        assert!(TARGETS.contains(&name), "{}", path.display());
        let text = std::fs::read_to_string(&path).expect("a dictionary");
        let entries = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in entries {
            assert!(
                line.len() > 2 && line.starts_with('"') && line.ends_with('"'),
                "{}: {line}",
                path.display()
            );
        }
    }
}
