//! A long mixed load on a server: the program `soak` has the clients, the server, and the bounds.

use anyhow::Result;
use xshell::cmd;

use crate::workspace::{self, shell};

/// The options of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The length of the load in seconds; two hours unless given.
    #[arg(long, conflicts_with = "quick")]
    seconds: Option<u64>,
    /// A load of one minute.
    #[arg(long)]
    quick: bool,
    /// Makes the server leak a `room` or a `task` with each connection, or a `descriptor` with each twentieth, to see
    /// the command fail.
    #[arg(long)]
    leak: Option<String>,
}

impl Arguments {
    /// The options of the check.
    pub(crate) fn quick() -> Self {
        Self { seconds: None, quick: true, leak: None }
    }
}

/// Puts a server under load, and fails if its memory grows, if anything is left, or if an honest client gets slow.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let seconds = if arguments.quick { 60 } else { arguments.seconds.unwrap_or(7200) }.to_string();
    let leak = arguments.leak.iter().flat_map(|leak| ["--leak", leak]);
    let sh = shell()?;
    cmd!(sh, "cargo build --profile checks --package soak").run()?;
    let program = workspace::target()?.join("checks/soak");
    Ok(cmd!(sh, "prlimit {DESCRIPTORS} {program} --seconds {seconds} {leak...}").run()?)
}

/// Descriptors for the clients and for the server; the colon keeps the upper limit unchanged.
const DESCRIPTORS: &str = "--nofile=4096:";
