//! The programs of README.md, as a reader pastes them: with the dependencies that it names, and with clients as they
//! are.
//!
//! Only the address is replaced, by the first argument, so that the programs can run on ports that are free.

use std::{net::TcpStream, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use crate::{
    process::Running,
    workspace::{self, shell},
};

use super::{
    Peers,
    pages::{free_port, wait_until, written},
};

/// The programs, in the order of README.md.
const NAMES: [&str; 4] = ["server", "client", "rooms", "mounted"];

/// The servers of README.md.
pub(crate) struct Servers {
    running: Vec<(&'static str, Running, String)>,
    client: PathBuf,
}

/// Checks that the servers exchange messages with Node's `ws`, undici and `wscat`, and with the client of README.md.
pub(super) fn run(peers: &Peers) -> Result<()> {
    let servers = Servers::start()?;
    let url = servers.url("server");
    let client = Running::start("README's client", Command::new(&servers.client).arg(address(url)?))?;
    client.wait_for("the welcome", |line| (line == "welcome").then_some(()))?;
    for peer in ["ws", "undici"] {
        let mut node = peers.node.script("client.js");
        node.args([peer, "readme"]).args(servers.urls());
        let lines = Running::start(peer, &mut node)?.succeed(LIMIT)?.join(" ");
        println!("README's servers with {peer}: {lines}");
        client.wait_for("what others say", |line| (line == "hello from one").then_some(()))?;
    }
    println!("README's client with README's server: the welcome, and what others say");
    for (url, expected) in servers.urls().iter().zip(["welcome", "Ada: hello", "hello"]) {
        let mut wscat = peers.node.program("wscat/bin/wscat");
        wscat.args(["--connect", url, "--execute", "hello", "--wait", "1"]);
        let ended = Running::start("wscat", &mut wscat)?.finish_with_open_stdin(LIMIT)?;
        ensure!(
            ended.lines.iter().any(|line| line.ends_with(expected)),
            "wscat with {url}: {expected:?} was expected, and it printed {:?}; {}",
            ended.lines,
            ended.stderr
        );
    }
    println!("README's servers with wscat: answered");
    Ok(())
}

impl Servers {
    /// Builds the programs, and starts those that are servers.
    pub(crate) fn start() -> Result<Self> {
        let directory = build()?;
        let mut running = Vec::new();
        for (name, path) in [("server", "/"), ("rooms", "/rooms/lobby?token=secret"), ("mounted", "/chat")] {
            let address = format!("127.0.0.1:{}", free_port()?);
            let program = format!("README's {name}");
            let mut server = Running::start(&program, Command::new(directory.join(name)).arg(&address))?;
            wait_until(&format!("{program} listens"), &mut server, || {
                Ok(TcpStream::connect(&address).is_ok())
            })?;
            running.push((name, server, format!("ws://{address}{path}")));
        }
        Ok(Self { running, client: directory.join("client") })
    }

    /// Returns the URLs of all three.
    pub(crate) fn urls(&self) -> Vec<&str> {
        self.running.iter().map(|(.., url)| url.as_str()).collect()
    }

    fn url(&self, name: &str) -> &str {
        self.running.iter().find(|(one, ..)| *one == name).map_or("", |(.., url)| url)
    }
}

/// Returns the `HOST:PORT` of a URL without a path.
fn address(url: &str) -> Result<&str> {
    url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).context("no URL of a server")
}

/// Builds the programs, and returns their directory.
fn build() -> Result<PathBuf> {
    let readme = fs_err::read_to_string(workspace::root().join("README.md"))?;
    let programs = blocks(&readme, "rust,no_run");
    ensure!(programs.len() == NAMES.len(), "README.md has {} programs, not {}", programs.len(), NAMES.len());
    let dependencies = blocks(&readme, "toml").first().copied().context("README.md names no dependencies")?;
    let (directory, target) = (workspace::target()?.join("readme"), workspace::target()?);
    let sources = directory.join("src/bin");
    // The package stays, so that an unchanged program is not built again.
    fs_err::create_dir_all(&sources)?;
    written(&directory, "Cargo.toml", &manifest(dependencies)?)?;
    fs_err::copy(workspace::root().join("Cargo.lock"), directory.join("Cargo.lock"))?;
    for (name, program) in NAMES.iter().zip(programs) {
        written(&sources, &format!("{name}.rs"), &with_argument(program)?)?;
    }
    let sh = shell()?;
    sh.change_dir(&directory);
    cmd!(sh, "cargo build --bins").env("CARGO_TARGET_DIR", &target).run()?;
    Ok(target.join("debug"))
}

/// Returns the manifest of a package with these dependencies, with longwire from this workspace.
fn manifest(dependencies: &str) -> Result<String> {
    let longwire = format!("path = \"{}\"", workspace::root().join("crates/longwire").display());
    let mut manifest = dependencies.to_owned();
    for (from, to) in [
        ("git = \"https://github.com/longwire/longwire\"", longwire.as_str()),
        (" # after the first release: \"0.1\"", ""),
        // What README.md adds for axum. Two packages would have most crates compiled twice.
        (" }\n", ", features = [\"axum\"] }\naxum = \"0.8\"\n"),
        ("\"rt-multi-thread\"]", "\"rt-multi-thread\", \"net\"]"),
    ] {
        ensure!(manifest.contains(from), "the dependencies of README.md do not contain {from:?}");
        manifest = manifest.replacen(from, to, 1);
    }
    let head = "[package]\nname = \"readme\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n";
    Ok(head.to_owned() + &manifest)
}

/// Returns a program that takes the address from its first argument.
fn with_argument(program: &str) -> Result<String> {
    let argument = "&*std::env::args().nth(1).unwrap()";
    let program = program
        .replace("\"127.0.0.1:8080\"", argument)
        .replace("\"ws://127.0.0.1:8080\"", &format!("&*format!(\"ws://{{}}\", {argument})"));
    ensure!(program.contains(argument), "a program of README.md uses another address than 127.0.0.1:8080");
    Ok(program)
}

/// Returns the code blocks in a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    let starts = text.split(&fence).skip(1);
    starts.filter_map(|rest| rest.split_once("```").map(|(block, _)| block)).collect()
}

const LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart_by_their_language() {
        let text = "a\n```toml\nb = 1\n```\nc\n```rust\nd\n```\n```toml\ne = 2\n```";
        assert_eq!(blocks(text, "toml"), ["b = 1\n", "e = 2\n"]);
        assert_eq!(blocks(text, "rust"), ["d\n"]);
    }

    #[test]
    fn the_address_becomes_an_argument() {
        let program = "connect(\"ws://127.0.0.1:8080\"); bind(\"127.0.0.1:8080\");";
        let argument = "&*std::env::args().nth(1).unwrap()";
        let expected = format!("connect(&*format!(\"ws://{{}}\", {argument})); bind({argument});");
        assert_eq!(with_argument(program).unwrap(), expected);
        assert!(with_argument("bind(\"0.0.0.0:80\")").is_err());
    }

    #[test]
    fn dependencies_that_changed_are_noticed() {
        let now = "[dependencies]\nlongwire = { git = \"https://github.com/longwire/longwire\" } # after the first release: \
                   \"0.1\"\ntokio = { version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }\n";
        let manifest = manifest(now).unwrap();
        assert!(manifest.contains("features = [\"axum\"] }\naxum = \"0.8\"\n"), "{manifest}");
        assert!(manifest.contains("features = [\"macros\", \"rt-multi-thread\", \"net\"] }"), "{manifest}");
        assert!(self::manifest("[dependencies]\nlongwire = \"1\"\n").is_err());
    }

    #[test]
    fn addresses_are_cut_from_urls() {
        assert_eq!(address("ws://127.0.0.1:80/rooms").unwrap(), "127.0.0.1:80");
        assert!(address("http://127.0.0.1").is_err());
    }
}
