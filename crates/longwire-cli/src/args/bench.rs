//! Options of `longwire bench`.

use std::time::Duration;

use clap::Args;

use super::Endpoint;
use super::values::{duration, size};
use crate::style::ColorChoice;

/// Options of `longwire bench`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The server must send each message back. Each connection sends a message when the last one has come back; with \
--in-flight, several are on their way at a time. Times are from sending a message until all of it is back.

Examples:
  longwire listen --echo 8080 &
  longwire bench --connections 50 --size 1k --duration 10 ws://localhost:8080")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// The number of connections
    #[arg(
        short,
        long,
        value_name = "N",
        default_value = "10",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) connections: u32,
    /// The time for sending, in seconds unless a unit is given (ms, s, m, h)
    #[arg(short, long, value_name = "TIME", default_value = "5", value_parser = duration)]
    pub(crate) duration: Duration,
    /// The size of a message, in bytes unless a unit is given (k, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = size)]
    pub(crate) size: usize,
    /// The number of messages on their way on each connection
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) in_flight: u32,
    /// Send binary messages instead of text
    #[arg(short, long)]
    pub(crate) binary: bool,
    /// Load a server that is not on this machine. Do so only with its owner's consent
    #[arg(long)]
    pub(crate) yes_i_may: bool,
    /// Use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: ColorChoice,
}
