//! The comparison: every server under the same load, in turn within each round, so that a disturbance affects the
//! whole round.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    cells::Cell,
    machine,
    servers::{Programs, Server, Tuning},
    table::{Results, Sample},
    value,
};
use crate::process::{PATIENCE, Running};

#[derive(Args)]
pub(crate) struct Extent {
    /// One short round of a few cells.
    #[arg(long)]
    quick: bool,
    /// Rounds. Each measures every server in every cell.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The time for which each server is measured in each cell of a round.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// Only cells with one of these texts in their names, such as `16 B,` or `depth 16`.
    #[arg(long, value_name = "TEXT")]
    cells: Vec<String>,
}

/// Measures and prints the table.
pub(crate) fn run(extent: &Extent, servers: &[Server]) -> Result<()> {
    let programs = Programs::build()?;
    let machine = machine()?;
    let (rounds, seconds) = if extent.quick { (1, 0.3) } else { (extent.rounds, extent.seconds) };
    let wanted = |cell: &Cell| {
        let name = cell.to_string();
        (!extent.quick || cell.is_quick())
            && (extent.cells.is_empty() || extent.cells.iter().any(|text| name.contains(text)))
    };
    let (cells, skipped) = Cell::all();
    let cells: Vec<_> = cells.into_iter().filter(wanted).collect();
    ensure!(!cells.is_empty(), "no cell has such a name");

    let mut results = Results::new(cells.clone(), servers.to_vec());
    let mut failures = Vec::new();
    for round in 0..usize::from(rounds) {
        for (index, &cell) in cells.iter().enumerate() {
            eprintln!("round {} of {rounds}: {cell}", round + 1);
            results.begin_round(index);
            for turn in 0..servers.len() {
                // The first server has the colder caches, so it is not always the same one.
                let server = (turn + round + index) % servers.len();
                match measure(&programs, servers[server], cell, seconds) {
                    Ok(sample) => results.add(index, server, sample),
                    Err(reason) => failures.push(format!("{cell}: {reason:#}")),
                }
            }
        }
    }

    println!("{machine}; {rounds} rounds of {seconds} s\n");
    print!("{}", results.markdown());
    for cell in skipped {
        println!("Skipped, as more than 256 MiB would be in flight: {cell}.");
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn measure(programs: &Programs, server: Server, cell: Cell, seconds: f64) -> Result<Sample> {
    let started = programs.start(server, Tuning::Speed { depth: cell.depth })?;
    let mut command = programs.load_generator(&started);
    command.args(cell.arguments()).arg("--seconds").arg(seconds.to_string());
    let name = format!("the load generator for {}", server.name());
    let lines = Running::start(&name, &mut command)?.succeed(PATIENCE + Duration::from_secs_f64(seconds))?;
    let line = lines.first().context("the load generator printed nothing")?;
    Ok(Sample { cpu_us: value(line, "cpu_us_per_message")?, rate: value(line, "messages_per_second")? })
}
