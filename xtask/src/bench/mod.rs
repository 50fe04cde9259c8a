//! The benchmarks: echo servers of longwire and of its peers, driven over loopback in turn, and longwire's own parts.
//!
//! Servers and load are separate programs: nothing is measured in this process. The peers and the load generator are
//! in the workspace `benches`, which keeps their dependencies out of ours.

mod axum;
mod broadcast;
mod cells;
mod cluster;
mod cores;
mod data;
mod deflate;
mod dependencies;
mod idle;
mod instructions;
mod load;
pub(crate) mod page;
mod plot;
mod quiet;
mod report;
mod servers;
mod table;

use anyhow::{Context, Result, ensure};
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
    /// Runs all parts, keeps their figures, and makes the tables and plots of docs/benchmarks.md from them.
    Report(report::Arguments),
    /// Measures servers with several threads, compared with themselves on one.
    Cores(cores::Arguments),
    /// Measures the memory of idle connections.
    Idle(idle::Arguments),
    /// Measures compression: CPU time, bytes on the wire, memory, and broadcasts.
    Deflate(deflate::Arguments),
    /// Measures echoes through axum: longwire's, compared with its own server and with axum's own WebSocket.
    Axum(axum::Arguments),
    /// Measures broadcasts to many clients, and with one that never reads.
    Broadcast(broadcast::Arguments),
    /// Measures rooms over two nodes with a broker, compared with Socket.IO and with the usual recipe.
    Cluster(cluster::Arguments),
    /// Builds programs with one dependency: the number of crates, and the time of a clean release build.
    Dependencies(dependencies::Arguments),
    /// Counts the instructions that a server's own code takes for a message (with valgrind).
    Instructions(instructions::Arguments),
    /// Runs the microbenchmarks: frames, compression, fan-out.
    Micro,
}

/// Runs the load, or the requested part.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let servers = if arguments.servers.is_empty() { &Server::COMPARED[..] } else { &arguments.servers };
    match &arguments.part {
        None => show(report::Part::Echo, &load::measure(&arguments.load, servers)?),
        Some(Part::Report(arguments)) => report::run(arguments, install),
        Some(Part::Cores(arguments)) => show(report::Part::Cores, &cores::measure(arguments)?),
        Some(Part::Idle(arguments)) => show(report::Part::Memory, &idle::measure(arguments, servers)?),
        Some(Part::Deflate(arguments)) => show(report::Part::Deflate, &deflate::measure(arguments, install)?),
        Some(Part::Axum(arguments)) => show(report::Part::Axum, &axum::measure(arguments)?),
        Some(Part::Broadcast(arguments)) => {
            show(report::Part::Broadcast, &broadcast::measure(arguments, install)?)
        }
        Some(Part::Cluster(arguments)) => {
            let data = cluster::measure(arguments, install)?;
            println!("{}.", data.about.line());
            for (_, table) in cluster::tables(&data) {
                println!("\n{}", table.trim_end());
            }
            Ok(())
        }
        Some(Part::Dependencies(arguments)) => {
            show(report::Part::Dependencies, &dependencies::measure(arguments)?)
        }
        Some(Part::Instructions(arguments)) => {
            show(report::Part::Instructions, &instructions::measure(arguments, servers)?)
        }
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

/// Prints the tables of a part.
fn show(part: report::Part, data: &data::Data) -> Result<()> {
    println!("{}.", data.about.line());
    for (_, table) in part.tables(data) {
        println!("\n{}", table.trim_end());
    }
    ensure!(data.failures.is_empty(), "{}", data.failures.join("\n"));
    Ok(())
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
