//! Compression: the cost of a message in CPU time and on the wire compared with the peers that compress, the memory
//! of connections, and the savings of compressing a broadcast once.

use std::{fmt::Write, process::Command, time::Duration};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use super::{
    data::Data,
    servers::{Programs, Started},
    table::ratio_shown,
    value,
};
use crate::{
    process::Running,
    setup::{self, Install},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Rounds. Each measures every server with all sizes and parameters.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// The time for which each server is measured with each of them.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub(crate) seconds: f64,
    /// Connections whose memory is measured, and which receive a broadcast.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=11_000))]
    pub(crate) conns: u16,
    /// The measurement to make. Default: all.
    #[arg(long, value_enum)]
    pub(crate) only: Option<Only>,
    /// Only messages of 1 KiB, and the memory with one set of parameters.
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    Echo,
    Many,
    Idle,
    Fanout,
}

/// The parameters that both ends agree on, and the server's compression level.
#[derive(Clone, Copy)]
struct Parameters {
    takeover: bool,
    window_bits: u8,
    level: u8,
}

impl Parameters {
    fn flags(self) -> Vec<String> {
        let mut flags = vec!["--level".to_owned(), self.level.to_string()];
        if !self.takeover {
            flags.push("--no-context-takeover".to_owned());
        }
        if self.window_bits < 15 {
            flags.extend(["--window-bits".to_owned(), self.window_bits.to_string()]);
        }
        flags
    }

    fn shown(self) -> String {
        let takeover = if self.takeover { "takeover" } else { "no takeover" };
        format!("{takeover}, {} bits, level {}", self.window_bits, self.level)
    }
}

/// A server that compresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Longwire,
    Ws,
    Yawc,
    Sockudo,
}

impl Server {
    const ALL: [Self; 4] = [Self::Longwire, Self::Ws, Self::Yawc, Self::Sockudo];

    fn name(self) -> &'static str {
        match self {
            Self::Longwire => "longwire",
            Self::Ws => "ws (Node)",
            Self::Yawc => "yawc",
            Self::Sockudo => "sockudo-ws",
        }
    }
}

struct Bench {
    programs: Programs,
    node: setup::Node,
}

impl Bench {
    fn start(&self, server: Server, parameters: Parameters) -> Result<Started> {
        let mut command = match server {
            Server::Longwire => Command::new(self.programs.ours("examples/echo")),
            Server::Ws => self.node.script("bench_server.js"),
            Server::Yawc => Command::new(self.programs.peers("yawc")),
            Server::Sockudo => Command::new(self.programs.peers("sockudo")),
        };
        match server {
            Server::Longwire => drop(command.args(["--threads", "1", "--deflate", "--threshold", "0"])),
            Server::Ws => {}
            Server::Yawc | Server::Sockudo => drop(command.arg("--deflate")),
        }
        // By default glibc keeps up to twice the largest block that was freed at the top of its heap: a constant per
        // process, of some megabytes if compressors are freed, which does not belong to any connection.
        command.env("MALLOC_TRIM_THRESHOLD_", "65536");
        Programs::start_other(server.name(), command.args(parameters.flags()))
    }

    /// Runs the load, and returns the lines that it prints.
    fn load(&self, started: &Started, parameters: Parameters, arguments: &[&str]) -> Result<Vec<String>> {
        let mut command = self.programs.load("deflate-load", started);
        command.args(arguments).args(parameters.flags());
        let lines = Running::start("the load", &mut command)?.succeed(LIMIT)?;
        if lines.is_empty() { Err(anyhow!("the load printed nothing")) } else { Ok(lines) }
    }
}

