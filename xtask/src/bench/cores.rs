//! Servers with several threads, compared with themselves on one thread.
//!
//! Server and load are free to use all cores. On a machine with two they compete for them, so rates mean little; the
//! CPU time for each message shows what sharing work among threads costs.

use std::{fmt::Write, process::Command, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use super::{
    broadcast,
    cells::Cell,
    data::Data,
    servers::{Programs, Server, Tuning},
    table::{geometric_mean, ratio_shown, shown},
    value,
};
use crate::process::{PATIENCE, Running};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Threads of each server.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) threads: u16,
    /// Rounds. Each measures every server in every cell, on one thread and on several.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// The time for which each server is measured in each cell of a round.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Only one message size.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// A server, and the way in which it uses its threads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// longwire with a runtime for each thread.
    Workers,
    /// longwire or a peer with tokio's multi-threaded runtime.
    Multi(Server),
}

impl Contender {
    const ECHO: [Self; 7] = [
        Self::Workers,
        Self::Multi(Server::Longwire),
        Self::Multi(Server::Fastwebsockets),
        Self::Multi(Server::TokioWebsockets),
        Self::Multi(Server::TokioTungstenite),
        Self::Multi(Server::Yawc),
        Self::Multi(Server::Sockudo),
    ];
    const BROADCAST: [Self; 3] =
        [Self::Workers, Self::Multi(Server::Longwire), Self::Multi(Server::TokioTungstenite)];

    fn name(self) -> &'static str {
        match self {
            Self::Workers => "longwire, `Workers`",
            Self::Multi(Server::Longwire) => "longwire, one runtime",
            Self::Multi(server) => server.name(),
        }
    }

    fn is_peer(self) -> bool {
        matches!(self, Self::Multi(server) if server.is_peer())
    }

    fn echo(self, programs: &Programs, tuning: Tuning, threads: u16) -> Command {
        match self {
            Self::Workers => workers(programs, threads),
            Self::Multi(server) => programs.server(server, tuning, threads),
        }
    }

    fn broadcast(self, programs: &Programs, threads: u16) -> Command {
        let mut command = match self {
            Self::Workers => {
                let mut command = workers(programs, threads);
                command.arg("--broadcast");
                return command;
            }
            Self::Multi(Server::Longwire) => Command::new(programs.ours("examples/broadcast")),
            Self::Multi(_) => Command::new(programs.peers("broadcast")),
        };
        command.args(["--threads", &threads.to_string()]);
        command
    }
}

fn workers(programs: &Programs, threads: u16) -> Command {
    let mut command = Command::new(programs.peers("longwire"));
    command.args(["--threads", &threads.to_string()]);
    command
}

/// Measures every server on one thread and on several.
pub(crate) fn measure(arguments: &Arguments) -> Result<Data> {
    let programs = Programs::build()?;
    let Arguments { threads, rounds, seconds, quick } = *arguments;
    let mut data =
        Data::begin([("threads", threads.into()), ("rounds", rounds.into()), ("seconds", seconds)])?;
    let cells: Vec<_> = CELLS.into_iter().filter(|cell| !quick || cell.size == 125).collect();
    let broadcasts: Vec<_> = BROADCASTS.into_iter().filter(|cell| !quick || cell.in_flight > 1).collect();
    for round in 0..usize::from(rounds) {
        for cell in &cells {
            eprintln!("round {} of {rounds}: {cell}", round + 1);
            for contender in in_turn(&Contender::ECHO, round) {
                let tuning = Tuning::Speed { depth: cell.depth };
                let start = |threads| contender.echo(&programs, tuning, threads);
                let mut load = cell.arguments();
                load.extend(["--seconds".to_owned(), seconds.to_string()]);
                let figures = compare(&programs, contender, start, threads, "loadgen", &load, |line| {
                    value(line, "cpu_us_per_message")
                });
                keep(&mut data, (ECHO, &cell.to_string(), contender.name()), round, figures);
            }
        }
        for cell in &broadcasts {
            eprintln!("round {} of {rounds}: {}", round + 1, cell.name());
            for contender in in_turn(&Contender::BROADCAST, round) {
                let start = |threads| contender.broadcast(&programs, threads);
                let load = cell.arguments(seconds);
                let figures =
                    compare(&programs, contender, start, threads, "broadcast-load", &load, |line| {
                        value(line, "cpu_us")
                    });
                keep(&mut data, (BROADCAST, &cell.name(), contender.name()), round, figures);
            }
        }
    }
    Ok(data)
}

fn keep(data: &mut Data, place: (&str, &str, &str), round: usize, figures: Result<[f64; 2]>) {
    match figures {
        Ok([one, several]) => drop(data.add(place, round, [("one", one), ("several", several)])),
        Err(reason) => data.failures.push(format!("{}, {}: {reason:#}", place.1, place.2)),
    }
}

/// The first server has the colder caches, so it is not always the same one.
fn in_turn(contenders: &[Contender], round: usize) -> impl Iterator<Item = Contender> {
    contenders.iter().cycle().skip(round % contenders.len()).take(contenders.len()).copied()
}

