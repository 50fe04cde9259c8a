//! Broadcasts: the cost of a delivery for a server with many clients, and the effect of one client that never reads
//! on the rest.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use super::{
    machine,
    servers::{Programs, Started},
    table::median,
    value,
};
use crate::{
    process::Running,
    setup::{self, Install},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Clients that receive the broadcasts.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=11_000))]
    conns: u16,
    /// Rounds. Each measures every server.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The time for which each server is measured in a round.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// Payload bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(20..=1 << 24))]
    size: u32,
    /// Clients in addition to the one that never reads.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=11_000))]
    readers: u16,
    /// The total published while it does not read; with 1000 readers of 1 KiB each server takes 2 minutes for 16 MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    backlog: u32,
    /// The measurement to make. Default: all.
    #[arg(long, value_enum)]
    only: Option<Only>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Rate,
    Stalled,
}

/// A server that forwards each message to every other client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Longwire,
    TokioTungstenite,
    Ws,
}

impl Server {
    /// longwire comes first: the others are compared with it.
    const ALL: [Self; 3] = [Self::Longwire, Self::TokioTungstenite, Self::Ws];

    fn name(self) -> &'static str {
        match self {
            Self::Longwire => "longwire",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::Ws => "ws (Node)",
        }
    }
}

struct Bench {
    programs: Programs,
    node: setup::Node,
}

impl Bench {
    fn start(&self, server: Server) -> Result<Started> {
        let mut command = match server {
            Server::Longwire => Command::new(self.programs.ours("examples/broadcast")),
            Server::TokioTungstenite => Command::new(self.programs.peers("broadcast")),
            Server::Ws => self.node.script("broadcast_server.js"),
        };
        if server == Server::Longwire {
            command.args(["--threads", "1"]);
        }
        Programs::start_other(server.name(), &command)
    }

    /// Runs the load on a new server, and returns the lines that it prints.
    fn load(&self, server: Server, options: &[(&str, String)], flags: &[&str]) -> Result<Vec<String>> {
        let started = self.start(server)?;
        let mut command = self.programs.load("broadcast-load", &started);
        for (option, value) in options {
            command.arg(option).arg(value);
        }
        let name = format!("the load for {}", server.name());
        Running::start(&name, command.args(flags))?.succeed(LIMIT)
    }
}

/// Measures and prints the tables.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let bench = Bench { programs: Programs::build()?, node: setup::node(install)? };
    println!("{}\n", machine()?);
    if arguments.only != Some(Only::Stalled) {
        rate(&bench, arguments)?;
    }
    if arguments.only != Some(Only::Rate) {
        stalled(&bench, arguments)?;
    }
    Ok(())
}

fn rate(bench: &Bench, arguments: &Arguments) -> Result<()> {
    let Arguments { conns, rounds, seconds, size, .. } = arguments;
    println!(
        "Broadcasts of {size} B of text to {conns} clients, {seconds} s each, medians of {rounds} rounds. CPU time"
    );
    println!("is the server's for one delivery; a ratio above 1 means that longwire is better.\n");
    println!(
        "| in flight | server | deliveries/s | CPU, µs per delivery | outside the kernel, µs | server's core busy | \
         CPU / longwire's CPU | longwire's deliveries/s / its own |\n|---|---|---|---|---|---|---|---|"
    );
    for in_flight in IN_FLIGHT {
        let mut figures = [const { [const { Vec::new() }; FIGURES.len()] }; Server::ALL.len()];
        for round in 0..usize::from(*rounds) {
            for turn in 0..Server::ALL.len() {
                // The first server has the colder caches, so it is not always the same one.
                let index = (turn + round) % Server::ALL.len();
                let server = Server::ALL[index];
                eprintln!("round {} of {rounds}: {in_flight} in flight, {}", round + 1, server.name());
                let options = [
                    ("--conns", conns.to_string()),
                    ("--size", size.to_string()),
                    ("--seconds", seconds.to_string()),
                    ("--in-flight", in_flight.to_string()),
                ];
                let lines = bench.load(server, &options, &[])?;
                let line = lines.first().context("the load printed nothing")?;
                for (samples, word) in figures[index].iter_mut().zip(FIGURES) {
                    samples.push(value(line, word)?);
                }
            }
        }
        // Compared within a round, so that a disturbance affects both.
        let [ours, ..] = &figures;
        let ratios = |samples: &[f64], of_ours: &[f64]| {
            median(samples.iter().zip(of_ours).map(|(sample, ours)| sample / ours).collect())
                .unwrap_or(f64::NAN)
        };
        for (server, theirs) in Server::ALL.into_iter().zip(&figures) {
            let [rate, cpu, user, busy] =
                [0, 1, 2, 3].map(|figure| median(theirs[figure].clone()).unwrap_or(f64::NAN));
            let (cpu_ratio, rate_ratio) = (ratios(&theirs[1], &ours[1]), 1.0 / ratios(&theirs[0], &ours[0]));
            println!(
                "| {in_flight} | {} | {rate:.0} | {cpu:.2} | {user:.2} | {:.0} % | {cpu_ratio:.2} | {rate_ratio:.2} |",
                server.name(),
                busy * 100.0
            );
        }
    }
    println!();
    Ok(())
}

