//! The comparison: every server under the same load, in turn within each round, so that a disturbance affects the
//! whole round.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    cells::Cell,
    data::Data,
    servers::{Programs, Server, Tuning},
    table, value,
};
use crate::process::{PATIENCE, Running};

#[derive(Args)]
pub(crate) struct Extent {
    /// One short round of a few cells.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds. Each measures every server in every cell.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// The time for which each server is measured in each cell of a round.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Only cells with one of these texts in their names, such as `16 B,` or `depth 16`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) cells: Vec<String>,
}

/// Measures every server in every cell.
pub(crate) fn measure(extent: &Extent, servers: &[Server]) -> Result<Data> {
    let programs = Programs::build()?;
    let (rounds, seconds) =
        if extent.quick { (1, extent.seconds.min(0.3)) } else { (extent.rounds, extent.seconds) };
    let wanted = |cell: &Cell| {
        let name = cell.to_string();
        (!extent.quick || cell.is_quick())
            && (extent.cells.is_empty() || extent.cells.iter().any(|text| name.contains(text)))
    };
    let cells: Vec<_> = Cell::all().0.into_iter().filter(wanted).collect();
    ensure!(!cells.is_empty(), "no cell has such a name");

    let mut data = Data::begin([("rounds", rounds.into()), ("seconds", seconds)])?;
    for round in 0..usize::from(rounds) {
        for (index, &cell) in cells.iter().enumerate() {
            eprintln!("round {} of {rounds}: {cell}", round + 1);
            for turn in 0..servers.len() {
                // The first server has the colder caches, so it is not always the same one.
                let server = servers[(turn + round + index) % servers.len()];
                match measure_one(&programs, server, cell, seconds) {
                    Ok(figures) => {
                        data.add((table::ECHO, &cell.to_string(), server.name()), round, figures);
                    }
                    Err(reason) => data.failures.push(format!("{cell}: {reason:#}")),
                }
            }
        }
    }
    Ok(data)
}

fn measure_one(
    programs: &Programs,
    server: Server,
    cell: Cell,
    seconds: f64,
) -> Result<[(&'static str, f64); 2]> {
    let started = programs.start(server, Tuning::Speed { depth: cell.depth })?;
    let mut command = programs.load_generator(&started);
    command.args(cell.arguments()).arg("--seconds").arg(seconds.to_string());
    let name = format!("the load generator for {}", server.name());
    let lines = Running::start(&name, &mut command)?.succeed(PATIENCE + Duration::from_secs_f64(seconds))?;
    let line = lines.first().context("the load generator printed nothing")?;
    Ok([("cpu_us", value(line, "cpu_us_per_message")?), ("rate", value(line, "messages_per_second")?)])
}