/// Returns the CPU time for a message in microseconds, on one thread and on several.
fn compare(
    programs: &Programs,
    contender: Contender,
    command: impl Fn(u16) -> Command,
    threads: u16,
    load: &str,
    arguments: &[String],
    figure: impl Fn(&str) -> Result<f64>,
) -> Result<[f64; 2]> {
    let measure = |threads| {
        let started = Programs::start_anywhere(contender.name(), &command(threads), MOST_CONNECTIONS)?;
        let mut load = programs.load_anywhere(load, &started);
        let lines =
            Running::start("the load", load.args(arguments))?.succeed(PATIENCE + Duration::from_secs(60))?;
        figure(lines.first().context("the load printed nothing")?)
    };
    Ok([measure(1)?, measure(threads)?])
}

/// Returns the tables.
pub(crate) fn tables(data: &Data) -> Vec<(&'static str, String)> {
    let (threads, rounds, seconds) =
        (data.setting("threads"), data.setting("rounds"), data.setting("seconds"));
    let mut out = format!(
        "CPU time of the server on {threads} threads for each message echoed or delivered, in µs, and in brackets its \
         ratio to the same server on one thread; medians of {rounds} rounds of {seconds} s. Server and load are free to \
         use all {} cores.\n",
        data.about.cores
    );
    for (table, contenders) in [(ECHO, &Contender::ECHO[..]), (BROADCAST, &Contender::BROADCAST)] {
        let rows = data.rows(table);
        let names: Vec<_> = contenders.iter().map(|contender| contender.name()).collect();
        let line = "---|".repeat(names.len());
        let _ = write!(
            out,
            "\n| {table} | {} | best peer / the better of longwire's |\n|---|{line}---|\n",
            names.join(" | ")
        );
        for row in &rows {
            let _ = write!(out, "| {row} |");
            for name in &names {
                let cpu = data.median((table, row, name), "several");
                let _ =
                    write!(out, " {} ({}) |", shown(cpu), ratio_shown(own_ratio(data, (table, row, name))));
            }
            let best = |peers: bool| {
                let those = contenders.iter().filter(|contender| contender.is_peer() == peers);
                those
                    .filter_map(|contender| data.median((table, row, contender.name()), "several"))
                    .min_by(f64::total_cmp)
            };
            let ratio = best(true).zip(best(false)).map(|(peer, ours)| peer / ours);
            let _ = writeln!(out, " {} |", ratio_shown(ratio));
        }
        let _ = write!(out, "| geometric mean of the ratios to one thread |");
        for name in &names {
            let ratios = rows.iter().filter_map(|row| own_ratio(data, (table, row, name)));
            let _ = write!(out, " {} |", ratio_shown(geometric_mean(ratios)));
        }
        out += " |\n";
    }
    vec![("cores", out)]
}

/// Returns the ratio of the CPU time on several threads to that on one: the median of the rounds' ratios.
fn own_ratio(data: &Data, place: (&str, &str, &str)) -> Option<f64> {
    let ratios = data
        .records(place)
        .filter_map(|record| Some(record.figures.get("several")? / record.figures.get("one")?));
    super::table::median(ratios.collect())
}

const ECHO: &str = "echo";
const BROADCAST: &str = "broadcast";

const CELLS: [Cell; 6] = [
    Cell { size: 16, conns: 64, depth: 1 },
    Cell { size: 125, conns: 64, depth: 1 },
    Cell { size: 1024, conns: 64, depth: 1 },
    Cell { size: 16, conns: 64, depth: 16 },
    Cell { size: 125, conns: 64, depth: 16 },
    Cell { size: 1024, conns: 64, depth: 16 },
];

const BROADCASTS: [broadcast::Cell; 2] = [
    broadcast::Cell { conns: 1000, in_flight: 1, size: 125 },
    broadcast::Cell { conns: 1000, in_flight: 16, size: 125 },
];

const MOST_CONNECTIONS: u32 = 1100;

#[cfg(test)]
mod tests {
    use super::{super::data::tests::empty, *};

    #[test]
    fn each_server_is_compared_with_itself_on_one_thread() {
        let mut data = empty();
        data.settings = [("threads".to_owned(), 2.0)].into();
        for (round, one, several) in [(0, 1.0, 1.5), (1, 2.0, 3.0), (2, 1.0, 9.0)] {
            for contender in Contender::ECHO {
                let factor = if contender.is_peer() { 2.0 } else { 1.0 };
                let figures = [("one", one * factor), ("several", several * factor)];
                data.add((ECHO, "16 B, conns 64, depth 1", contender.name()), round, figures);
            }
        }
        let (_, table) = tables(&data).remove(0);
        assert!(
            table.contains("| 16 B, conns 64, depth 1 | 3.00 (1.50) | 3.00 (1.50) | 6.00 (1.50) |"),
            "{table}"
        );
        assert!(table.contains(" | 2.00 |\n"), "{table}");
        assert!(table.contains("ratios to one thread | 1.50 |"), "{table}");
    }

    #[test]
    fn every_server_has_its_turn() {
        for round in 0..9 {
            let turn: Vec<_> = in_turn(&Contender::BROADCAST, round).collect();
            assert!(turn.len() == 3 && turn[0] != turn[1] && turn[0] != turn[2] && turn[1] != turn[2]);
            assert!(turn[0] == Contender::BROADCAST[round % 3]);
        }
    }
}
