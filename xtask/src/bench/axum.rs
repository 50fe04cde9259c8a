//! The cost of axum: longwire's echo under its own server and under axum, compared with axum's own WebSocket.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use super::{
    cells::Cell,
    machine,
    servers::{Programs, Started},
    table::median,
    value,
};
use crate::process::{PATIENCE, Running};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Rounds. Each measures every server in every cell.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The time for which each server is measured in each cell of a round.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
}

/// An echo server on tokio's default runtime, which has one thread because it gets one core.
#[derive(Clone, Copy)]
enum Server {
    Standalone,
    OnAxum,
    AxumsOwn,
    AxumsOwnTuned,
}

impl Server {
    const ALL: [Self; 4] = [Self::Standalone, Self::OnAxum, Self::AxumsOwn, Self::AxumsOwnTuned];

    fn name(self) -> &'static str {
        match self {
            Self::Standalone => "longwire, own server",
            Self::OnAxum => "longwire on axum",
            Self::AxumsOwn => "axum's own",
            Self::AxumsOwnTuned => "axum's own, tuned",
        }
    }

    fn start(self, programs: &Programs) -> Result<Started> {
        let program = match self {
            Self::Standalone => programs.ours("examples/echo"),
            Self::OnAxum => programs.ours("examples/axum_echo"),
            Self::AxumsOwn | Self::AxumsOwnTuned => programs.peers("axum_ws"),
        };
        let mut command = Command::new(program);
        if matches!(self, Self::AxumsOwnTuned) {
            command.args(["--batch", "32"]);
        }
        Programs::start_other(self.name(), &command)
    }
}

/// Measures and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::build()?;
    println!("{}; {} rounds of {} s\n", machine()?, arguments.rounds, arguments.seconds);
    println!("CPU time of the server for an echoed message, in µs; medians.\n");
    let names: Vec<_> = Server::ALL.iter().map(|server| format!(" {} |", server.name())).collect();
    println!(
        "| cell |{} on axum / own server | on axum / axum's own | on axum / tuned |\n|---|{}---|---|---|",
        names.concat(),
        "---|".repeat(names.len())
    );
    let mut logarithms = [0.0; 3];
    for cell in CELLS {
        let mut samples = [const { Vec::new() }; Server::ALL.len()];
        for round in 0..usize::from(arguments.rounds) {
            eprintln!("round {} of {}: {cell}", round + 1, arguments.rounds);
            for turn in 0..Server::ALL.len() {
                // The first server has the colder caches, so it is not always the same one.
                let server = (turn + round) % Server::ALL.len();
                samples[server].push(measure(&programs, Server::ALL[server], cell, arguments.seconds)?);
            }
        }
        let [standalone, on_axum, own, tuned] = samples.map(|samples| median(samples).unwrap_or(f64::NAN));
        let ratios = [on_axum / standalone, on_axum / own, on_axum / tuned];
        for (sum, ratio) in logarithms.iter_mut().zip(ratios) {
            *sum += ratio.ln();
        }
        let [to_standalone, to_own, to_tuned] = ratios;
        println!(
            "| {cell} | {standalone:.2} | {on_axum:.2} | {own:.2} | {tuned:.2} | {to_standalone:.2} | {to_own:.2} | {to_tuned:.2} |"
        );
    }
    let cells = f64::from(u32::try_from(CELLS.len()).unwrap_or(u32::MAX));
    let [to_standalone, to_own, to_tuned] = logarithms.map(|sum| (sum / cells).exp());
    println!("| geometric mean | | | | | {to_standalone:.2} | {to_own:.2} | {to_tuned:.2} |");
    Ok(())
}

/// Returns the CPU time per message, in microseconds.
fn measure(programs: &Programs, server: Server, cell: Cell, seconds: f64) -> Result<f64> {
    let started = server.start(programs)?;
    let mut command = programs.load("loadgen", &started);
    command.args(cell.arguments()).arg("--seconds").arg(seconds.to_string());
    let lines = Running::start("the load generator", &mut command)?.succeed(PATIENCE)?;
    value(lines.first().context("the load generator printed nothing")?, "cpu_us_per_message")
}

const CELLS: [Cell; 6] = [
    Cell { size: 16, conns: 16, depth: 1 },
    Cell { size: 1024, conns: 16, depth: 1 },
    Cell { size: 64 * 1024, conns: 16, depth: 1 },
    Cell { size: 16, conns: 16, depth: 16 },
    Cell { size: 1024, conns: 16, depth: 16 },
    Cell { size: 64 * 1024, conns: 16, depth: 16 },
];
