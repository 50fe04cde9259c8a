//! Checks the promises of the architecture and the style that no compiler checks.
//!
//! Rules that rustc, clippy and rustfmt can check are left to them. Each check takes text, or cargo's view of the
//! workspace, and returns complaints, so its tests can show it a violation.

mod guide;
mod layers;
mod manifests;
mod parity;
mod repository;
mod source;
mod text;

use std::path::Path;

use anyhow::{Result, anyhow};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand};

use crate::{bench::page, workspace};

/// A file of the repository: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

/// Runs every check and prints all complaints.
pub(crate) fn run() -> Result<()> {
    let mut files = Vec::new();
    for path in workspace::files()? {
        let bytes = fs_err::read(workspace::root().join(&path))?;
        // A file that is not UTF-8 is an image or the like, and is not checked.
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path, text });
        }
    }

    let mut complaints = Vec::new();
    for file in &files {
        complaints.extend(text::check(file));
        if Path::new(&file.path).extension().is_some_and(|extension| extension == "rs") {
            complaints.extend(source::check(file));
            for note in source::long(file) {
                println!("note: {note}: is there a second idea in it?");
            }
        }
    }
    complaints.extend(repository::check(&files));
    complaints.extend(guide::check(&files));
    complaints.extend(page::check(files.iter().map(|file| (&*file.path, &*file.text))));
    complaints.extend(parity::check(&files));
    let metadata = metadata()?;
    complaints.extend(manifests::check(&metadata)?);
    complaints.extend(layers::check(&files, &metadata));

    if complaints.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    Err(anyhow!("{} complaints", complaints.len()))
}

/// Returns cargo's view of the workspace, with every feature.
fn metadata() -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    Ok(command.current_dir(workspace::root()).features(CargoOpt::AllFeatures).exec()?)
}

#[cfg(test)]
fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}
