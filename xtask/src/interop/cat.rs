//! The `cat` example with servers of Node's `ws` and Python's `websockets`.

use std::{net::TcpListener, time::Duration};

use crate::{
    Outcome,
    process::{PATIENCE, Running},
    programs::Program,
};

use super::Peers;

/// Lines are echoed, flags reach the server, and failures are told as such.
pub(super) fn run(cat: &Program, peers: &Peers) -> Outcome {
    let servers =
        [("ws", peers.node.script("server.js")), ("websockets", peers.python.script("python/server.py"))];
    for (name, mut command) in servers {
        let server = Running::start(name, &mut command)?;
        let url = server.url()?;
        echo_lines(cat, &server, &url).map_err(|reason| format!("cat with {name}: {reason}"))?;
        send_flags(cat, &server, &url).map_err(|reason| format!("cat with {name}: {reason}"))?;
        let forbidden = format!("{url}/forbidden");
        fail(cat, &forbidden, "403").map_err(|reason| format!("cat with {name}: {reason}"))?;
        println!(
            "cat with {name}: {} lines echoed, flags sent, closed with 1000, 403 told",
            LENGTHS.len() + 1
        );
    }
    fail(cat, &refused_url()?, "refused")?;
    println!("cat with nobody: refused, exit status 1");
    Ok(())
}

/// Nothing, both sides of each change of the length encoding (RFC 6455 §5.2), and a message of many reads.
const LENGTHS: [usize; 6] = [0, 125, 126, 65_535, 65_536, 1 << 20];

/// Pipes lines through, and expects them back in order.
fn echo_lines(cat: &Program, server: &Running, url: &str) -> Outcome {
    let mut lines: Vec<_> = LENGTHS.iter().map(|&len| line_of(len)).collect();
    lines.push("aé€𝄞".to_owned());

    let running = Running::start(cat.name(), cat.command().arg(url))?;
    // All at once and then the end, as from a pipe: the replies are on their way when standard input ends.
    for line in &lines {
        running.write_line(line)?;
    }
    let received = running.succeed(LIMIT)?;
    for (i, line) in lines.iter().enumerate() {
        let reply = received.get(i).ok_or_else(|| {
            format!("{} lines were sent, {} came back before it ended", lines.len(), received.len())
        })?;
        if reply != line {
            return Err(format!("a line of {} bytes came back as another of {}", line.len(), reply.len()));
        }
    }
    if received.len() > lines.len() {
        return Err(format!("{} lines were sent, {} came back", lines.len(), received.len()));
    }
    expect_close(server)
}

/// A line of `len` bytes, no two neighbouring blocks of 26 bytes in which are equal.
fn line_of(len: usize) -> String {
    (0..len).map(|i| char::from(b'a' + u8::try_from((i + i / 26) % 26).unwrap_or_default())).collect()
}

/// Gives headers, an origin and a subprotocol, and has the server tell what it saw.
fn send_flags(cat: &Program, server: &Running, url: &str) -> Outcome {
    let flags = [
        ["--header", "X-Interop: a value"],
        ["--origin", "http://origin.example"],
        ["--subprotocol", "chat.example"],
    ];
    let url = format!("{url}/request");
    let running = Running::start(cat.name(), cat.command().args(flags.as_flattened()).arg(url))?;
    running.write_line("what did I ask for?")?;
    let received = running.succeed(LIMIT)?;
    let expected = "origin=http://origin.example subprotocol=chat.example x-interop=a value";
    if received != [expected] {
        return Err(format!("the server was to see `{expected}`, it saw `{}`", received.join("\n")));
    }
    expect_close(server)
}

fn expect_close(server: &Running) -> Outcome {
    match server.next_line(PATIENCE)?.as_deref() {
        Some("closed 1000") => Ok(()),
        other => Err(format!("the server was to see a close with 1000, it tells {other:?}")),
    }
}

/// Expects exit status 1, nothing on standard output, and a text on standard error that names what happened.
fn fail(cat: &Program, url: &str, telling: &str) -> Outcome {
    let ended = Running::start(cat.name(), cat.command().arg(url))?.finish(LIMIT)?;
    let told = ended.stderr.to_lowercase();
    if ended.status.code() != Some(1) || !told.contains(telling) || !ended.lines.is_empty() {
        return Err(format!(
            "{url} was to end with status 1 and a text with `{telling}` on standard error; {}, standard error \
             `{}`, {} lines on standard output",
            ended.status,
            ended.stderr.trim(),
            ended.lines.len()
        ));
    }
    Ok(())
}

/// The URL of a port that was free a moment ago.
pub(super) fn refused_url() -> Outcome<String> {
    let listener =
        TcpListener::bind("127.0.0.1:0").map_err(|error| format!("cannot find a free port: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("cannot find a free port: {error}"))?;
    Ok(format!("ws://{address}"))
}

const LIMIT: Duration = Duration::from_secs(60);