fn stalled(bench: &Bench, arguments: &Arguments) -> Result<()> {
    let Arguments { readers, size, backlog, .. } = arguments;
    let messages = u64::from(*backlog) * 1024 * 1024 / u64::from(*size);
    println!(
        "One client that never reads beside {readers} that do: {messages} messages of {size} B, {backlog} MiB in all,"
    );
    println!(
        "one in flight. Time from publishing a message until a client has it, and the most that the server's memory"
    );
    println!("grew meanwhile; without that client an eighth of the messages.\n");
    println!(
        "| server | p50, ms, without | with | p99, ms, without | with | memory, KiB, without | with | what the client \
         finds when it reads |\n|---|---|---|---|---|---|---|---|"
    );
    for server in Server::ALL {
        let mut row = [[f64::NAN; 3]; 2];
        let mut end = String::new();
        for (index, (messages, flags)) in
            [((messages / 8).max(1), &[][..]), (messages.max(1), &["--stalled"])].into_iter().enumerate()
        {
            eprintln!("{messages} messages {}: {}", flags.concat(), server.name());
            let options = [
                ("--conns", readers.to_string()),
                ("--size", size.to_string()),
                ("--messages", messages.to_string()),
                // One-time costs per client are paid before memory is compared.
                ("--warm-up", "100".to_owned()),
            ];
            let lines = bench.load(server, &options, flags)?;
            let line = lines.first().context("the load printed nothing")?;
            let figures = [("latency_us_p50", 1000.0), ("latency_us_p99", 1000.0), ("memory_growth", 1024.0)];
            for (cell, (word, unit)) in row[index].iter_mut().zip(figures) {
                *cell = value(line, word)? / unit;
            }
            end = lines.get(1).map(|line| found(line)).transpose()?.unwrap_or_default();
        }
        let [without, with] = row;
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {end} |",
            server.name(),
            without[0],
            with[0],
            without[1],
            with[1],
            without[2],
            with[2]
        );
    }
    Ok(())
}

/// Rephrases the load's line about the client that did not read for human readers.
fn found(line: &str) -> Result<String> {
    let (messages, gaps) = (value(line, "messages")?, value(line, "gaps")?);
    let end = line.split_whitespace().last().unwrap_or_default();
    let end = match end {
        "open" => "still connected".to_owned(),
        "cut" => "the connection ended without a close frame".to_owned(),
        "reset" => "the connection was reset".to_owned(),
        code => format!("close code {code}"),
    };
    let gaps = if gaps == 0.0 { "no gap".to_owned() } else { format!("gaps: {gaps}") };
    Ok(format!("{messages} messages, {gaps}; {end}"))
}

/// The number of messages published before all clients have received the first of them.
const IN_FLIGHT: [u32; 2] = [1, 4];

/// The words of the load's line that the first table shows.
const FIGURES: [&str; 4] = ["deliveries_per_second", "cpu_us", "user_us", "server_busy"];

/// Sending 64 MiB to a thousand clients in messages of 1 KiB takes the slowest of the servers a quarter of an hour.
const LIMIT: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_client_that_did_not_read_is_told_in_words() {
        for (line, expected) in [
            ("stalled messages 12 gaps 0 end 1013", "12 messages, no gap; close code 1013"),
            ("stalled messages 9 gaps 2 end open", "9 messages, gaps: 2; still connected"),
        ] {
            assert_eq!(found(line).unwrap(), expected);
        }
        assert!(found("stalled end open").is_err());
    }
}
