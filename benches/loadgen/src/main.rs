//! A load generator for WebSocket echo servers: one thread, epoll, frames made beforehand, every echo checked.
//!
//! It measures the server from outside: `--server-pid` names the process whose CPU time or memory is read from
//! `/proc` at both ends of the measured period. The result is one line of alternating words and numbers.

#![forbid(unsafe_code)]

mod connection;
mod frames;
mod idle;
mod load;
#[allow(dead_code, reason = "shared with `deflate-load`, which uses all of it")]
mod process;
mod secure;

use std::{net::SocketAddr, process::ExitCode};

use clap::Parser;

/// The result of a part of the work, or the reason why it failed.
type Outcome<T = ()> = Result<T, String>;

#[derive(Parser)]
#[command(about = "A load generator for WebSocket echo servers")]
#[allow(clippy::struct_excessive_bools, reason = "the switches of a command line")]
struct Arguments {
    /// The address of the server.
    addr: SocketAddr,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    conns: u32,
    /// Messages in flight on each connection: this many are sent in one write, and all echoes are awaited.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
    /// Payload bytes of a message; with `--idle` it may be given several times, and each size is echoed once in turn.
    #[arg(long, value_name = "BYTES")]
    size: Vec<usize>,
    /// Send ASCII text instead of binary messages.
    #[arg(long)]
    text: bool,
    /// Expect exactly the bytes that were sent, still masked: the server does not know frames.
    #[arg(long)]
    raw: bool,
    /// The duration of the measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// The duration of the warm-up.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.2)]
    warm_up: f64,
    /// Exchange this many messages on each connection, without a warm-up, instead of measuring for a time.
    #[arg(long, value_name = "N", conflicts_with_all = ["seconds", "warm_up"])]
    messages: Option<u64>,
    /// The server's process, whose CPU time or memory is measured.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Open this many connections and measure the memory of each while idle.
    #[arg(long, value_name = "N", requires = "server_pid")]
    idle: Option<u32>,
    /// The number of idle connections that other processes opened before: these take other source addresses.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "idle")]
    offset: u32,
    /// Stop opening idle connections if the machine has less memory available than this.
    #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "idle")]
    spare_memory: u64,
    /// Open the idle connections over TLS. Any certificate is accepted.
    #[arg(long, requires = "idle")]
    tls: bool,
    /// Keep the idle connections after each state until a line comes on standard input.
    #[arg(long, requires = "idle")]
    step: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    connection::raise_descriptor_limit();
    let outcome = match arguments.idle {
        Some(conns) => idle::run(&arguments, conns),
        None => load::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("loadgen: {reason}");
            ExitCode::FAILURE
        }
    }
}
