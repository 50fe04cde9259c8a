//! Broadcasts: the cost of a delivery for a server with many clients, and the effect of one client that never reads
//! on the rest.

use std::{fmt::Write, process::Command, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;

use super::{
    data::Data,
    servers::{Programs, Started},
    table::{ratio_shown, shown},
    value,
};
use crate::{
    process::Running,
    setup::{self, Install},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Clients that receive the broadcasts. Default: 10 000 with 1 and 4 messages of 1024 B in flight, and 1000 with 1
    /// and 16 of 125 B.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=11_000))]
    pub(crate) conns: Option<u32>,
    /// Messages that are published before all clients have the first of them, with `--conns`.
    #[arg(long, value_name = "N,M", value_delimiter = ',', requires = "conns", default_values_t = [1, 4])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: Vec<u32>,
    /// Rounds. Each measures every server.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// The time for which each server is measured in a round.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Payload bytes of a message, with `--conns`, and beside a client that never reads.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(20..=1 << 24))]
    pub(crate) size: u32,
    /// Clients in addition to the one that never reads.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=11_000))]
    pub(crate) readers: u16,
    /// The total published while it does not read; with 1000 readers of 1 KiB each server takes 2 minutes for 16 MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) backlog: u32,
    /// The measurement to make. Default: all.
    #[arg(long, value_enum)]
    pub(crate) only: Option<Only>,
}

impl Arguments {
    fn cells(&self) -> Vec<Cell> {
        let Self { conns, in_flight, size, .. } = self;
        match conns {
            Some(conns) => {
                in_flight.iter().map(|&in_flight| Cell { conns: *conns, in_flight, size: *size }).collect()
            }
            None => CELLS.to_vec(),
        }
    }
}

/// A combination to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) conns: u32,
    pub(super) in_flight: u32,
    pub(super) size: u32,
}

impl Cell {
    pub(super) fn name(self) -> String {
        let Self { conns, in_flight, size } = self;
        format!("{size} B, {conns} clients, {in_flight} in flight")
    }

    /// Returns the arguments for the load.
    pub(super) fn arguments(self, seconds: f64) -> Vec<String> {
        let words = [
            ("--conns", self.conns.to_string()),
            ("--size", self.size.to_string()),
            ("--in-flight", self.in_flight.to_string()),
            ("--seconds", seconds.to_string()),
        ];
        words.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    Rate,
    Stalled,
}

/// A server that forwards each message to every other client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Longwire,
    TokioTungstenite,
    Ws,
    /// A yardstick, which bounds nothing: it keeps what a client that never reads has not read.
    Floor,
}

impl Server {
    const ALL: [Self; 4] = [Self::Longwire, Self::TokioTungstenite, Self::Ws, Self::Floor];
    /// Those whose treatment of a client that never reads is of interest.
    const BOUNDED: [Self; 3] = [Self::Longwire, Self::TokioTungstenite, Self::Ws];

    fn name(self) -> &'static str {
        match self {
            Self::Longwire => "longwire",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::Ws => "ws (Node)",
            Self::Floor => "tokio floor",
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
            Server::Floor => Command::new(self.programs.peers("floor_broadcast")),
        };
        if server == Server::Longwire {
            command.args(["--threads", "1"]);
        }
        Programs::start_other(server.name(), &command)
    }

    /// Runs the load on a new server, and returns the lines that it prints.
    fn load(&self, server: Server, arguments: &[String]) -> Result<Vec<String>> {
        let started = self.start(server)?;
        let mut command = self.programs.load("broadcast-load", &started);
        let name = format!("the load for {}", server.name());
        let lines = Running::start(&name, command.args(arguments))?.succeed(LIMIT)?;
        ensure!(!lines.is_empty(), "{name} printed nothing");
        Ok(lines)
    }
}

/// Measures all servers.
pub(crate) fn measure(arguments: &Arguments, install: Install) -> Result<Data> {
    let bench = Bench { programs: Programs::build()?, node: setup::node(install)? };
    let Arguments { rounds, seconds, readers, size, backlog, .. } = *arguments;
    let mut data = Data::begin([
        ("rounds", rounds.into()),
        ("seconds", seconds),
        ("readers", readers.into()),
        ("stalled_size", size.into()),
        ("backlog_mib", backlog.into()),
    ])?;
    if arguments.only != Some(Only::Stalled) {
        rate(&bench, arguments, &mut data)?;
    }
    if arguments.only != Some(Only::Rate) {
        stalled(&bench, arguments, &mut data)?;
    }
    Ok(data)
}

fn rate(bench: &Bench, arguments: &Arguments, data: &mut Data) -> Result<()> {
    for cell in arguments.cells() {
        for round in 0..usize::from(arguments.rounds) {
            for turn in 0..Server::ALL.len() {
                // The first server has the colder caches, so it is not always the same one.
                let server = Server::ALL[(turn + round) % Server::ALL.len()];
                eprintln!("round {} of {}: {}, {}", round + 1, arguments.rounds, cell.name(), server.name());
                let lines = bench.load(server, &cell.arguments(arguments.seconds))?;
                data.add((RATE, &cell.name(), server.name()), round, figures(&lines[0])?);
            }
        }
    }
    Ok(())
}

