//! The memory of idle connections.
//!
//! One server process, or several if a process may not have so many descriptors: then each has its own clients, and all
//! are idle at the same time. The clients' ends are in processes of the load generator, on several addresses of the
//! loopback network, and are sockets without buffers.

use std::{fmt::Write, fs, process::Command, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use super::{
    data::Data,
    servers::{OTHER_DESCRIPTORS, Programs, Server, Started, Tuning, descriptors},
    value,
};
use crate::process::Running;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Connections. Each needs a descriptor of the server and one of the load generator: with fewer descriptors for a
    /// process (`ulimit -Hn`), several servers share the connections.
    #[arg(long, alias = "conns", value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,
    /// Only longwire, in each of its forms.
    #[arg(long)]
    pub(crate) ours: bool,
    /// Only connections that have exchanged no message yet.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Stop before the machine uses this much more memory.
    #[arg(long, value_name = "MIB", default_value_t = MOST_MEMORY)]
    pub(crate) most_memory: u64,
}

/// A server with idle connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// longwire or a peer on one thread.
    One(Server),
    /// longwire on a multi-threaded runtime.
    Multi,
    /// longwire with a runtime for each thread.
    Workers,
    /// longwire over TLS, on one thread.
    Tls,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::One(server) => server.name(),
            Self::Multi => "longwire, multi-threaded runtime",
            Self::Workers => "longwire, `Workers`",
            Self::Tls => "longwire, TLS",
        }
    }

    fn command(self, programs: &Programs) -> Command {
        let mut command = match self {
            Self::One(server) => programs.server(server, Tuning::Memory, 1),
            Self::Multi => programs.server(Server::Longwire, Tuning::Memory, THREADS),
            Self::Workers | Self::Tls => Command::new(programs.peers("longwire")),
        };
        match self {
            Self::Workers => drop(command.args(["--threads", &THREADS.to_string()])),
            Self::Tls => drop(command.arg("--tls")),
            Self::One(_) | Self::Multi => {}
        }
        if !matches!(self, Self::One(server) if server != Server::Longwire) {
            // The clients answer no pings: with many connections, some are silent for longer than the default.
            command.args(["--keepalive", "3600"]);
        }
        command
    }
}

/// Measures all servers.
pub(crate) fn measure(arguments: &Arguments, servers: &[Server]) -> Result<Data> {
    let programs = Programs::build()?;
    let &Arguments { connections, ours, fresh, most_memory } = arguments;
    let per_process = per_process(&fs::read_to_string("/proc/self/limits").context("needs Linux")?)
        .context("this process may not have enough descriptors for anything")?;
    let shares = shares(connections, per_process);
    if let [share, _, ..] = shares[..] {
        eprintln!(
            "A process may have {} descriptors, too few for {connections} connections: {} servers with up to {share} \
             connections each. For one server, raise the limit to {} (`ulimit -Hn`, or LimitNOFILE= of systemd).",
            per_process + OTHER_DESCRIPTORS,
            shares.len(),
            connections + OTHER_DESCRIPTORS
        );
    }
    let mut data = Data::begin([("connections", connections.into())])?;
    let forms = [Contender::Multi, Contender::Workers, Contender::Tls];
    let has_ours = servers.contains(&Server::Longwire);
    let wanted = servers.iter().filter(|&&server| !ours || server == Server::Longwire);
    let contenders =
        wanted.map(|&server| Contender::One(server)).chain(forms.into_iter().filter(|_| has_ours));
    for contender in contenders {
        eprintln!("{connections} connections: {}", contender.name());
        let states = if fresh { &STATES[..1] } else { &STATES };
        match measure_one(&programs, contender, &shares, states, most_memory) {
            Ok((figures, machine)) => {
                // A hundred thousand connections take minutes.
                eprintln!("bytes per connection: {figures:.0?}");
                let record = data.add((TABLE, ROW, contender.name()), 0, [("machine", machine)]);
                #[allow(clippy::cast_precision_loss, reason = "a few")]
                record.figures.insert("servers".to_owned(), shares.len() as f64);
                record.figures.extend(states.iter().map(|(name, _)| (*name).to_owned()).zip(figures));
            }
            Err(reason) => data.failures.push(format!("{}: {reason:#}", contender.name())),
        }
    }
    Ok(data)
}

/// Returns the memory of the servers for each connection, in bytes and after each state, and that of the machine while
/// the connections are fresh: of both ends, with the kernel's sockets.
fn measure_one(
    programs: &Programs,
    contender: Contender,
    shares: &[u32],
    states: &[(&str, Option<&str>)],
    most_memory: u64,
) -> Result<(Vec<f64>, f64)> {
    let connections: u32 = shares.iter().sum();
    let mut servers = Vec::new();
    for &share in shares {
        servers.push(Programs::start_anywhere(contender.name(), &contender.command(programs), share)?);
    }
    let before = available_mib()?;
    let spare = before.saturating_sub(most_memory).max(LEAST_SPARE);
    let (mut loads, mut offset, mut fresh) = (Vec::new(), 0, 0.0);
    // One after the other: several processes would not open connections any faster.
    for (&share, server) in shares.iter().zip(&servers) {
        let mut command = load(programs, server, share);
        command.args(["--idle", &share.to_string(), "--offset", &offset.to_string(), "--step"]);
        command.args(["--spare-memory", &spare.to_string()]);
        for size in states.iter().filter_map(|(_, size)| *size) {
            command.args(["--size", size]);
        }
        if contender == Contender::Tls {
            command.arg("--tls");
        }
        offset += share;
        let running = Running::start(&format!("the load generator for {}", contender.name()), &mut command)?;
        fresh += f64::from(share) * state(&running, states[0].0)?;
        loads.push((share, running));
    }
    let machine = before.saturating_sub(available_mib()?);
    #[allow(clippy::cast_precision_loss, reason = "some thousand MiB")]
    let machine = machine as f64 * 1024.0 * 1024.0 / f64::from(connections);

    let mut figures = vec![fresh / f64::from(connections)];
    for (name, _) in &states[1..] {
        let mut total = 0.0;
        for (share, running) in &loads {
            running.write_line("")?;
            total += f64::from(*share) * state(running, name)?;
        }
        figures.push(total / f64::from(connections));
    }
    Ok((figures, machine))
}

