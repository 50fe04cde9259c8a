//! Runs each example as a reader would. A test has the name of its example.
//!
//! `cargo xtask examples` builds the examples first. The tests run side by side: each has its own ports and files, and
//! a test that needs a fixed port has its own address.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xtask::{
    process::{PATIENCE, Running},
    programs::Program,
    setup::{self, Install, Python},
    workspace,
};

mod clients;
mod cluster;
mod endings;
mod logs;
mod monitoring;
mod mounted;

/// Returns the Python environment. Installing it is left to `cargo xtask examples`: these tests run side by side.
fn python() -> Result<Python> {
    setup::python(Install::Forbidden)
}

fn start(name: &'static str, arguments: &[&str]) -> Result<Running> {
    Running::start(name, Program::new(name, None)?.command().args(arguments))
}

fn start_server(name: &'static str, arguments: &[&str]) -> Result<(Running, String)> {
    let server = start(name, &[&["--listen", "127.0.0.1:0"], arguments].concat())?;
    let url = server.url()?;
    Ok((server, url))
}

fn interrupt(server: Running) -> Result<()> {
    server.interrupt()?;
    server.succeed(PATIENCE).map(drop)
}

fn expect_lines(program: Running, expected: &[&str]) -> Result<()> {
    let lines = program.succeed(PATIENCE)?;
    ensure!(lines == expected, "printed {lines:?}, expected {expected:?}");
    Ok(())
}

/// Expects a program to end on its own with a status, and with standard error that contains a text.
fn expect_failure(program: Running, status: i32, telling: &str) -> Result<()> {
    let ended = program.finish_with_open_stdin(PATIENCE)?;
    let stderr = ended.stderr.trim();
    let is_as_expected =
        ended.status.code() == Some(status) && !stderr.is_empty() && stderr.contains(telling);
    ensure!(is_as_expected, "was to end with status {status} and `{telling}`; {}: {stderr}", ended.status);
    Ok(())
}

/// Starts an example that takes its address as an argument.
fn start_at_port(name: &'static str, more: &[&str]) -> Result<(Running, String)> {
    let server = start(name, &[&["127.0.0.1:0"], more].concat())?;
    let url = server.url()?;
    Ok((server, url))
}

