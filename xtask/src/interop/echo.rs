//! The `echo` example with clients of Node's `ws`, undici and Python's `websockets`.

use std::{process::Command, time::Duration};

use crate::{
    Outcome,
    process::{PATIENCE, Running},
    programs::Program,
};

use super::Peers;

/// Each client exchanges messages with the server, and is told goodbye when the server is interrupted.
///
/// Every client offers to compress; with `--deflate` the server accepts.
pub(super) fn run(echo: &Program, peers: &Peers) -> Outcome {
    run_with(echo, peers, &[], "uncompressed")?;
    run_with(echo, peers, &["--deflate"], "permessage-deflate")?;
    // What the server demands by itself.
    run_with(
        echo,
        peers,
        &["--deflate", "--no-context-takeover", "--window-bits", "10"],
        "permessage-deflate",
    )
}

fn run_with(echo: &Program, peers: &Peers, options: &[&str], compression: &str) -> Outcome {
    let mut command = echo.command();
    let server = Running::start(echo.name(), command.args(["--listen", "127.0.0.1:0"]).args(options))?;
    let url = server.url()?;

    for (name, client) in clients(peers) {
        let lines = Running::start(name, client("exchange").arg(&url))?.succeed(LIMIT)?.join(" ");
        println!("echo with {name}: {lines}");
        // Some tell the agreement's parameters behind its name.
        if !lines.rsplit(", ").next().is_some_and(|agreed| agreed.starts_with(compression)) {
            return Err(format!("echo {options:?} with {name}: {compression} was expected"));
        }
    }

    let mut waiting = Vec::new();
    for (name, client) in clients(peers) {
        let client = Running::start(name, client("farewell").arg(&url))?;
        client.wait_for("that it is connected", |line| (line == "ready").then_some(()))?;
        waiting.push((name, client));
    }
    server.interrupt()?;
    for (name, client) in waiting {
        let lines = client.succeed(LIMIT)?;
        if lines != ["closed with 1001"] {
            return Err(format!(
                "{name} was to be closed with 1001 on SIGINT, it tells: {}",
                lines.join(" ")
            ));
        }
    }
    // In its last lines the server tells what it counted.
    server.succeed(PATIENCE)?;
    println!("echo on SIGINT: every client closed with 1001, exit status 0");
    Ok(())
}

/// The name of each client, and the command that has it do a task.
fn clients(peers: &Peers) -> [(&'static str, impl Fn(&str) -> Command); 3] {
    let client = |name: &'static str| {
        let command = move |task: &str| {
            let mut command = match name {
                "websockets" => peers.python.script("python/client.py"),
                _ => peers.node.script("client.js"),
            };
            if name != "websockets" {
                command.arg(name);
            }
            command.arg(task);
            command
        };
        (name, command)
    };
    [client("ws"), client("undici"), client("websockets")]
}

const LIMIT: Duration = Duration::from_secs(120);