/// Returns the load generator with enough descriptors, on the second core if there is one.
fn load(programs: &Programs, server: &Started, share: u32) -> Command {
    let load = programs.load("loadgen", server);
    let mut command = Command::new("prlimit");
    command.arg(descriptors(share)).arg(load.get_program()).args(load.get_args());
    command
}

/// Waits for a state of the connections, and returns the server's memory for each of them in bytes.
fn state(running: &Running, name: &str) -> Result<f64> {
    let start = format!("state {name} ");
    loop {
        let line = running.next_line(LIMIT)?;
        let line = line.with_context(|| format!("the load generator ended: {}", running.stderr().trim()))?;
        if line.starts_with(&start) {
            return value(&line, "rss_per_connection");
        }
    }
}

/// Returns the number of connections that a process may have, from its limits.
fn per_process(limits: &str) -> Option<u32> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let most = line.split_whitespace().nth(1)?;
    let most = if most == "unlimited" { u32::MAX } else { most.parse().ok()? };
    most.checked_sub(OTHER_DESCRIPTORS).filter(|&most| most > 0)
}

/// Divides the connections among as few servers as possible, evenly.
fn shares(connections: u32, per_process: u32) -> Vec<u32> {
    let count = connections.div_ceil(per_process);
    (0..count).map(|index| connections / count + u32::from(index < connections % count)).collect()
}

/// Returns the memory that programs can still take.
fn available_mib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("needs Linux")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Ok(kib.context("/proc/meminfo has another form")? / 1024)
}

/// Returns the table.
pub(crate) fn tables(block: &'static str, data: &Data) -> Vec<(&'static str, String)> {
    let connections = data.setting("connections");
    let mut out = format!(
        "Resident bytes of the server's process for each of {connections} connections, above the empty server"
    );
    // With fewer, the rest of the machine changes by more than the connections take.
    let has_machine = connections >= MACHINE_FROM;
    if has_machine {
        out += "; and memory of the whole machine for each fresh connection: both ends, with the kernel's sockets";
    }
    out += ".\n";
    let servers = data.records.iter().find_map(|record| record.figures.get("servers"));
    if let Some(servers) = servers.filter(|&&servers| servers > 1.0) {
        let _ = writeln!(out, "The connections are shared by {servers} processes of each server.");
    }
    out += "\n| server | fresh | after an echo of 1 KiB | after an echo of 64 KiB |";
    out += if has_machine { " machine, fresh |\n|---|---|---|---|---|\n" } else { "\n|---|---|---|---|\n" };
    for server in data.servers(TABLE) {
        let figure = |name| {
            let figure = data.median((TABLE, ROW, server), name);
            figure.map_or("–".to_owned(), |figure| format!("{figure:.0}"))
        };
        let [fresh, small, large] = STATES.map(|(name, _)| figure(name));
        let _ = write!(out, "| {server} | {fresh} | {small} | {large} |");
        let _ = if has_machine { writeln!(out, " {} |", figure("machine")) } else { writeln!(out) };
    }
    vec![(block, out)]
}

pub(super) const TABLE: &str = "idle";
pub(super) const ROW: &str = "idle";

/// The states of the connections, and the size of the message that leads to each.
pub(super) const STATES: [(&str, Option<&str>); 3] =
    [("fresh", None), ("after_1024", Some("1024")), ("after_65536", Some("65536"))];

/// The number of connections from which the memory of the whole machine is of use.
const MACHINE_FROM: f64 = 50_000.0;

/// The threads of a server with several.
const THREADS: u16 = 2;

/// A hundred thousand echoes of 64 KiB take a busy machine a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// The memory in MiB that the connections may take.
pub(super) const MOST_MEMORY: u64 = 14 * 1024;

/// The machine keeps at least this many MiB.
const LEAST_SPARE: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shared_by_as_few_servers_as_possible() {
        for (connections, per_process, expected) in [
            (10_000, 19_500, &[10_000][..]),
            (19_500, 19_500, &[19_500]),
            (19_501, 19_500, &[9751, 9750]),
            (100_000, 19_500, &[16_667, 16_667, 16_667, 16_667, 16_666, 16_666]),
        ] {
            assert_eq!(shares(connections, per_process), expected);
        }
    }

    #[test]
    fn descriptors_are_limited_by_the_upper_limit() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 20000                files\n";
        assert_eq!(per_process(limits), Some(19_500));
        assert_eq!(per_process("Max open files 10 400 files\n"), None);
        assert_eq!(per_process(""), None);
    }
}
