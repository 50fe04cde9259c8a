//! The memory of idle connections.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::{
    machine,
    servers::{Programs, Server, Tuning},
    value,
};
use crate::process::Running;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=11_000))]
    conns: u16,
}

/// Measures and prints the table.
pub(crate) fn run(arguments: &Arguments, servers: &[Server]) -> Result<()> {
    let programs = Programs::build()?;
    println!("{}\n", machine()?);
    println!(
        "Resident bytes of the process for each of {} connections, above the empty server.\n",
        arguments.conns
    );
    println!("| server | fresh | after an echo of 1 KiB | after an echo of 64 KiB |\n|---|---|---|---|");
    for &server in servers {
        let started = programs.start(server, Tuning::Memory)?;
        let mut command = programs.load_generator(&started);
        command.args(["--idle", &arguments.conns.to_string(), "--size", "1024", "--size", "65536"]);
        let name = format!("the load generator for {}", server.name());
        let lines = Running::start(&name, &mut command)?.succeed(LIMIT)?;
        let states = ["state fresh ", "state after_1024 ", "state after_65536 "];
        let figures = states.map(|state| {
            let line = lines.iter().find(|line| line.starts_with(state)).context("a state is missing")?;
            value(line, "rss_per_connection")
        });
        let [fresh, small, large] = figures;
        println!("| {} | {} | {} | {} |", server.name(), fresh?, small?, large?);
    }
    Ok(())
}

/// Ten thousand handshakes and twenty thousand echoes take a few seconds.
const LIMIT: Duration = Duration::from_secs(120);
