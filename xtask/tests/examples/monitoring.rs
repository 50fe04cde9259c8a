//! The examples that show a server at work, and the dashboard of the guide.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use xtask::{process::PATIENCE, workspace};

use super::{expect_failure, interrupt, request, start, start_server};

/// Checks that the dashboard shows exactly the metrics that the program exports once everything has happened: clients
/// that come, leave, are refused and are too slow.
#[test]
fn prometheus() -> Result<()> {
    let (server, url) = start_server("prometheus", &["--metrics", "127.0.0.1:0", "--max-clients", "3"])?;
    let metrics = server.wait_for("the address of the metrics", |line| {
        let address = line.strip_prefix("metrics on http://")?.strip_suffix("/metrics")?;
        Some(address.to_owned())
    })?;
    let address = url.trim_start_matches("ws://").trim_end_matches('/');
    let not_found = request(&metrics, "GET /", "")?;
    ensure!(not_found.starts_with("HTTP/1.1 404 "), "metrics have one path: {not_found}");

    let stalled = connect_and_stall(address, "/")?;
    let (speaker, listener) = (start("cat", &[&url])?, start("cat", &[&url])?);
    let count = |text: &str| value(text, "longwire_connections_opened_total");
    wait_until("three clients are counted", || {
        Ok(count(&request(&metrics, "GET /metrics", "")?) == Some(3.0))
    })?;
    expect_failure(start("cat", &[&url])?, 1, "503").context("a fourth client")?;

    let dashboard = fs_err::read_to_string(workspace::guide().join("grafana.json"))?;
    serde_json::from_str::<Value>(&dashboard).context("the dashboard is not JSON")?;
    let shown = names_in(&dashboard);
    let mut missing = shown.clone();
    let line = "x".repeat(1 << 16);
    // Messages until the client that does not read them is closed, which is the last thing to happen.
    let outcome = wait_until("every metric of the dashboard is exported", || {
        for _ in 0..16 {
            speaker.write_line(&line)?;
        }
        let text = request(&metrics, "GET /metrics", "")?;
        missing = shown.difference(&series(&text)).cloned().collect();
        Ok(missing.is_empty())
    });
    outcome.with_context(|| format!("the dashboard shows {missing:#?}"))?;
    let text = request(&metrics, "GET /metrics", "")?;
    for name in kinds(&text) {
        let is_shown = shown.iter().any(|shown| *shown == name || *shown == format!("{name}_bucket"));
        ensure!(is_shown, "the dashboard does not show {name}");
    }
    drop(stalled);
    drop((speaker, listener));
    interrupt(server)
}

/// Checks that the page is served, and that its data show a room, a client that does not read, the close codes and the
/// round trips.
#[test]
fn admin() -> Result<()> {
    let (server, url) = start_server("admin", &["--admin", "127.0.0.1:0"])?;
    let page = server.wait_for("the address of the page", |line| {
        line.strip_prefix("page on http://").map(str::to_owned)
    })?;
    let html = request(&page, "GET /", "")?;
    ensure!(html.starts_with("HTTP/1.1 200 ") && html.contains("Slowest clients"), "not the page: {html}");
    let address = url.trim_start_matches("ws://").trim_end_matches('/');
    let data = || -> Result<Value> {
        let response = request(&page, "GET /data", "")?;
        let body = response.split_once("\r\n\r\n").context("the response has no body")?.1;
        serde_json::from_str(body).with_context(|| response.clone())
    };

    let row = |members: usize| json!({ "name": "blue", "members": members });
    let _stalled = connect_and_stall(address, "/rooms/blue")?;
    // On a busy machine, clients that connect after its 101 could otherwise be registered before it.
    wait_until("it is the first client", || Ok(data()?["largest_rooms"][0] == row(1)))?;
    let room = format!("{}/rooms/blue", url.trim_end_matches('/'));
    let (speaker, listener) = (start("cat", &[&room])?, start("cat", &[&room])?);
    wait_until("the room has three members", || Ok(data()?["largest_rooms"][0] == row(3)))?;
    let line = "x".repeat(1 << 14);
    wait_until("the first client is the slowest", || {
        speaker.write_line(&line)?;
        let slowest = &data()?["slowest_clients"][0];
        Ok(slowest["id"] == 1 && slowest["queued"].as_u64() > Some(0))
    })?;
    speaker.succeed(PATIENCE)?;
    wait_until("a close code is counted", || Ok(data()?["close_codes"]["1000"] == 1))?;
    wait_until("a round trip is measured", || Ok(data()?["round_trips"]["median"].is_u64()))?;
    drop(listener);
    interrupt(server)
}

/// Opens a WebSocket from which nothing is read.
fn connect_and_stall(address: &str, path: &str) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Small, so that the server's queue fills up soon.
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&address.parse::<SocketAddr>()?.into())?;
    let mut stream = TcpStream::from(socket.try_clone()?);
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(answer.ends_with(b"101"), "not a WebSocket: {}", answer.escape_ascii());
    Ok(socket)
}

/// Returns the names of longwire's metrics in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let rest = text.match_indices("longwire_").map(|(start, _)| &text[start..]);
    let end = |text: &str| {
        text.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(text.len())
    };
    rest.map(|rest| rest[..end(rest)].to_owned()).collect()
}

/// Returns the names of the exported series.
fn series(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| !line.starts_with('#')).flat_map(names_in).collect()
}

/// Returns the names of the exported metrics; that of a histogram differs from those of its series.
fn kinds(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).flat_map(names_in).collect()
}

/// Returns the value of a series without labels.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Repeats a check until it succeeds.
fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() <= deadline, "it never came to be that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