/// Measures all servers.
pub(crate) fn measure(arguments: &Arguments, install: Install) -> Result<Data> {
    let bench = Bench { programs: Programs::build()?, node: setup::node(install)? };
    let Arguments { rounds, seconds, conns, .. } = *arguments;
    let mut data =
        Data::begin([("rounds", rounds.into()), ("seconds", seconds), ("connections", conns.into())])?;
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    if wanted(Only::Echo) {
        let sizes = if arguments.quick { &["1024"][..] } else { &["256", "1024", "16384"] };
        for size in sizes {
            for (takeover, level) in [(true, 1), (true, 6), (false, 1), (false, 6)] {
                let parameters = Parameters { takeover, window_bits: 15, level };
                let row = format!("{size} B, {}", parameters.shown());
                echo(
                    &bench,
                    arguments,
                    parameters,
                    (ECHO, &row),
                    ["--size", size, "--conns", "16"],
                    &mut data,
                )?;
            }
        }
    }
    if wanted(Only::Many) {
        // Every message finds the caches full of other connections' contexts, if each has its own.
        for conns in if arguments.quick { &["64"][..] } else { &["64", "1000"] } {
            for level in [1, 6] {
                let parameters = Parameters { takeover: true, window_bits: 15, level };
                let row = format!("{conns}, {}", parameters.shown());
                echo(
                    &bench,
                    arguments,
                    parameters,
                    (MANY, &row),
                    ["--size", "1024", "--conns", conns],
                    &mut data,
                )?;
            }
        }
    }
    if wanted(Only::Idle) {
        idle(&bench, arguments, &mut data)?;
    }
    if wanted(Only::Fanout) {
        fanout(&bench, arguments, &mut data)?;
    }
    Ok(data)
}

fn echo(
    bench: &Bench,
    arguments: &Arguments,
    parameters: Parameters,
    (table, row): (&str, &str),
    load: [&str; 4],
    data: &mut Data,
) -> Result<()> {
    let seconds = arguments.seconds.to_string();
    let load = [&["--what", "echo", "--seconds", &seconds][..], &load].concat();
    for round in 0..usize::from(arguments.rounds) {
        eprintln!("round {} of {}: {row}", round + 1, arguments.rounds);
        for server in Server::ALL {
            let started = bench.start(server, parameters)?;
            let lines = bench.load(&started, parameters, &load)?;
            let figure = |word| value(&lines[0], word);
            let figures = [
                ("cpu_us", figure("cpu_ns")? / 1000.0),
                ("wire_bytes", figure("wire_out")?),
                ("faults_of_1000", figure("faults_of_1000")?),
            ];
            data.add((table, row, server.name()), round, figures);
        }
    }
    Ok(())
}

fn idle(bench: &Bench, arguments: &Arguments, data: &mut Data) -> Result<()> {
    let conns = arguments.conns.to_string();
    let rows = [(true, 15), (true, 12), (false, 15)];
    for &(takeover, window_bits) in if arguments.quick { &rows[..1] } else { &rows } {
        let parameters = Parameters { takeover, window_bits, level: 6 };
        for server in Server::ALL {
            eprintln!("idle: {}, {}", server.name(), parameters.shown());
            let started = bench.start(server, parameters)?;
            let lines = bench.load(&started, parameters, &["--what", "idle", "--conns", &conns])?;
            let mut figures = STATES.map(|state| (state, f64::NAN));
            for (state, figure) in &mut figures {
                *figure = value(&lines[0], state)?;
            }
            data.add((IDLE, &parameters.shown(), server.name()), 0, figures);
        }
    }
    Ok(())
}

fn fanout(bench: &Bench, arguments: &Arguments, data: &mut Data) -> Result<()> {
    let conns = arguments.conns.to_string();
    for (takeover, level) in [(true, 1), (true, 6), (false, 1), (false, 6)] {
        let parameters = Parameters { takeover, window_bits: 15, level };
        eprintln!("broadcast: {}", parameters.shown());
        let mut command = Command::new(bench.programs.peers("fanout"));
        let started = Programs::start_other("fanout", command.args(parameters.flags()))?;
        let load = ["--what", "fanout", "--conns", &conns, "--messages", "100"];
        let lines = bench.load(&started, parameters, &load)?;
        for (order, way) in [("order prepared", ONCE), ("order each", EACH)] {
            let line = lines.iter().find(|line| line.contains(order)).context("a line is missing")?;
            let figures =
                [("cpu_us", value(line, "cpu_ns")? / 1000.0), ("user_us", value(line, "user_ns")? / 1000.0)];
            data.add((FANOUT, &parameters.shown(), way), 0, figures);
        }
    }
    Ok(())
}

/// Returns the tables.
pub(crate) fn tables(data: &Data) -> Vec<(&'static str, String)> {
    type Table = fn(&Data) -> String;
    let all: [(_, _, Table); 4] = [
        ("deflate/echo", ECHO, echo_table),
        ("deflate/many", MANY, many_table),
        ("deflate/idle", IDLE, idle_table),
        ("deflate/fanout", FANOUT, fanout_table),
    ];
    let measured = all.into_iter().filter(|(_, table, _)| !data.rows(table).is_empty());
    measured.map(|(block, _, text)| (block, text(data))).collect()
}

