//! Compression: the cost of a message in CPU time and on the wire compared with the peers that compress, the memory
//! of connections, and the savings of compressing a broadcast once.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use super::{
    machine,
    servers::{Programs, Started},
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
    rounds: u16,
    /// The time for which each server is measured with each of them.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// Connections whose memory is measured, and which receive a broadcast.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=11_000))]
    conns: u16,
    /// The measurement to make. Default: all.
    #[arg(long, value_enum)]
    only: Option<Only>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
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

/// Measures and prints the tables.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let bench = Bench { programs: Programs::build()?, node: setup::node(install)? };
    println!("{}\n", machine()?);
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    if wanted(Only::Echo) {
        echo(&bench, arguments)?;
    }
    if wanted(Only::Many) {
        many(&bench, arguments)?;
    }
    if wanted(Only::Idle) {
        idle(&bench, arguments)?;
    }
    if wanted(Only::Fanout) {
        fanout(&bench, arguments)?;
    }
    Ok(())
}

/// Returns the median of several measurements.
fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn echo(bench: &Bench, arguments: &Arguments) -> Result<()> {
    println!(
        "CPU time of the server for a message that is echoed, in µs, and bytes of the echo on the wire with its"
    );
    println!(
        "header; 16 connections, one message in flight on each; median of {} rounds.\n",
        arguments.rounds
    );
    print_head("JSON");
    for size in ["256", "1024", "16384"] {
        for (takeover, level) in [(true, 1), (true, 6), (false, 1), (false, 6)] {
            let parameters = Parameters { takeover, window_bits: 15, level };
            let row = Row::measure(bench, arguments, parameters, size, "16")?;
            row.print(&format!("{size} B, {}", parameters.shown()), |cpu, wire, _| {
                format!("{cpu:.1} µs, {wire:.0} B")
            });
        }
    }
    println!();
    Ok(())
}

/// Every message finds the caches full of other connections' contexts, if each has its own.
fn many(bench: &Bench, arguments: &Arguments) -> Result<()> {
    println!(
        "The same for 1 KiB of JSON with more connections, and the server's page faults for 1000 messages.\n"
    );
    print_head("connections");
    for conns in ["64", "1000"] {
        for level in [1, 6] {
            let parameters = Parameters { takeover: true, window_bits: 15, level };
            let row = Row::measure(bench, arguments, parameters, "1024", conns)?;
            row.print(&format!("{conns}, {}", parameters.shown()), |cpu, wire, faults| {
                format!("{cpu:.1} µs, {wire:.0} B, {faults:.0}")
            });
        }
    }
    println!();
    Ok(())
}

fn print_head(first: &str) {
    let heads: Vec<_> = Server::ALL.iter().map(|server| format!(" {} |", server.name())).collect();
    println!("| {first} |{} best peer / longwire |\n|---|{}---|", heads.concat(), "---|".repeat(heads.len()));
}

/// The figures of one message for each server: medians of the CPU time and of the page faults, and the last length.
struct Row {
    cpu: [f64; Server::ALL.len()],
    wire: [f64; Server::ALL.len()],
    faults: [f64; Server::ALL.len()],
}

impl Row {
    fn measure(
        bench: &Bench,
        arguments: &Arguments,
        parameters: Parameters,
        size: &str,
        conns: &str,
    ) -> Result<Self> {
        let mut cpu = [const { Vec::new() }; Server::ALL.len()];
        let mut faults = [const { Vec::new() }; Server::ALL.len()];
        let mut wire = [0.0; Server::ALL.len()];
        let seconds = arguments.seconds.to_string();
        for _ in 0..arguments.rounds {
            for (index, server) in Server::ALL.into_iter().enumerate() {
                let started = bench.start(server, parameters)?;
                let load = ["--what", "echo", "--size", size, "--conns", conns, "--seconds", &seconds];
                let lines = bench.load(&started, parameters, &load)?;
                cpu[index].push(value(&lines[0], "cpu_ns")? / 1000.0);
                faults[index].push(value(&lines[0], "faults_of_1000")?);
                wire[index] = value(&lines[0], "wire_out")?;
            }
        }
        let medians =
            |samples: [Vec<f64>; Server::ALL.len()]| samples.map(|mut samples| median(&mut samples));
        Ok(Self { cpu: medians(cpu), wire, faults: medians(faults) })
    }

    fn print(&self, name: &str, cell: impl Fn(f64, f64, f64) -> String) {
        let cells: Vec<_> = (0..Server::ALL.len())
            .map(|index| format!(" {} |", cell(self.cpu[index], self.wire[index], self.faults[index])))
            .collect();
        let best = self.cpu[1..].iter().copied().fold(f64::INFINITY, f64::min);
        println!("| {name} |{} {:.2} |", cells.concat(), best / self.cpu[0]);
    }
}

fn idle(bench: &Bench, arguments: &Arguments) -> Result<()> {
    let conns = arguments.conns.to_string();
    println!(
        "Resident bytes of the process for each of {conns} connections that exchanged 100 messages of 256 B,"
    );
    println!(
        "1 KiB and 16 KiB in turn, right after them and 4 s later (glibc trims its heap from 64 KiB on).\n"
    );
    println!("| server | parameters | fresh | right after | idle |\n|---|---|---|---|---|");
    let rows = [(true, 15), (true, 12), (false, 15)];
    for (takeover, window_bits) in rows {
        let parameters = Parameters { takeover, window_bits, level: 6 };
        for server in Server::ALL {
            let started = bench.start(server, parameters)?;
            let lines = bench.load(&started, parameters, &["--what", "idle", "--conns", &conns])?;
            let [fresh, used, idle] = ["fresh", "used", "idle"].map(|state| value(&lines[0], state));
            println!("| {} | {} | {} | {} | {} |", server.name(), parameters.shown(), fresh?, used?, idle?);
        }
    }
    println!();
    Ok(())
}

fn fanout(bench: &Bench, arguments: &Arguments) -> Result<()> {
    let conns = arguments.conns.to_string();
    println!(
        "CPU time of longwire for one delivery of a broadcast of 1 KiB of JSON to {conns} clients, in µs, and the part"
    );
    println!("spent outside the kernel: compressed once, and compressed for each client.\n");
    println!(
        "| parameters | compressed once | for each client | outside the kernel, for each / once |\n|---|---|---|---|"
    );
    for (takeover, level) in [(true, 1), (true, 6), (false, 1), (false, 6)] {
        let parameters = Parameters { takeover, window_bits: 15, level };
        let mut command = Command::new(bench.programs.peers("fanout"));
        let started = Programs::start_other("fanout", command.args(parameters.flags()))?;
        let lines = bench.load(
            &started,
            parameters,
            &["--what", "fanout", "--conns", &conns, "--messages", "100"],
        )?;
        let figures = |order: &str| -> Result<[f64; 2]> {
            let line = lines.iter().find(|line| line.contains(order)).context("a line is missing")?;
            Ok([value(line, "cpu_ns")? / 1000.0, value(line, "user_ns")? / 1000.0])
        };
        let ([once, once_user], [each, each_user]) = (figures("order prepared")?, figures("order each")?);
        println!(
            "| {} | {once:.2}, {once_user:.2} | {each:.2}, {each_user:.2} | {:.1} |",
            parameters.shown(),
            each_user / once_user
        );
    }
    Ok(())
}

/// A thousand connections with a hundred messages each take Node half a minute.
const LIMIT: Duration = Duration::from_secs(300);
