//! Runs the `cat` example with servers of Node's `ws` and Python's `websockets`.

use std::{net::TcpListener, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
};

use super::{
    Peers,
    tries::{Expected, Try, run_all},
};

/// Checks that lines are echoed, flags reach the server, and failures are reported.
pub(super) fn run(cat: &Program, peers: &Peers) -> Result<()> {
    let servers =
        [("ws", peers.node.script("server.js")), ("websockets", peers.python.script("python/server.py"))];
    for (name, mut command) in servers {
        let server = Running::start(name, &mut command)?;
        let url = server.url()?;
        echo_lines(cat, &server, &url).with_context(|| format!("cat with {name}"))?;
        send_flags(cat, &server, &url).with_context(|| format!("cat with {name}"))?;
        let (forbidden, secure) = (format!("{url}/forbidden"), url.replace("ws://", "wss://"));
        let failures = [
            Try::new("a refusal", &[&forbidden], Expected::Failure("403")),
            Try::new("TLS with a server that has none", &[&secure], Expected::Failure("")),
        ];
        run_all(cat, &failures).with_context(|| format!("cat with {name}"))?;
        println!(
            "cat with {name}: {} lines echoed, flags sent, closed with 1000, 403 told",
            LENGTHS.len() + 1
        );
    }
    run_all(cat, &[Try::new("nobody", &[&refused_url()?], Expected::Failure("refused"))])?;
    println!("cat with nobody: refused, exit status 1");
    Ok(())
}

/// Zero, both sides of each change of the length encoding (RFC 6455 §5.2), and a message that takes many reads.
const LENGTHS: [usize; 6] = [0, 125, 126, 65_535, 65_536, 1 << 20];

/// Pipes lines through `cat`, and expects them back in order.
pub(super) fn echo_lines(cat: &Program, server: &Running, url: &str) -> Result<()> {
    let mut lines: Vec<_> = LENGTHS.iter().map(|&len| line_of(len)).collect();
    lines.push("aé€𝄞".to_owned());

    let running = Running::start(cat.name(), cat.command().arg(url))?;
    for line in &lines {
        running.write_line(line)?;
    }
    let received = running.succeed_after(lines.len(), LIMIT)?;
    for (i, line) in lines.iter().enumerate() {
        let reply = received.get(i).with_context(|| {
            format!("{} lines were sent, {} came back before it ended", lines.len(), received.len())
        })?;
        ensure!(reply == line, "a line of {} bytes came back as another of {}", line.len(), reply.len());
    }
    ensure!(received.len() <= lines.len(), "{} lines were sent, {} came back", lines.len(), received.len());
    expect_close(server)
}

/// Returns a line of `len` bytes in which no two adjacent blocks of 26 bytes are equal.
fn line_of(len: usize) -> String {
    (0..len).map(|i| char::from(b'a' + u8::try_from((i + i / 26) % 26).unwrap_or_default())).collect()
}

/// Passes headers, an origin and a subprotocol, and has the server report them.
pub(super) fn send_flags(cat: &Program, server: &Running, url: &str) -> Result<()> {
    let flags = [
        ["--header", "X-Interop: a value"],
        ["--origin", "http://origin.example"],
        ["--subprotocol", "chat.example"],
    ];
    let url = format!("{url}/request");
    let running = Running::start(cat.name(), cat.command().args(flags.as_flattened()).arg(url))?;
    running.write_line("what did I ask for?")?;
    let received = running.succeed_after(1, LIMIT)?;
    let expected = "origin=http://origin.example subprotocol=chat.example x-interop=a value";
    ensure!(received == [expected], "the server was to see `{expected}`, it saw `{}`", received.join("\n"));
    expect_close(server)
}

fn expect_close(server: &Running) -> Result<()> {
    expect_close_with(server, 1000)
}

/// Expects the server to report a client's close.
pub(super) fn expect_close_with(server: &Running, code: u16) -> Result<()> {
    match server.next_line(PATIENCE)? {
        Some(line) if line == format!("closed {code}") => Ok(()),
        other => Err(anyhow!("the server was to see a close with {code}, it tells {other:?}")),
    }
}

/// Returns the URL of a port that was free a moment ago.
pub(super) fn refused_url() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    let address = listener.local_addr().context("cannot find a free port")?;
    Ok(format!("ws://{address}"))
}

const LIMIT: Duration = Duration::from_secs(60);
