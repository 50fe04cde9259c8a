//! The examples that are clients, each with the `echo` example as its server.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use xtask::process::{PATIENCE, Running};

use super::{expect_lines, expect_next, interrupt, start, start_server};

/// Checks that the numbers come back unchanged.
#[test]
fn binary() -> Result<()> {
    let (server, url) = start_server("echo", &[])?;
    expect_lines(start("binary", &[&url])?, &["[0.0, 0.5, 1.0, 1.5, 2.0]"])?;
    interrupt(server)
}

/// Checks that the number of round trips is the requested one, and that the connection's beginning and end are
/// reported.
#[test]
fn round_trip() -> Result<()> {
    let (server, url) = start_server("echo", &[])?;
    let lines = start("round_trip", &["--count", "3", &url])?.succeed(PATIENCE)?;
    let [first, times @ .., last] = &lines[..] else { bail!("printed {lines:?}") };
    let are_times = times.iter().all(|line| line.starts_with("round trip: ") && line.ends_with('s'));
    ensure!(
        (first.as_str(), times.len(), are_times, last.as_str()) == ("connected", 3, true, "disconnected"),
        "printed {lines:?}"
    );
    interrupt(server)
}

/// Checks that the result of each send is reported, and that the example fails without a server.
#[test]
fn acknowledge() -> Result<()> {
    let (server, url) = start_server("echo", &[])?;
    let client = start("acknowledge", &[&url])?;
    expect_next(&client, "sent")?;
    client.wait_for("that it was read", |line| line.starts_with("read by the peer, ").then_some(()))?;
    expect_next(&client, "not sent: the connection was closed before")?;
    expect_lines(client, &[])?;
    interrupt(server)?;
    let ended = start("acknowledge", &[&url])?.finish(PATIENCE)?;
    if ended.status.code() != Some(1) || ended.stderr.is_empty() {
        bail!("without a server it was to end with status 1: {}", ended.status);
    }
    Ok(())
}

/// Checks that every byte of the input comes back.
#[test]
fn pipe() -> Result<()> {
    let (server, url) = start_server("echo", &[])?;
    let client = start("pipe", &[&url])?;
    let lines: Vec<String> = (0..20_000).map(|n| format!("line {n}")).collect();
    for line in &lines {
        client.write_line(line)?;
    }
    let printed = client.succeed(PATIENCE)?;
    ensure!(printed == lines, "{} lines came back of {}, or other ones", printed.len(), lines.len());
    interrupt(server)
}

/// Checks that the client reconnects when its server is back, and then delivers the messages it could not deliver
/// before.
#[test]
fn reconnect() -> Result<()> {
    // No other test has this address, so none can take the port while the server is away.
    let server = start("echo", &["--listen", "127.0.0.2:0"])?;
    let url = server.url()?;
    let address = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let client = start("reconnect", &[&url])?;
    // Separate tasks print these lines, so their order is not fixed. A short-lived state, such as an attempt, may
    // be missed.
    wait_for_each(&client, &["connected", "delivered 1"])?;
    interrupt(server)?;
    wait_for_each(&client, &["next attempt in "])?;
    let server = start("echo", &["--listen", &address])?;
    server.url()?;
    wait_for_each(&client, &["connected", "there was a gap of ", "received hello", "delivered "])?;
    client.interrupt()?;
    client.succeed(PATIENCE)?;
    interrupt(server)
}

/// Reads lines until each prefix in `expected` has matched one, in any order.
fn wait_for_each(client: &Running, expected: &[&str]) -> Result<()> {
    let mut missing = expected.to_vec();
    while !missing.is_empty() {
        let what = missing.join(", ");
        let found =
            client.wait_for(&what, |line| missing.iter().position(|begin| line.starts_with(begin)))?;
        missing.swap_remove(found);
    }
    Ok(())
}

/// Checks that the connection goes through either kind of proxy, and never bypasses it.
#[test]
fn proxy() -> Result<()> {
    let (server, url) = start_server("echo", &[])?;
    for (scheme, serve) in [("http", http as fn(TcpStream) -> _), ("socks5h", socks)] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let proxy = format!("{scheme}://{address}");
        let proxying = thread::spawn(move || serve(listener.accept()?.0));
        expect_lines(start_through(&proxy, &url)?, &["connected", "through the proxy"])?;
        let proxied = proxying.join().map_err(|_| anyhow!("the {scheme} proxy panicked"))?;
        proxied.with_context(|| format!("nobody came through the {scheme} proxy"))?;
        // The proxy is gone now.
        let ended = start_through(&proxy, &url)?.finish(PATIENCE)?;
        ensure!(
            ended.status.code() == Some(1),
            "without the {scheme} proxy it was to end with status 1: {}",
            ended.status
        );
    }
    interrupt(server)
}

fn start_through(proxy: &str, url: &str) -> Result<Running> {
    start("proxy", &[proxy, url])
}

/// Serves one connection as an HTTP proxy that receives CONNECT (RFC 9110 §9.3.6).
fn http(client: TcpStream) -> io::Result<()> {
    let mut head = BufReader::new(client);
    let mut request = String::new();
    head.read_line(&mut request)?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let server = TcpStream::connect(target.unwrap_or_default())?;
    let mut client = head.into_inner();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    join(client, server)
}

/// Serves one connection as a SOCKS 5 proxy (RFC 1928) that receives a name or an IPv4 address.
fn socks(mut client: TcpStream) -> io::Result<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting)?;
    client.read_exact(&mut vec![0; greeting[1].into()])?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 4];
    client.read_exact(&mut request)?;
    let host = if request[3] == 1 {
        let mut address = [0; 4];
        client.read_exact(&mut address)?;
        std::net::Ipv4Addr::from(address).to_string()
    } else {
        let mut len = [0];
        client.read_exact(&mut len)?;
        let mut name = vec![0; len[0].into()];
        client.read_exact(&mut name)?;
        String::from_utf8_lossy(&name).into_owned()
    };
    let mut port = [0; 2];
    client.read_exact(&mut port)?;
    let server = TcpStream::connect((host, u16::from_be_bytes(port)))?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    join(client, server)
}

/// Forwards bytes in both directions until one ends.
fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        to_client.shutdown(std::net::Shutdown::Write)
    });
    let (mut from_client, mut to_server) = (client, server);
    io::copy(&mut from_client, &mut to_server)?;
    to_server.shutdown(std::net::Shutdown::Write)
}
