//! A long mixed load on a server, whose memory, descriptors and tasks are watched.
//!
//! This program is the load. It starts itself again as the server, so that the figures of the server's process are not
//! those of its clients. `cargo xtask soak` builds and starts it. It needs Linux (`/proc`).

#![forbid(unsafe_code)]

mod clients;
mod figures;
mod honest;
mod machine;
mod server;
mod verdict;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use server::Leak;

#[derive(Parser)]
struct Arguments {
    /// The length of the load in seconds, without the time in which the clients come and leave.
    #[arg(long, default_value_t = 7200)]
    seconds: u64,
    /// The number of clients.
    #[arg(long, default_value_t = 2000)]
    clients: usize,
    /// Makes the server leak something as connections end, to see the command fail.
    #[arg(long)]
    leak: Option<Leak>,
    /// Acts as the server.
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.serve { server::run(arguments.leak) } else { load(&arguments) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("soak: {reason:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn load(arguments: &Arguments) -> Result<()> {
    let mut server = figures::Process::start(arguments.leak).await?;
    let targets = server.targets();
    // A first crowd of the same size fills what stays and is used again: pools, and tables that never shrink.
    let crowd = clients::Crowd::start(arguments.clients, targets);
    crowd.complete().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    crowd.leave().await;
    let before = server.until_quiet(None).await?;
    println!("before the clients: {before}");

    let crowd = clients::Crowd::start(arguments.clients, targets);
    crowd.complete().await?;
    let honest = honest::Honest::start(targets.plain)?;
    let mut machine = machine::Machine::start();
    println!("{}", verdict::HEAD);
    let window = Duration::from_secs(arguments.seconds) / verdict::WINDOWS;
    let mut windows = Vec::new();
    for _ in 0..verdict::WINDOWS {
        let figures = server.watch(window).await?;
        if honest.has_stopped() {
            break;
        }
        let window = verdict::Window { figures, latency: honest.take(), lateness: machine.take() };
        println!("{window}");
        windows.push(window);
    }
    let connections = crowd.connections();
    honest.finish()?;
    crowd.leave().await;
    let after = server.until_quiet(Some(before)).await?;
    println!("after the clients: {after}");
    println!("{connections} connections in all");
    server.finish().await?;
    verdict::check(&windows, before, after)
}