/// Returns the figures of a line of the load.
pub(super) fn figures(line: &str) -> Result<[(&'static str, f64); FIGURES.len()]> {
    let mut figures = FIGURES.map(|word| (word, f64::NAN));
    for (word, figure) in &mut figures {
        *figure = value(line, word)?;
    }
    Ok(figures)
}

fn stalled(bench: &Bench, arguments: &Arguments, data: &mut Data) -> Result<()> {
    let Arguments { readers, size, backlog, .. } = arguments;
    let messages = messages(*backlog, *size);
    for server in Server::BOUNDED {
        for (row, messages, flag) in [(WITHOUT, messages / 8, None), (WITH, messages, Some("--stalled"))] {
            eprintln!("{messages} messages, {row}: {}", server.name());
            let options = [
                ("--conns", readers.to_string()),
                ("--size", size.to_string()),
                ("--messages", messages.max(1).to_string()),
                // One-time costs per client are paid before memory is compared.
                ("--warm-up", "100".to_owned()),
            ];
            let words = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
            let lines = bench.load(server, &words.chain(flag.map(str::to_owned)).collect::<Vec<_>>())?;
            let figure = |word| value(&lines[0], word);
            let figures = [
                ("p50_ms", figure("latency_us_p50")? / 1000.0),
                ("p99_ms", figure("latency_us_p99")? / 1000.0),
                ("memory_kib", figure("memory_growth")? / 1024.0),
            ];
            let note = lines.get(1).map(|line| found(line)).transpose()?;
            data.add((STALLED, row, server.name()), 0, figures).note = note;
        }
    }
    Ok(())
}

fn messages(backlog: u32, size: u32) -> u64 {
    u64::from(backlog) * 1024 * 1024 / u64::from(size)
}

/// Returns the tables.
pub(crate) fn tables(data: &Data) -> Vec<(&'static str, String)> {
    let mut tables = Vec::new();
    if !data.rows(RATE).is_empty() {
        tables.push(("broadcast/rate", rate_table(data)));
    }
    if !data.rows(STALLED).is_empty() {
        tables.push(("broadcast/stalled", stalled_table(data)));
    }
    tables
}

fn rate_table(data: &Data) -> String {
    let (rounds, seconds) = (data.setting("rounds"), data.setting("seconds"));
    let mut out = format!(
        "Broadcasts of text; medians of {rounds} rounds of {seconds} s. CPU time is the server's for one delivery; a \
         ratio above 1 means that longwire is better.\n\n"
    );
    out += "| cell | server | deliveries/s | CPU, µs per delivery | outside the kernel, µs | server's core busy | \
            CPU / longwire's CPU | longwire's deliveries/s / its own |\n|---|---|---|---|---|---|---|---|\n";
    let ours = Server::Longwire.name();
    for row in data.rows(RATE) {
        for server in data.servers(RATE) {
            let place = (RATE, row, server);
            let [rate, cpu, user, busy] = FIGURES.map(|figure| data.median(place, figure));
            let (Some(rate), Some(busy)) = (rate, busy) else { continue };
            let cpu_ratio = ratio_shown(data.ratio(place, ours, "cpu_us"));
            let rate_ratio = ratio_shown(data.ratio(place, ours, FIGURES[0]).map(f64::recip));
            let _ = writeln!(
                out,
                "| {row} | {server} | {rate:.0} | {} | {} | {:.0} % | {cpu_ratio} | {rate_ratio} |",
                shown(cpu),
                shown(user),
                busy * 100.0
            );
        }
    }
    out
}

fn stalled_table(data: &Data) -> String {
    let [readers, size, backlog] = ["readers", "stalled_size", "backlog_mib"].map(|name| data.setting(name));
    let messages = (backlog * 1024.0 * 1024.0 / size).floor();
    let mut out = format!(
        "One client that never reads beside {readers} that do: {messages} messages of {size} B, {backlog} MiB in all, \
         one in flight. Time from publishing a message until a client has it, and the most that the server's memory \
         grew meanwhile; without that client an eighth of the messages.\n\n"
    );
    out += "| server | p50, ms, without | with | p99, ms, without | with | memory, KiB, without | with | what the client \
            finds when it reads |\n|---|---|---|---|---|---|---|---|\n";
    for server in data.servers(STALLED) {
        let _ = write!(out, "| {server} |");
        for (figure, digits) in [("p50_ms", 2), ("p99_ms", 2), ("memory_kib", 0)] {
            for row in [WITHOUT, WITH] {
                let figure = data.median((STALLED, row, server), figure).unwrap_or(f64::NAN);
                let _ = write!(out, " {figure:.digits$} |");
            }
        }
        let end = data.records((STALLED, WITH, server)).find_map(|record| record.note.as_deref());
        let _ = writeln!(out, " {} |", end.unwrap_or("–"));
    }
    out
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

const CELLS: [Cell; 4] = [
    Cell { conns: 10_000, in_flight: 1, size: 1024 },
    Cell { conns: 10_000, in_flight: 4, size: 1024 },
    Cell { conns: 1000, in_flight: 1, size: 125 },
    Cell { conns: 1000, in_flight: 16, size: 125 },
];

/// The words of the load's line that the first table shows.
const FIGURES: [&str; 4] = ["deliveries_per_second", "cpu_us", "user_us", "server_busy"];

/// The names of the tables and rows in the data.
pub(super) const RATE: &str = "rate";
const STALLED: &str = "stalled";
const WITHOUT: &str = "without";
const WITH: &str = "with";

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
