//! The cost of axum: longwire's echo under its own server and under axum, compared with axum's own WebSocket.

use std::{fmt::Write, process::Command};

use anyhow::{Context, Result};
use clap::Args;

use super::{
    cells::Cell,
    data::Data,
    servers::{Programs, Started},
    table::{geometric_mean, ratio_shown},
    value,
};
use crate::process::{PATIENCE, Running};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Rounds. Each measures every server in every cell.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// The time for which each server is measured in each cell of a round.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub(crate) seconds: f64,
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

/// Measures every server in every cell.
pub(crate) fn measure(arguments: &Arguments) -> Result<Data> {
    let programs = Programs::build()?;
    let Arguments { rounds, seconds } = *arguments;
    let mut data = Data::begin([("rounds", rounds.into()), ("seconds", seconds)])?;
    for cell in CELLS {
        for round in 0..usize::from(rounds) {
            eprintln!("round {} of {rounds}: {cell}", round + 1);
            for turn in 0..Server::ALL.len() {
                // The first server has the colder caches, so it is not always the same one.
                let server = Server::ALL[(turn + round) % Server::ALL.len()];
                let cpu_us = measure_one(&programs, server, cell, seconds)?;
                data.add((TABLE, &cell.to_string(), server.name()), round, [("cpu_us", cpu_us)]);
            }
        }
    }
    Ok(data)
}

/// Returns the CPU time per message, in microseconds.
fn measure_one(programs: &Programs, server: Server, cell: Cell, seconds: f64) -> Result<f64> {
    let started = server.start(programs)?;
    let mut command = programs.load("loadgen", &started);
    command.args(cell.arguments()).arg("--seconds").arg(seconds.to_string());
    let lines = Running::start("the load generator", &mut command)?.succeed(PATIENCE)?;
    value(lines.first().context("the load generator printed nothing")?, "cpu_us_per_message")
}

/// Returns the table.
pub(crate) fn tables(data: &Data) -> Vec<(&'static str, String)> {
    let (rounds, seconds) = (data.setting("rounds"), data.setting("seconds"));
    let mut out = format!(
        "CPU time of the server for an echoed message, in µs; medians of {rounds} rounds of {seconds} s.\n\n"
    );
    let names: Vec<_> = Server::ALL.iter().map(|server| format!(" {} |", server.name())).collect();
    let _ = writeln!(
        out,
        "| cell |{} on axum / own server | on axum / axum's own | on axum / tuned |\n|---|{}---|---|---|",
        names.concat(),
        "---|".repeat(names.len())
    );
    let rows = data.rows(TABLE);
    let median = |row: &str, server: Server| data.median((TABLE, row, server.name()), "cpu_us");
    let ratio = |row: &str, to: Server| Some(median(row, Server::OnAxum)? / median(row, to)?);
    for row in &rows {
        let figures: Vec<_> = Server::ALL
            .iter()
            .map(|&server| median(row, server).map_or("–".to_owned(), |figure| format!("{figure:.2}")))
            .collect();
        let ratios = OTHERS.map(|to| ratio_shown(ratio(row, to)));
        let _ = writeln!(out, "| {row} | {} | {} |", figures.join(" | "), ratios.join(" | "));
    }
    let means = OTHERS.map(|to| ratio_shown(geometric_mean(rows.iter().filter_map(|row| ratio(row, to)))));
    let _ = writeln!(out, "| geometric mean | | | | | {} |", means.join(" | "));
    vec![("axum", out)]
}

const TABLE: &str = "axum";

/// The servers that longwire on axum is compared with.
const OTHERS: [Server; 3] = [Server::Standalone, Server::AxumsOwn, Server::AxumsOwnTuned];

const CELLS: [Cell; 6] = [
    Cell { size: 16, conns: 16, depth: 1 },
    Cell { size: 1024, conns: 16, depth: 1 },
    Cell { size: 64 * 1024, conns: 16, depth: 1 },
    Cell { size: 16, conns: 16, depth: 16 },
    Cell { size: 1024, conns: 16, depth: 16 },
    Cell { size: 64 * 1024, conns: 16, depth: 16 },
];