/// Starts an example that takes its address as an argument and does not report when it listens.
///
/// No other test has this address, so none can take the port in the meantime.
fn start_in_silence(name: &'static str) -> Result<(Running, String)> {
    let free = TcpListener::bind("127.0.0.3:0").and_then(|listener| listener.local_addr());
    let address = free.context("no port is free")?;
    let server = start(name, &[&address.to_string()])?;
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(begun.elapsed() <= PATIENCE, "{name} does not listen on {address}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((server, format!("ws://{address}")))
}

/// Checks that the server sends a greeting, and prints the messages it receives.
#[test]
fn text_server() -> Result<()> {
    let (server, url) = start_in_silence("text_server")?;
    let client = start("cat", &[&url])?;
    client.write_line("hello")?;
    expect_lines(client, &["something"])?;
    server.wait_for("what it was told", |line| (line == "received: hello").then_some(()))
}

/// Checks that the server sends five numbers, and adds up the numbers it receives.
#[test]
fn binary_server() -> Result<()> {
    let (_server, url) = start_at_port("binary_server", &[])?;
    let exchange = || -> io::Result<_> {
        let mut stream = TcpStream::connect(url.trim_start_matches("ws://").trim_end_matches('/'))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")?;
        // One number and one byte, then a close frame; the masks are zeros.
        stream.write_all(b"\x82\x85\0\0\0\0\0\0\xc0\x3f?\x88\x80\0\0\0\0")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().with_context(|| url.clone())?;
    let sum = b"\x81\x251 numbers, sum 1.5, 1 bytes left over\x88\x00";
    let numbers: Vec<u8> = [0.0_f32, 0.5, 1.0, 1.5, 2.0].map(f32::to_le_bytes).concat();
    ensure!(
        answer.ends_with(&[b"\x82\x14", &*numbers, sum].concat()),
        "{url} answered {}",
        answer.escape_ascii()
    );
    Ok(())
}

/// Checks that the server has a page, and sends figures to it.
#[test]
fn statistics() -> Result<()> {
    let (_server, url) = start_at_port("statistics", &[])?;
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let page = get(address).with_context(|| format!("{url} cannot be fetched"))?;
    if !page.starts_with("HTTP/1.1 200 ") || !page.contains("new WebSocket") {
        bail!("{url} is not the page: {page}");
    }
    let client = start("cat", &[&format!("ws://{address}")])?;
    let is_counted = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|line| line["clients"] == 1);
    client.wait_for("that it is counted", |line| is_counted(line).then_some(()))
}

/// Checks that the page gets prices, and that the slow client skips some.
#[test]
fn prices() -> Result<()> {
    let (_server, url) = start_at_port("prices", &[])?;
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let page = get(address).with_context(|| format!("{url} cannot be fetched"))?;
    ensure!(page.contains("new WebSocket"), "{url} is not the page: {page}");
    let client = start("cat", &[&format!("ws://{address}")])?;
    client.wait_for("a price", |line| line.contains(r#""symbol":"ACME""#).then_some(()))?;
    let skipped = |line: &str| serde_json::from_str::<Value>(line).ok()?["slow"]["skipped"].as_u64();
    client.wait_for("that prices were skipped", |line| (skipped(line)? > 0).then_some(()))
}

/// Checks that a client is told the reason for the shutdown.
#[test]
fn graceful_shutdown() -> Result<()> {
    let (server, url) = start_at_port("graceful_shutdown", &[])?;
    let client = start("cat", &[&url])?;
    client.write_line("hello")?;
    client.wait_for("an echo", |line| (line == "hello").then_some(()))?;
    server.interrupt()?;
    let ended = client.finish(PATIENCE)?;
    if !ended.stderr.contains("1012") || !ended.stderr.contains("back in a minute") {
        bail!("the client was to be told: {}", ended.stderr.trim());
    }
    let lines = server.succeed(PATIENCE)?;
    ensure!(
        lines.last().map(String::as_str) == Some("1 clients in total, none left: true"),
        "it printed {lines:?}"
    );
    Ok(())
}

/// Checks that a newcomer is announced to all clients, and that a message reaches all except its sender.
#[test]
fn send_to_all() -> Result<()> {
    let (_server, url) = start_at_port("send_to_all", &[])?;
    let ada = start("cat", &[&url])?;
    ada.wait_for("that it is here", |line| (line == "client 1 is here").then_some(()))?;
    let grace = start("cat", &[&url])?;
    for client in [&ada, &grace] {
        client.wait_for("that the second is here", |line| (line == "client 2 is here").then_some(()))?;
    }
    grace.write_line("hello")?;
    ada.wait_for("what the other says", |line| (line == "hello").then_some(()))?;
    expect_lines(grace, &[])
}

/// Checks that the server trusts the proxy on this machine.
#[test]
fn client_address() -> Result<()> {
    let (_server, url) = start_at_port("client_address", &[])?;
    let behind = start("cat", &["--header", "X-Forwarded-For: 198.51.100.7, 203.0.113.9", &url])?;
    behind
        .wait_for("the client's address", |line| line.ends_with("client Some(203.0.113.9)").then_some(()))?;
    let bare = start("cat", &[&url])?;
    bare.wait_for("the peer's address", |line| line.ends_with("client Some(127.0.0.1)").then_some(()))
}

/// Checks that a client that answers pings stays connected; testing the other case would take half a minute.
#[test]
fn heartbeat() -> Result<()> {
    let (_server, url) = start_at_port("heartbeat", &[])?;
    let client = start("cat", &[&url])?;
    client.write_line("nobody answers")?;
    expect_lines(client, &[])
}

/// Checks that only known clients are let in.
#[test]
fn auth() -> Result<()> {
    let (_server, url) = start_at_port("auth", &[])?;
    let with = |credentials: &str| url.replace("ws://", &format!("ws://{credentials}@"));
    let ada = start("cat", &[&with("ada:lovelace")])?;
    ada.write_line("hi")?;
    expect_lines(ada, &["hello, Ada", "Ada says: hi"])?;
    for (url, status) in [(&url, "401"), (&with("ada:wrong"), "401"), (&with("mallory:eve"), "403")] {
        expect_failure(start("cat", &[url])?, 1, status).with_context(|| url.clone())?;
    }
    Ok(())
}

/// Checks TLS with clients that trust the server's certificate, and with clients that do not.
#[test]
fn tls_server() -> Result<()> {
    let file = workspace::target()?.join("tls_server.pem").display().to_string();
    let (_server, url) = start_at_port("tls_server", &[&file])?;
    let mut client = python()?.script("python/tls_client.py");
    let client = Running::start("websockets", client.args([&url, &file, "over TLS"]))?;
    expect_lines(client, &["the connection is encrypted", "over TLS"])?;

    for trust in [&["--ca", &file][..], &["--insecure"]] {
        let client = start("cat", &[trust, &[&url]].concat())?;
        client.write_line("over TLS")?;
        expect_lines(client, &["the connection is encrypted", "over TLS"])?;
    }
    let other_host = url.replace("127.0.0.1", "127.0.0.2");
    for (arguments, told) in [(&[&*url][..], "certificate"), (&["--ca", &file, &other_host], "")] {
        expect_failure(start("cat", arguments)?, 1, told).with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

/// Checks that the server echoes on one thread and on several, and ends on SIGINT.
#[test]
fn echo() -> Result<()> {
    for threads in ["1", "2"] {
        let (server, url) = start_server("echo", &["--threads", threads])?;
        let client = start("cat", &[&url])?;
        client.write_line("are you there?")?;
        expect_lines(client, &["are you there?"])?;
        interrupt(server)?;
    }
    let socket = workspace::target()?.join("echo.socket").display().to_string();
    let server = start("echo", &["--unix", &socket])?;
    server.wait_for("its socket", |line| line.contains("ws+unix:").then_some(()))?;
    let client = start("cat", &[&format!("ws+unix:{socket}:/")])?;
    client.write_line("over a file")?;
    expect_lines(client, &["over a file"])?;
    interrupt(server)?;

    let (server, url) = start_server("echo", &["--max-message", "10"])?;
    let client = start("cat", &[&url])?;
    client.write_line("eleven bytes are too many")?;
    expect_failure(client, 1, "1009").context("a message over the limit")?;
    interrupt(server)
}

#[test]
fn lend() -> Result<()> {
    for threads in ["1", "2"] {
        let (server, url) = start_server("lend", &["--threads", threads])?;
        let client = start("cat", &[&url])?;
        client.write_line("are you there?")?;
        expect_lines(client, &["are you there?"])?;
        interrupt(server)?;
    }
    Ok(())
}

/// Checks that each reply is shown as it arrives, and that errors in the command line are reported.
#[test]
fn cat() -> Result<()> {
    let (server, url) = start_server("echo", &[])?;
    let client = start("cat", &[&url])?;
    for line in ["one", "", "three"] {
        client.write_line(line)?;
        let reply = client.next_line(PATIENCE)?;
        ensure!(reply.as_deref() == Some(line), "sent {line:?}, got {reply:?}");
    }
    expect_lines(client, &[])?;

    // The server closes first, with 1001, while standard input is open.
    let client = start("cat", &[&url])?;
    client.write_line("still open")?;
    client.next_line(PATIENCE)?;
    interrupt(server)?;
    let ended = client.finish_with_open_stdin(PATIENCE)?;
    ensure!(
        ended.status.success(),
        "a close with 1001 was to end cat; {}: {}",
        ended.status,
        ended.stderr.trim()
    );

    for (arguments, status) in [(&["no URL at all"][..], 1), (&[], 2), (&["--no-such-flag", &url], 2)] {
        expect_failure(start("cat", arguments)?, status, "").with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

/// Checks that every client except the sender gets a message.
#[test]
fn broadcast() -> Result<()> {
    let (server, url) = start_server("broadcast", &[])?;
    let ada = start("cat", &[&url])?;
    let grace = start("cat", &[&url])?;
    // The only sign that both are connected is that a message from one reaches the other.
    let deadline = Instant::now() + PATIENCE;
    let heard = loop {
        grace.write_line("Grace was here")?;
        if let Some(line) = ada.try_line(Duration::from_millis(200)) {
            break line;
        }
        ensure!(Instant::now() <= deadline, "what one client says does not reach the other");
    };
    ensure!(heard == "Grace was here", "one client said `Grace was here`, the other heard `{heard}`");
    ada.write_line("Ada was here")?;
    expect_next(&grace, "Ada was here")?;
    let own = ada.succeed(PATIENCE)?.into_iter().find(|line| line != "Grace was here");
    if let Some(own) = own {
        bail!("a client was sent its own message `{own}`");
    }
    expect_lines(grace, &[])?;
    interrupt(server)
}

/// Checks that a client that enters a room receives its newest lines, and no further lines after it has left.
#[test]
fn chat() -> Result<()> {
    let (server, url) = start_server("chat", &[])?;
    let client = |name: &str| start("cat", &[&format!("{}/{name}", url.trim_end_matches('/'))]);
    let expect =
        |program: &Running, lines: &[&str]| lines.iter().try_for_each(|line| expect_next(program, line));
    let ada = client("ada")?;
    expect(&ada, &["* lobby, so far:", "* ada joined"])?;
    let grace = client("grace")?;
    expect(&grace, &["* lobby, so far:", "* ada joined", "* grace joined"])?;
    ada.write_line("hello")?;
    expect(&ada, &["* grace joined", "ada: hello"])?;
    expect(&grace, &["ada: hello"])?;
    grace.write_line("/join tea")?;
    expect(&grace, &["* tea, so far:", "* grace joined"])?;
    expect(&ada, &["* grace left"])?;
    ada.write_line("anybody?")?;
    expect(&ada, &["ada: anybody?"])?;
    expect_lines(grace, &[])?;
    expect_lines(ada, &[])?;
    interrupt(server)
}

fn expect_next(program: &Running, expected: &str) -> Result<()> {
    let line = program.next_line(PATIENCE)?;
    ensure!(line.as_deref() == Some(expected), "printed {line:?}, not {expected:?}");
    Ok(())
}

/// Checks that the page is served; `cargo xtask browser` uses it.
#[test]
fn demo() -> Result<()> {
    let (server, url) = start_server("demo", &[])?;
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let page = get(address).with_context(|| format!("{url} cannot be fetched"))?;
    if !page.starts_with("HTTP/1.1 200 ") || !page.contains("id=\"echo-input\"") {
        bail!("{url} is not the page: {}", page.lines().next().unwrap_or_default());
    }
    newcomers_miss_nothing(&format!("ws://{address}/chat"))?;
    interrupt(server)
}

/// Checks that a client that joins a busy chat receives every message from some point on, once each and in the same
/// order as all others.
fn newcomers_miss_nothing(url: &str) -> Result<()> {
    const MESSAGES: usize = 200;
    let say = |member: &Running, text: &str| member.write_line(&format!(r#"{{"name":"x","text":"{text}"}}"#));
    let first = start("cat", &[url])?;
    let joined = || first.wait_for("that one has joined", |line| line.contains(" joined").then_some(()));
    joined()?;
    let speakers = [start("cat", &[url])?, start("cat", &[url])?];
    joined().and_then(|()| joined())?;
    let mut newcomers = Vec::new();
    for n in 0..MESSAGES {
        for (speaker, name) in speakers.iter().zip(["a", "b"]) {
            say(speaker, &format!("{name}{n}"))?;
        }
        if n % 20 == 0 {
            newcomers.push(start("cat", &[url])?);
        }
    }
    let mut all = Vec::new();
    while all.len() < 2 * MESSAGES {
        read_texts(&first, &mut all)?;
    }
    say(&first, "end")?;
    all.push("end".to_owned());
    for newcomer in &newcomers {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|text| text != "end") {
            read_texts(newcomer, &mut heard)?;
        }
        let same = all.iter().rev().zip(heard.iter().rev()).take_while(|(all, heard)| all == heard).count();
        if same < heard.len() {
            let (all, heard) = (&all[all.len() - same - 1], &heard[heard.len() - same - 1]);
            bail!("a newcomer heard `{heard}` where the others did `{all}`, {same} messages before the last");
        }
    }
    Ok(())
}

/// Reads the texts of the next line; the line with the history contains several.
fn read_texts(member: &Running, texts: &mut Vec<String>) -> Result<()> {
    let line = member.next_line(PATIENCE)?.context("a member of the chat was dropped")?;
    let line: Value = serde_json::from_str(&line)?;
    let history = line["history"].as_array().into_iter().flatten();
    let found = history.chain([&line]).filter_map(|said| said["text"].as_str());
    texts.extend(found.map(str::to_owned));
    Ok(())
}

/// Checks that a login permits a socket, and that the logout closes it.
#[test]
fn session() -> Result<()> {
    let (server, url) = start_server("session", &[])?;
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let login = request(address, "POST /login", "");
    let login = login.with_context(|| format!("{url} cannot be fetched"))?;
    let cookie = login.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
    let cookie = format!("Cookie: {}", cookie.context("the login sets no cookie")?);
    let client = start("cat", &["--header", &cookie, &format!("ws://{address}/ws")])?;
    expect_next(&client, "session 1")?;
    request(address, "POST /logout", &format!("{cookie}\r\n"))
        .with_context(|| format!("{url} cannot be fetched"))?;
    let ended = client.finish(PATIENCE)?;
    ensure!(
        ended.stderr.contains("1008"),
        "the logout was to close the socket with 1008: {}",
        ended.stderr.trim()
    );
    interrupt(server)
}

fn get(address: &str) -> io::Result<String> {
    request(address, "GET /", "")
}

fn request(address: &str, what: &str, fields: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{what} HTTP/1.1\r\nHost: {address}\r\n{fields}Connection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}
