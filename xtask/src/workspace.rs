//! Locations: the root of the workspace, its files, and the writable directories.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cargo_metadata::{MetadataCommand, Package};
use xshell::{Shell, cmd};

/// Returns the directory of the root manifest.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the root of the workspace").to_owned()
}

/// Returns a shell in the root of the workspace.
pub(crate) fn shell() -> Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    Ok(sh)
}

/// Returns the directory of the tools installed for the checks; it is not in version control.
pub(crate) fn tools() -> PathBuf {
    root().join(".tools")
}

/// Returns the directory of the scripts that test longwire with other implementations.
pub(crate) fn interop() -> PathBuf {
    root().join("interop")
}

/// Returns the directory of the guide, with its configuration files.
pub fn guide() -> PathBuf {
    root().join("docs/guide")
}

/// Returns the directory that cargo builds into, which also contains this program.
pub fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find this program")?;
    // target/PROFILE/xtask, or target/PROFILE/deps/TEST.
    let mut directories = program.ancestors().skip(1).skip_while(|directory| directory.ends_with("deps"));
    let target = directories.nth(1).context("this program lies in no target directory")?;
    Ok(target.to_owned())
}

/// Creates an empty directory for results.
pub(crate) fn empty_directory(path: &Path) -> Result<()> {
    if path.exists() {
        fs_err::remove_dir_all(path)?;
    }
    Ok(fs_err::create_dir_all(path)?)
}

/// Returns the packages of the workspace that are published.
pub(crate) fn published() -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec()?;
    // An empty list of registries is `publish = false`.
    Ok(metadata.packages.into_iter().filter(|package| package.publish.is_none()).collect())
}

/// Returns the paths, from the root, of all files that are in version control or about to be.
pub(crate) fn files() -> Result<Vec<String>> {
    let sh = shell()?;
    let listed = cmd!(sh, "git ls-files --cached --others --exclude-standard").read()?;
    // A removed file stays listed until the removal is committed.
    let mut files: Vec<_> =
        listed.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}
