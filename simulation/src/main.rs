//! Runs the worlds of some seeds: `simulation [cluster] FROM COUNT`.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::thread::available_parallelism;

use simulation::{World, run_all};

fn main() -> ExitCode {
    let world = if std::env::args().any(|it| it == "cluster") { World::Cluster } else { World::Server };
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let &[from, count] = &numbers[..] else {
        eprintln!("usage: simulation [cluster] FROM COUNT");
        return ExitCode::FAILURE;
    };
    match run_all(world, from..from.saturating_add(count), available_parallelism().map_or(1, Into::into)) {
        Ok(report) => {
            let (clients, messages, hours) = (report.clients, report.messages, report.time.as_secs() / 3600);
            println!(
                "{count} seeds: {clients} clients, {messages} messages delivered, {hours} hours of virtual time"
            );
            ExitCode::SUCCESS
        }
        Err(seeds) => {
            eprintln!("{} of {count} seeds failed: {seeds:?}", seeds.len());
            ExitCode::FAILURE
        }
    }
}
