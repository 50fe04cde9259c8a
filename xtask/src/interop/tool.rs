//! Runs the program `longwire` with servers and clients of Node's `ws` and Python's `websockets`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    process::{Ended, Running},
    programs::Program,
};

use super::{Peers, cat, echo, tls::Certificates};

/// Checks `longwire URL` with each server, and `longwire listen --echo` with each client.
pub(super) fn run(tool: &Program, peers: &Peers, certificates: &Certificates) -> Result<()> {
    let servers =
        [("ws", peers.node.script("server.js")), ("websockets", peers.python.script("python/server.py"))];
    for (name, mut command) in servers {
        let server = Running::start(name, &mut command)?;
        connect(tool, &server).with_context(|| format!("longwire with {name}"))?;
        println!(
            "longwire with {name}: lines, bytes and flags sent, a ping answered, closed with 1000 and 1001"
        );
    }
    let mut command = tool.command();
    command.args(["listen", "--echo", "127.0.0.1:0"]);
    let ca = certificates.file("ca.pem");
    echo::serve_clients(tool, &mut command, peers, &ca, "permessage-deflate").context("longwire listen")
}

fn connect(tool: &Program, server: &Running) -> Result<()> {
    let url = server.url()?;
    cat::echo_lines(tool, server, &url)?;
    cat::send_flags(tool, server, &url)?;

    let digits = execute(tool, &[&url, "--hex", "-x", "00 ff 1b 80"])?;
    ensure!(digits.lines == ["00ff1b80"], "bytes came back as {:?}", digits.lines);
    cat::expect_close_with(server, 1000)?;

    let ping = execute(tool, &[&url, "--verbose", "--slash", "-x", "/ping", "-x", "after it"])?;
    ensure!(ping.lines == ["after it"], "a line came back as {:?}", ping.lines);
    ensure!(ping.stderr.contains("pong after "), "no pong is reported: {}", ping.stderr);
    cat::expect_close_with(server, 1000)?;

    let close = execute(tool, &[&url, "--slash", "-x", "/close 1001 bye"])?;
    ensure!(close.status.code() == Some(0), "a close ended with {}: {}", close.status, close.stderr);
    cat::expect_close_with(server, 1001)?;

    let refused = execute(tool, &[&format!("{url}/forbidden")])?;
    ensure!(
        refused.status.code() == Some(3) && refused.stderr.contains("403"),
        "a refusal ended with {}: {}",
        refused.status,
        refused.stderr
    );
    Ok(())
}

/// Runs the program to its end, while its standard input stays open.
fn execute(tool: &Program, arguments: &[&str]) -> Result<Ended> {
    Running::start(tool.name(), tool.command().args(arguments))?.finish_with_open_stdin(LIMIT)
}

const LIMIT: Duration = Duration::from_secs(60);
