//! The cost of compiling for a user: the number of crates, and the time of a clean release build, compared with
//! tokio-tungstenite for the same purpose.
//!
//! Each row is a small working program that includes everything its dependencies leave to the user: the `futures`
//! traits, a provider of cryptography, a deadline for the handshake. It is built on its own, in its own target
//! directory.

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Deserializer, Value};
use xshell::cmd;

use super::data::{Data, Record};
use crate::workspace::{self, shell};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The number of builds of each; the fastest counts.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Only the first program.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// A program, described by its needs.
struct Program {
    name: &'static str,
    /// Its purpose: programs with the same purpose are compared.
    purpose: &'static str,
    /// The dependencies, as lines of a manifest; `{root}` is the path of longwire.
    dependencies: &'static str,
    source: &'static str,
}

const PROGRAMS: [Program; 8] = [
    Program {
        name: "longwire",
        purpose: "client, without TLS",
        dependencies: r#"
            longwire = { path = "{root}/crates/longwire", default-features = false, features = ["client"] }
            tokio = { version = "1", features = ["macros", "rt"] }"#,
        source: CLIENT,
    },
    Program {
        name: "tokio-tungstenite",
        purpose: "client, without TLS",
        dependencies: r#"
            futures-util = { version = "0.3", default-features = false, features = ["sink"] }
            tokio = { version = "1", features = ["macros", "rt", "time"] }
            tokio-tungstenite = "0.30""#,
        source: TUNGSTENITE_CLIENT,
    },
    Program {
        name: "longwire",
        purpose: "client, with TLS",
        dependencies: r#"
            longwire = { path = "{root}/crates/longwire", default-features = false, features = ["client", "rustls"] }
            tokio = { version = "1", features = ["macros", "rt"] }"#,
        source: CLIENT,
    },
    Program {
        name: "tokio-tungstenite",
        purpose: "client, with TLS",
        // It panics without a provider of cryptography.
        dependencies: r#"
            futures-util = { version = "0.3", default-features = false, features = ["sink"] }
            rustls = { version = "0.23", default-features = false, features = ["ring"] }
            tokio = { version = "1", features = ["macros", "rt", "time"] }
            tokio-tungstenite = { version = "0.30", features = ["rustls-tls-native-roots"] }"#,
        source: TUNGSTENITE_CLIENT,
    },
    Program {
        name: "longwire",
        purpose: "client and server, with TLS",
        dependencies: r#"
            longwire = { path = "{root}/crates/longwire", default-features = false, features = ["client", "server", "rustls"] }
            tokio = { version = "1", features = ["macros", "rt"] }"#,
        source: SERVER,
    },
    Program {
        name: "tokio-tungstenite",
        purpose: "client and server, with TLS",
        dependencies: r#"
            futures-util = { version = "0.3", default-features = false, features = ["sink"] }
            rustls = { version = "0.23", default-features = false, features = ["ring"] }
            tokio = { version = "1", features = ["macros", "net", "rt", "time"] }
            tokio-tungstenite = { version = "0.30", features = ["rustls-tls-native-roots"] }"#,
        source: TUNGSTENITE_SERVER,
    },
    Program {
        name: "longwire",
        purpose: "default: these and compression",
        dependencies: r#"
            longwire = { path = "{root}/crates/longwire" }
            tokio = { version = "1", features = ["macros", "rt"] }"#,
        source: SERVER,
    },
    Program {
        name: "longwire",
        purpose: "every feature",
        dependencies: r#"
            longwire = { path = "{root}/crates/longwire", features = ["webpki-roots", "axum", "http2", "tower", "metrics"] }
            tokio = { version = "1", features = ["macros", "rt"] }"#,
        source: SERVER,
    },
];

const CLIENT: &str = r#"
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut ws = longwire::connect("ws://127.0.0.1:9001").await?;
    ws.send("hello").await?;
    println!("{:?}", ws.recv().await?);
    Ok(ws.close(1000, "").await?)
}
"#;

const TUNGSTENITE_CLIENT: &str = r#"
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connecting = tokio_tungstenite::connect_async("ws://127.0.0.1:9001");
    let (mut ws, _) = timeout(Duration::from_secs(10), connecting).await??;
    ws.send("hello".into()).await?;
    println!("{:?}", ws.next().await);
    Ok(ws.close(None).await?)
}
"#;

const SERVER: &str = r#"
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = longwire::Server::bind("127.0.0.1:9001").await?;
    server
        .serve(|mut ws, _request| async move {
            while let Some(message) = ws.recv().await? {
                ws.send(message).await?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}
"#;

const TUNGSTENITE_SERVER: &str = r#"
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9001").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let accepting = tokio_tungstenite::accept_async(stream);
            let Ok(Ok(mut ws)) = timeout(Duration::from_secs(10), accepting).await else { return };
            while let Some(Ok(message)) = ws.next().await {
                if message.is_text() || message.is_binary() {
                    let _ = ws.send(message).await;
                }
            }
        });
    }
}
"#;

const MANIFEST: &str = r#"
[package]
name = "probe"
version = "0.0.0"
edition = "2024"

[[bin]]
name = "probe"
path = "main.rs"

[workspace]

[dependencies]
"#;

