//! Locations: the root of the workspace, its files, and the writable directories.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Outcome, process};

/// Returns the directory of the root manifest.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the root of the workspace").to_owned()
}

/// Returns the directory of the tools installed for the checks; it is not in version control.
pub(crate) fn tools() -> PathBuf {
    root().join(".tools")
}

/// Returns the directory of the scripts that test longwire with other implementations.
pub(crate) fn interop() -> PathBuf {
    root().join("interop")
}

/// Returns the directory that cargo builds into, which also contains this program.
pub(crate) fn target() -> Outcome<PathBuf> {
    let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    // target/PROFILE/xtask; its tests are one directory deeper, and do not call this.
    let target = program.ancestors().nth(2).ok_or("this program lies in no target directory")?;
    Ok(target.to_owned())
}

/// Creates an empty directory for results.
pub(crate) fn empty_directory(path: &Path) -> Outcome {
    if path.exists() {
        fs::remove_dir_all(path).map_err(|error| format!("cannot empty {}: {error}", path.display()))?;
    }
    fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Returns the paths, from the root, of all files that are in version control or about to be.
pub(crate) fn files() -> Outcome<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = process::output(&mut git)?;
    // A removed file stays listed until the removal is committed.
    let mut files: Vec<_> =
        listed.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}
