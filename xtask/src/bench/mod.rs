//! The benchmarks: echo servers of longwire and of its peers, driven over loopback in turn, and longwire's own parts.
//!
//! Servers and load are separate programs: nothing is measured in this process. The peers and the load generator are
//! in the workspace `benches`, which keeps their dependencies out of ours.

mod axum;
mod broadcast;
mod cells;
mod deflate;
mod dependencies;
mod idle;
mod instructions;
mod load;
mod servers;
mod table;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use xshell::cmd;

use crate::{setup::Install, workspace::shell};
use servers::Server;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    load: load::Extent,
    /// The servers to measure. Default: longwire and its peers.
    #[arg(long, value_name = "A,B", value_delimiter = ',', global = true)]
    servers: Vec<Server>,
}

#[derive(Subcommand)]
enum Part {
    /// Measures the memory of idle connections.
    Idle(idle::Arguments),
    /// Measures compression: CPU time, bytes on the wire, memory, and broadcasts.
    Deflate(deflate::Arguments),
    /// Measures echoes through axum: longwire's, compared with its own server and with axum's own WebSocket.
    Axum(axum::Arguments),
    /// Measures broadcasts to many clients, and with one that never reads.
    Broadcast(broadcast::Arguments),
    /// Builds programs with one dependency: the number of crates, and the time of a clean release build.
    Dependencies(dependencies::Arguments),
    /// Counts the instructions that a server's own code takes for a message (with valgrind).
    Instructions,
    /// Runs the microbenchmarks: frames, compression, fan-out.
    Micro,
}

/// Runs the load, or the requested part.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let servers = if arguments.servers.is_empty() { &Server::COMPARED[..] } else { &arguments.servers };
    match &arguments.part {
        None => load::run(&arguments.load, servers),
        Some(Part::Idle(arguments)) => idle::run(arguments, servers),
        Some(Part::Deflate(arguments)) => deflate::run(arguments, install),
        Some(Part::Axum(arguments)) => axum::run(arguments),
        Some(Part::Broadcast(arguments)) => broadcast::run(arguments, install),
        Some(Part::Dependencies(arguments)) => dependencies::run(arguments),
        Some(Part::Instructions) => instructions::run(servers),
        Some(Part::Micro) => {
            let packages = ["longwire-frame", "longwire-deflate", "longwire-protocol"];
            packages.iter().try_for_each(|package| {
                // `cargo bench` turns a library's unit tests into a benchmark that takes no arguments and finds
                // nothing to run.
                let sh = shell()?;
                Ok(cmd!(sh, "cargo bench --package {package} --all-features --benches").run()?)
            })
        }
    }
}

/// Returns a line that describes the machine.
fn machine() -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sh = shell()?;
    let kernel = cmd!(sh, "uname -sr").read()?;
    let compiler = cmd!(sh, "rustc --version").read()?;
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    Ok(format!("{model}, {cores} cores, {kernel}, {compiler}; load average before: {load}"))
}

/// Returns the value of a word in a line of alternating words and values, as the load generator prints it.
fn value(line: &str, word: &str) -> Result<f64> {
    let mut words = line.split_whitespace();
    words
        .find(|candidate| *candidate == word)
        .and_then(|_| words.next())
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("the load generator printed no {word}: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_the_word_before_it() {
        let line = "messages 12 seconds 1.5";
        assert_eq!(value(line, "seconds").ok(), Some(1.5));
        assert!(value(line, "cpu").is_err() && value("seconds", "seconds").is_err());
    }

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        crate::Arguments::command().debug_assert();
    }
}
