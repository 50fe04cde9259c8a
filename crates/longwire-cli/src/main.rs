//! WebSocket on the command line: a client with a prompt, a server, and a load test.
//!
//! Each module has one idea. [`args`] is the command line. [`client`] leads from it to a [`session`], whose
//! connection [`connect`] makes; [`prompt`] and [`input`] are the user's side of it, [`display`] and [`output`] the
//! other. [`listen`] is the server, [`bench`] the load test. The library has all rules of the protocol.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;

use crate::args::{Cli, Command};
use crate::status::Failure;

mod args;
mod bench;
mod client;
mod command;
mod connect;
mod display;
mod escape;
mod generate;
mod hex;
mod input;
mod json;
mod link;
mod listen;
mod notices;
mod output;
mod prompt;
mod report;
mod session;
mod signals;
mod source;
mod status;
mod style;
mod traffic;

fn main() -> ExitCode {
    let status = run(Cli::parse()).unwrap_or_else(|failure| report::failure(&failure));
    ExitCode::from(status)
}

fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        Some(Command::Completions { shell }) => generate::completions(shell).map(|()| 0),
        Some(Command::Man { command }) => generate::man(command.as_deref()).map(|()| 0),
        Some(Command::Listen(args)) => start(Builder::new_multi_thread(), listen::run(args)),
        Some(Command::Bench(args)) => start(Builder::new_multi_thread(), bench::run(args)),
        None => {
            let mut args = cli.connect;
            client::ask_password(&mut args.endpoint)?;
            start(Builder::new_current_thread(), client::run(&args))
        }
    }
}

/// Runs a task to its end, and drops the others: one that runs a command then ends it. Work that blocks, such as the
/// resolution of a name, is left behind.
fn start(mut builder: Builder, task: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = builder.enable_all().build().map_err(|error| Failure::other("cannot start", &error))?;
    let status = runtime.block_on(task);
    runtime.shutdown_timeout(Duration::from_millis(500));
    status
}
