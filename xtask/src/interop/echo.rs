//! Runs the `echo` example with clients of Node's `ws`, undici and Python's `websockets`.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
};

use super::{Peers, tls::Certificates};

/// Checks that each client exchanges messages with the server, and is closed with 1001 when the server is
/// interrupted.
///
/// Every client offers to compress; with `--deflate` the server accepts.
pub(super) fn run(echo: &Program, peers: &Peers, certificates: &Certificates) -> Result<()> {
    let ca = certificates.file("ca.pem");
    let [cert, key] = certificates.of_server("valid");
    for (options, compression) in [
        (&[][..], "uncompressed"),
        (&["--deflate"], "permessage-deflate"),
        // Demands that the server makes by itself.
        (&["--deflate", "--no-context-takeover", "--window-bits", "10"], "permessage-deflate"),
        (&["--tls-cert", &cert, "--tls-key", &key], "uncompressed"),
    ] {
        run_with(echo, peers, &ca, options, compression)?;
    }
    Ok(())
}

fn run_with(echo: &Program, peers: &Peers, ca: &str, options: &[&str], compression: &str) -> Result<()> {
    let mut command = echo.command();
    command.args(["--listen", "127.0.0.1:0"]).args(options);
    serve_clients(echo, &mut command, peers, ca, compression)
        .with_context(|| format!("{} {options:?}", echo.name()))
}

/// Starts an echo server, and runs each client with it.
pub(super) fn serve_clients(
    server: &Program,
    command: &mut Command,
    peers: &Peers,
    ca: &str,
    compression: &str,
) -> Result<()> {
    let program = server.name();
    let server = Running::start(program, command)?;
    let url = server.url()?;
    let over_tls = if url.starts_with("wss://") { " over TLS" } else { "" };

    for (name, client) in clients(peers, ca) {
        let lines = Running::start(name, client("exchange").arg(&url))?.succeed(LIMIT)?.join(" ");
        println!("{program}{over_tls} with {name}: {lines}");
        // Some clients add the negotiated parameters to the name of the extension.
        ensure!(
            lines.rsplit(", ").next().is_some_and(|agreed| agreed.starts_with(compression)),
            "{program} with {name}: {compression} was expected"
        );
    }

    let mut waiting = Vec::new();
    for (name, client) in clients(peers, ca) {
        let client = Running::start(name, client("farewell").arg(&url))?;
        client.wait_for("that it is connected", |line| (line == "ready").then_some(()))?;
        waiting.push((name, client));
    }
    server.interrupt()?;
    for (name, client) in waiting {
        let lines = client.succeed(LIMIT)?;
        ensure!(
            lines == ["closed with 1001"],
            "{name} was to be closed with 1001 on SIGINT, it tells: {}",
            lines.join(" ")
        );
    }
    // The server prints its counters last.
    server.succeed(PATIENCE)?;
    println!("{program} on SIGINT: every client closed with 1001, exit status 0");
    Ok(())
}

/// Returns the name of each client, and its command for a task. The client trusts the certificates in the file
/// `ca`.
pub(super) fn clients(peers: &Peers, ca: &str) -> [(&'static str, impl Fn(&str) -> Command); 3] {
    let client = |name: &'static str| {
        let command = move |task: &str| {
            let mut command = match name {
                "websockets" => peers.python.script("python/client.py"),
                _ => peers.node.script("client.js"),
            };
            if name != "websockets" {
                command.arg(name);
            }
            // Node reads the first, OpenSSL, and hence Python, the second.
            command.env("NODE_EXTRA_CA_CERTS", ca).env("SSL_CERT_FILE", ca).arg(task);
            command
        };
        (name, command)
    };
    [client("ws"), client("undici"), client("websockets")]
}

pub(super) const LIMIT: Duration = Duration::from_secs(120);