/// Builds all programs.
pub(crate) fn measure(arguments: &Arguments) -> Result<Data> {
    let mut data = Data::begin([("rounds", arguments.rounds.into())])?;
    let programs = if arguments.quick { &PROGRAMS[..1] } else { &PROGRAMS };
    for (number, program) in programs.iter().enumerate() {
        let directory = prepare(number, program)?;
        for round in 0..usize::from(arguments.rounds) {
            eprintln!("round {}: {}, {}", round + 1, program.purpose, program.name);
            let Built { crates, own, seconds, cpu } = build(&directory)?;
            #[allow(clippy::cast_precision_loss, reason = "a hundred")]
            let [crates, own] = [crates as f64, own as f64];
            let figures = [("crates", crates), ("own", own), ("seconds", seconds), ("cpu", cpu)];
            data.add((TABLE, program.purpose, program.name), round, figures);
        }
    }
    Ok(data)
}

/// Returns the table, with the fastest build of each.
pub(crate) fn tables(data: &Data) -> Vec<(&'static str, String)> {
    let mut out =
        "| for | library | crates compiled | of these, its own | clean release build, s | of CPU time, s |\n\
                   |---|---|---|---|---|---|\n"
            .to_owned();
    for row in data.rows(TABLE) {
        for server in data.servers(TABLE) {
            let cpu = |record: &&Record| record.figures.get("cpu").copied().unwrap_or(f64::INFINITY);
            let best = data.records((TABLE, row, server)).min_by(|a, b| cpu(a).total_cmp(&cpu(b)));
            let Some(best) = best else { continue };
            let [crates, own, seconds, cpu] = ["crates", "own", "seconds", "cpu"]
                .map(|figure| best.figures.get(figure).copied().unwrap_or(f64::NAN));
            let _ = writeln!(out, "| {row} | {server} | {crates} | {own} | {seconds:.1} | {cpu:.1} |");
        }
    }
    vec![("dependencies", out)]
}

const TABLE: &str = "dependencies";

/// Writes the program, and fetches its dependencies.
fn prepare(number: usize, program: &Program) -> Result<PathBuf> {
    let directory = workspace::target()?.join("dependencies").join(number.to_string());
    workspace::empty_directory(&directory)?;
    let root = workspace::root();
    let root = root.to_str().context("the path of the project is not UTF-8")?;
    let manifest = MANIFEST.to_owned() + &program.dependencies.replace("{root}", root) + "\n";
    fs_err::write(directory.join("Cargo.toml"), manifest)?;
    fs_err::write(directory.join("main.rs"), program.source)?;
    cargo(&directory, &["fetch"])?;
    Ok(directory)
}

/// Runs cargo in the directory of a program, and returns its standard output.
fn cargo(directory: &Path, arguments: &[&str]) -> Result<String> {
    let sh = shell()?;
    sh.change_dir(directory);
    let command = cmd!(sh, "cargo {arguments...}").env("CARGO_TARGET_DIR", directory.join("target"));
    // The project's flags and settings are not those of its users.
    Ok(command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").read()?)
}

struct Built {
    crates: usize,
    /// The number of them that belong to the library.
    own: usize,
    seconds: f64,
    cpu: f64,
}

fn build(directory: &Path) -> Result<Built> {
    workspace::empty_directory(&directory.join("target"))?;
    let (began, cpu) = (Instant::now(), children_cpu()?);
    let messages = cargo(directory, &["build", "--release", "--offline", "--message-format", "json"])?;
    let (crates, own) = crates(&messages)?;
    Ok(Built { crates, own, seconds: began.elapsed().as_secs_f64(), cpu: children_cpu()? - cpu })
}

/// Returns the number of packages in cargo's messages, not counting the program itself, and the number of those that
/// belong to the compared libraries.
fn crates(messages: &str) -> Result<(usize, usize)> {
    let mut packages = BTreeSet::new();
    for message in Deserializer::from_str(messages).into_iter::<Value>() {
        let message = message.context("cargo printed something other than messages")?;
        if message["reason"] == "compiler-artifact" {
            let id = message["package_id"].as_str().context("a message of cargo names no package")?;
            packages.insert(id.to_owned());
        }
    }
    let is_own =
        |id: &&String| id.rsplit('/').next().is_some_and(|name| OWN.iter().any(|own| name.contains(own)));
    let own = packages.iter().filter(is_own).count();
    let crates = packages.len().checked_sub(1).context("cargo compiled nothing")?;
    Ok((crates, own))
}

/// Parts of the names of the libraries' packages.
const OWN: [&str; 2] = ["longwire", "tungstenite"];

/// Returns the CPU time of processes that this one has waited for, in seconds.
fn children_cpu() -> Result<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat").context("needs Linux")?;
    let ticks = children_ticks(&stat).context("/proc/self/stat has another form")?;
    // The kernel's unit for user space, on every architecture that Rust supports.
    Ok(f64::from(ticks) / 100.0)
}

/// Sums `cutime` and `cstime`, the 16th and 17th field; the second may contain spaces, in parentheses.
fn children_ticks(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(13);
    let mut next = || fields.next()?.parse::<u32>().ok();
    next()?.checked_add(next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_counted_once_and_without_the_program() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"index#a@1","target":{}}
{"reason":"compiler-artifact","package_id":"index#a@1","target":{"kind":["custom-build"]}}
{"reason":"build-script-executed","package_id":"index#c@1"}
{"reason":"compiler-artifact","package_id":"index#tungstenite@1","target":{}}
{"reason":"compiler-artifact","package_id":"path+file:///longwire/crates/longwire-frame#0.1.0","target":{}}
{"reason":"compiler-artifact","package_id":"path+file:///longwire/probe#0","target":{}}"#;
        assert_eq!(crates(messages).unwrap(), (3, 2));
        assert!(crates("").is_err());
    }

    #[test]
    fn the_time_of_children_stands_behind_a_name_with_anything_in_it() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 30 12 20 0 1";
        assert_eq!(children_ticks(stat), Some(42));
        assert_eq!(children_ticks("7 (x) S 1"), None);
    }
}