fn echo_table(data: &Data) -> String {
    let (rounds, seconds) = (data.setting("rounds"), data.setting("seconds"));
    let head = format!(
        "CPU time of the server for a message that is echoed, in µs, and bytes of the echo on the wire with its \
         header; 16 connections, one message in flight on each; medians of {rounds} rounds of {seconds} s.\n\n"
    );
    head + &echoes(data, ECHO, "JSON", |cpu, wire, _| format!("{cpu:.1} µs, {wire:.0} B"))
}

fn many_table(data: &Data) -> String {
    let head = "The same for 1 KiB of JSON with more connections, and the server's page faults for 1000 messages.\n\n";
    let cell = |cpu, wire, faults| format!("{cpu:.1} µs, {wire:.0} B, {faults:.0}");
    head.to_owned() + &echoes(data, MANY, "connections", cell)
}

fn echoes(data: &Data, table: &str, first: &str, cell: impl Fn(f64, f64, f64) -> String) -> String {
    let servers = data.servers(table);
    let line = "---|".repeat(servers.len());
    let mut out = format!("| {first} | {} | best peer / longwire |\n|---|{line}---|\n", servers.join(" | "));
    for row in data.rows(table) {
        let figure = |server: &str, name| data.median((table, row, server), name).unwrap_or(f64::NAN);
        let cells: Vec<_> = servers
            .iter()
            .map(|server| {
                let [cpu, wire, faults] =
                    ["cpu_us", "wire_bytes", "faults_of_1000"].map(|name| figure(server, name));
                cell(cpu, wire, faults)
            })
            .collect();
        let best = best_ratio(data, table, row);
        let _ = writeln!(out, "| {row} | {} | {} |", cells.join(" | "), ratio_shown(best));
    }
    out
}

/// Returns the CPU time of the fastest peer, divided by longwire's.
fn best_ratio(data: &Data, table: &str, row: &str) -> Option<f64> {
    let cpu = |server: Server| data.median((table, row, server.name()), "cpu_us");
    let best = Server::ALL[1..].iter().filter_map(|&server| cpu(server)).min_by(f64::total_cmp)?;
    Some(best / cpu(Server::Longwire)?)
}

fn idle_table(data: &Data) -> String {
    let conns = data.setting("connections");
    let mut out = format!(
        "Resident bytes of the process for each of {conns} connections that exchanged 100 messages of 256 B, 1 KiB and \
         16 KiB in turn, right after them and 4 s later (glibc trims its heap from 64 KiB on).\n\n"
    );
    out += "| server | parameters | fresh | right after | idle |\n|---|---|---|---|---|\n";
    for row in data.rows(IDLE) {
        for server in data.servers(IDLE) {
            let figures = STATES.map(|state| {
                let figure = data.median((IDLE, row, server), state);
                figure.map_or("–".to_owned(), |figure| format!("{figure:.0}"))
            });
            let _ = writeln!(out, "| {server} | {row} | {} |", figures.join(" | "));
        }
    }
    out
}

fn fanout_table(data: &Data) -> String {
    let conns = data.setting("connections");
    let mut out = format!(
        "CPU time of longwire for one delivery of a broadcast of 1 KiB of JSON to {conns} clients, in µs, and the part \
         spent outside the kernel: compressed once, and compressed for each client.\n\n"
    );
    out += "| parameters | compressed once | for each client | outside the kernel, for each / once |\n|---|---|---|---|\n";
    for row in data.rows(FANOUT) {
        let figure = |way, name| data.median((FANOUT, row, way), name).unwrap_or(f64::NAN);
        let [once, once_user] = ["cpu_us", "user_us"].map(|name| figure(ONCE, name));
        let [each, each_user] = ["cpu_us", "user_us"].map(|name| figure(EACH, name));
        let ratio = each_user / once_user;
        let _ =
            writeln!(out, "| {row} | {once:.2}, {once_user:.2} | {each:.2}, {each_user:.2} | {ratio:.1} |");
    }
    out
}

/// The names of the tables in the data.
pub(super) const ECHO: &str = "echo";
const MANY: &str = "many";
const IDLE: &str = "idle";
const FANOUT: &str = "fanout";

/// The two ways to broadcast.
const ONCE: &str = "once";
const EACH: &str = "each";

/// The states of connections whose memory is measured.
const STATES: [&str; 3] = ["fresh", "used", "idle"];

/// A thousand connections with a hundred messages each take Node half a minute.
const LIMIT: Duration = Duration::from_secs(300);
