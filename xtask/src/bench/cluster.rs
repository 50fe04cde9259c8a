//! Rooms over two nodes: longwire over Redis and NATS, the usual recipe with axum over both, and Socket.IO over Redis.
//!
//! Nodes, broker and load share all cores: the figure to compare is the CPU time of a delivery, not the rate.

use std::{
    fmt::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use xshell::cmd;

use super::{
    data::Data,
    servers::descriptors,
    table::{ratio_shown, shown},
    value,
};
use crate::{
    process::{PATIENCE, Running},
    setup::{self, Install},
    workspace::{self, shell},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Rounds. Each measures every server with every number of members.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The time for which each server is measured.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// Members on each node.
    #[arg(long, value_name = "N,M", value_delimiter = ',', default_values_t = [1, 100, 1000])]
    members: Vec<u32>,
    /// Payload bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 125)]
    size: u32,
    /// Messages that are published before all members have the first of them.
    #[arg(long, value_name = "N", default_value_t = 8)]
    in_flight: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Broker {
    Redis,
    Nats,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Longwire,
    Recipe,
    SocketIo,
}

/// A kind of node with a broker.
type Server = (Node, Broker);

fn name((node, broker): Server) -> &'static str {
    match (node, broker) {
        (Node::Longwire, Broker::Redis) => "longwire, Redis",
        (Node::Longwire, Broker::Nats) => "longwire, NATS",
        (Node::Recipe, Broker::Redis) => "axum recipe, Redis",
        (Node::Recipe, Broker::Nats) => "axum recipe, NATS",
        (Node::SocketIo, _) => "Socket.IO, Redis",
    }
}

struct Bench {
    programs: PathBuf,
    brokers: setup::Brokers,
    node: PathBuf,
}

impl Bench {
    fn start_broker(&self, broker: Broker) -> Result<(Running, String)> {
        let port = free_port()?.to_string();
        let (mut command, url) = match broker {
            Broker::Redis => {
                let mut command = Command::new(&self.brokers.redis);
                command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                (command, format!("redis://127.0.0.1:{port}"))
            }
            Broker::Nats => {
                let mut command = Command::new(&self.brokers.nats);
                command.args(["--addr", "127.0.0.1", "--port", &port]);
                (command, format!("nats://127.0.0.1:{port}"))
            }
        };
        let running = Running::start("the broker", &mut command)?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            ensure!(Instant::now() < deadline, "the broker does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Ok((running, url))
    }

    fn start_node(&self, (node, _): Server, url: &str, members: u32) -> Result<(Running, String)> {
        let mut command = with_descriptors(members);
        match node {
            Node::Longwire => command.arg(self.programs.join("longwire_node")),
            Node::Recipe => command.arg(self.programs.join("recipe_node")),
            Node::SocketIo => {
                command.env("NODE_ENV", "production").arg("node").arg(self.node.join("server.js"))
            }
        };
        command.args(["--listen", "127.0.0.1:0", "--broker", url]);
        let running = Running::start("a node", &mut command)?;
        let url = running.url()?;
        let addr = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
        Ok((running, addr))
    }

    /// Starts a broker and two nodes, and returns the line of the load.
    fn measure(&self, server: Server, members: u32, arguments: &Arguments) -> Result<String> {
        let (broker, url) = self.start_broker(server.1)?;
        let nodes = [self.start_node(server, &url, members)?, self.start_node(server, &url, members)?];
        let mut load = with_descriptors(2 * members);
        load.arg(self.programs.join("cluster_load"));
        for (running, addr) in &nodes {
            load.args(["--node", &format!("{addr},{}", running.id())]);
        }
        load.args(["--broker-pid", &broker.id().to_string(), "--members", &members.to_string()]);
        load.args(["--size", &arguments.size.to_string(), "--in-flight", &arguments.in_flight.to_string()]);
        load.args(["--seconds", &arguments.seconds.to_string()]);
        if server.0 == Node::SocketIo {
            load.arg("--socket-io");
        }
        let limit = Duration::from_secs_f64(arguments.seconds) + 2 * PATIENCE;
        let lines = Running::start("the load", &mut load)?.succeed(limit)?;
        lines.into_iter().next().context("the load printed nothing")
    }
}

/// Measures all servers.
pub(crate) fn measure(arguments: &Arguments, install: Install) -> Result<Data> {
    let bench =
        Bench { programs: build()?, brokers: setup::brokers(install)?, node: setup::cluster_node(install)? };
    let Arguments { rounds, seconds, size, in_flight, .. } = *arguments;
    let mut data = Data::begin([
        ("rounds", rounds.into()),
        ("seconds", seconds),
        ("size", size.into()),
        ("in_flight", in_flight.into()),
    ])?;
    for &members in &arguments.members {
        let row = format!("{members} on each node");
        for round in 0..usize::from(rounds) {
            for turn in 0..SERVERS.len() {
                // The first server has the colder caches, so it is not always the same one.
                let server = SERVERS[(turn + round) % SERVERS.len()];
                eprintln!("round {} of {rounds}: {row}, {}", round + 1, name(server));
                let line = bench.measure(server, members, arguments)?;
                let mut figures = FIGURES.map(|word| (word, f64::NAN));
                for (word, figure) in &mut figures {
                    *figure = value(&line, word)?;
                }
                data.add((TABLE, &row, name(server)), round, figures);
            }
        }
    }
    Ok(data)
}

/// Builds the nodes and the load, apart from the other programs, which do without their features.
fn build() -> Result<PathBuf> {
    let benches = workspace::root().join("benches");
    let target = benches.join("target");
    let sh = shell()?;
    sh.change_dir(&benches);
    cmd!(sh, "cargo build --release --package longwire-bench-cluster --target-dir {target}").run()?;
    Ok(target.join("release"))
}

/// Returns the beginning of a command: the program that becomes another one with enough descriptors.
fn with_descriptors(conns: u32) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(descriptors(conns));
    command
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Returns the tables.
pub(crate) fn tables(data: &Data) -> Vec<(&'static str, String)> {
    let [rounds, seconds, size, in_flight] =
        ["rounds", "seconds", "size", "in_flight"].map(|name| data.setting(name));
    let mut out = format!(
        "One room on two nodes, a publisher on the first; texts of {size} B, {in_flight} in flight; medians of \
         {rounds} rounds of {seconds} s. CPU time is that of nodes and broker for one delivery; a ratio above 1 means that \
         longwire, over the same broker, is better. Latency is that of members on the second node. The last three \
         columns are for one message: the CPU time of the second node and of the broker, and the bytes that the broker \
         writes.\n\n"
    );
    out += "| members | server | deliveries/s | CPU, µs | of which broker | CPU / longwire's | p50, ms | p99, ms | \
            second node, µs | broker, µs | broker, B |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    for row in data.rows(TABLE) {
        for server in SERVERS {
            let place = (TABLE, row, name(server));
            let [rate, cpu, broker, p50, p99, far, message, bytes] =
                FIGURES.map(|figure| data.median(place, figure));
            let ours = name((Node::Longwire, server.1));
            let milliseconds = |us: Option<f64>| shown(us.map(|us| us / 1000.0));
            let _ = writeln!(
                out,
                "| {row} | {} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
                name(server),
                rate.unwrap_or(f64::NAN),
                shown(cpu),
                shown(broker),
                ratio_shown(data.ratio(place, ours, "cpu_us")),
                milliseconds(p50),
                milliseconds(p99),
                shown(far),
                shown(message),
                bytes.unwrap_or(f64::NAN),
            );
        }
    }
    vec![("cluster", out)]
}

const TABLE: &str = "cluster";

const SERVERS: [Server; 5] = [
    (Node::Longwire, Broker::Redis),
    (Node::Recipe, Broker::Redis),
    (Node::SocketIo, Broker::Redis),
    (Node::Longwire, Broker::Nats),
    (Node::Recipe, Broker::Nats),
];

/// The words of the load's line.
const FIGURES: [&str; 8] = [
    "deliveries_per_second",
    "cpu_us",
    "broker_us",
    "latency_us_p50",
    "latency_us_p99",
    "far_us",
    "broker_us_per_message",
    "broker_bytes",
];
