//! The example of several nodes, with each of its brokers.

use std::{
    env, fmt, fs,
    net::TcpListener,
    path::PathBuf,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use anyhow::{Context, Result, ensure};
use xtask::{
    process::{PATIENCE, Running},
    setup::{self, Brokers, Install},
};

use super::{expect_failure, expect_lines, expect_next, get, interrupt, request, start, start_server};

/// Checks a room on two nodes that are linked by NATS, and that they notice when it goes away and comes back.
#[test]
fn cluster() -> Result<()> {
    let Brokers { nats, .. } = brokers()?;
    let broker = |port: u16| {
        let mut command = Command::new(&nats);
        command.args(["--addr", "127.0.0.1", "--port"]).arg(port.to_string());
        command
    };
    check("nats", broker)
}

/// The same with Redis.
#[test]
fn cluster_over_redis() -> Result<()> {
    let Brokers { redis, .. } = brokers()?;
    let broker = |port: u16| {
        let mut command = Command::new(&redis);
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(port.to_string());
        command
    };
    check("redis", broker)
}

/// Checks positions, and that a client resumes after one, over NATS: also while the broker is away.
#[test]
fn cluster_with_history() -> Result<()> {
    let Brokers { nats, .. } = brokers()?;
    let store = Directory::new("nats")?;
    let broker = |port: u16| {
        let mut command = Command::new(&nats);
        command.args(["--addr", "127.0.0.1", "--jetstream", "--store_dir"]).arg(&store.0);
        command.arg("--port").arg(port.to_string());
        command
    };
    check_history("nats", broker)
}

/// The same with Redis.
#[test]
fn cluster_with_history_over_redis() -> Result<()> {
    let Brokers { redis, .. } = brokers()?;
    let store = Directory::new("redis")?;
    let broker = |port: u16| {
        let mut command = Command::new(&redis);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"]).arg(&store.0);
        command.arg("--port").arg(port.to_string());
        command
    };
    check_history("redis", broker)
}

/// Checks that a node without a broker serves its own clients, and names what is wrong with a broker.
#[test]
fn cluster_alone() -> Result<()> {
    let (node, url) = start_server("cluster", &[])?;
    let at = Place(url.trim_start_matches("ws://").trim_end_matches('/').to_owned());
    let clients = [at.join("tea")?, at.join("tea")?];
    wait_until("both are there", || Ok(at.members("tea")? == "{\"members\":2}"))?;
    clients[0].write_line("hello")?;
    expect_next(&clients[1], "hello")?;
    ensure!(at.health()?.starts_with("HTTP/1.1 200 "), "without a broker, nothing is away");
    let page = get(&at.0)?;
    ensure!(page.contains("A room on several nodes"), "not the page: {page}");
    clients.into_iter().try_for_each(|client| expect_lines(client, &[]))?;
    interrupt(node)?;
    let url = format!("nats://127.0.0.1:{}", free_port()?);
    expect_failure(start("cluster", &["--listen", "127.0.0.1:0", "--broker", &url])?, 1, "refused")
}

/// A directory for a broker's files, until it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("longwire-cluster-{name}-{}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client of a node with a history.
struct Member {
    client: Running,
    since: String,
}

impl Member {
    fn join(at: &Place, query: &str) -> Result<(Self, Value)> {
        let client = at.join(&format!("caf%C3%A9{query}"))?;
        let mut member = Self { client, since: String::new() };
        let joined = member.next()?;
        ensure!(joined["joined"] == "café", "not a welcome: {joined}");
        Ok((member, joined))
    }

    /// Receives a message in JSON, and remembers its position.
    fn next(&mut self) -> Result<Value> {
        let line = self.client.next_line(PATIENCE)?.context("the client has ended")?;
        let message: Value = serde_json::from_str(&line).context(line)?;
        if let Some(position) = message["position"].as_str() {
            position.clone_into(&mut self.since);
        }
        Ok(message)
    }

    fn expect(&mut self, data: &str) -> Result<()> {
        let message = self.next()?;
        ensure!(message["data"] == data && message["position"].is_string(), "not {data}: {message}");
        ensure!(message.as_object().is_some_and(|fields| fields.len() == 2), "more fields: {message}");
        Ok(())
    }
}

fn check_history(scheme: &str, broker: impl Fn(u16) -> Command) -> Result<()> {
    let port = free_port()?;
    let running = Running::start(scheme, &mut broker(port))?;
    let url = format!("{scheme}://127.0.0.1:{port}");
    let node = || -> Result<_> {
        let begun = Instant::now();
        loop {
            // The broker may not listen yet.
            match start_server("cluster", &["--broker", &url, "--history", "5"]) {
                Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(50)),
                started => break started,
            }
        }
    };
    let (one, other) = (node()?, node()?);
    let at =
        [&one, &other].map(|(_, url)| Place(url.trim_start_matches("ws://").trim_end_matches('/').into()));
    let (mut near, joined) = Member::join(&at[0], "")?;
    ensure!(joined["recovered"] == false, "nothing was asked for: {joined}");
    let (mut far, _) = Member::join(&at[1], "?since=")?;
    near.client.write_line("one")?;
    far.expect("one")?;
    far.client.write_line("two")?;
    near.expect("two")?;
    let after_two = near.since.clone();

    // While the broker is away, one is published, which waits; a client leaves, and comes back at the other node.
    drop(running);
    wait_until("the nodes notice that the broker is away", || {
        Ok(at[0].health()?.starts_with("HTTP/1.1 503 ") && at[1].health()?.starts_with("HTTP/1.1 503 "))
    })?;
    far.client.write_line("three")?;
    expect_lines(near.client, &[])?;
    let _running = Running::start(scheme, &mut broker(port))?;
    wait_until("the nodes notice that it is back", || {
        Ok(at[0].health()?.starts_with("HTTP/1.1 200 ") && at[1].health()?.starts_with("HTTP/1.1 200 "))
    })?;
    let (mut near, joined) = Member::join(&at[1], &format!("?since={after_two}"))?;
    ensure!(joined["recovered"] == true && joined["position"] == *after_two, "not recovered: {joined}");
    near.expect("three")?;
    near.client.write_line("four")?;
    far.expect("four")?;

    // More than the history keeps.
    let (mut late, _) = Member::join(&at[0], "")?;
    for number in 5..10 {
        near.client.write_line(&number.to_string())?;
        far.expect(&number.to_string())?;
        late.expect(&number.to_string())?;
    }
    let (_, joined) = Member::join(&at[0], &format!("?since={after_two}"))?;
    ensure!(joined["recovered"] == false && joined["position"] == *late.since, "recovered: {joined}");
    ensure!(
        request(&at[0].0, "GET /rooms/caf%C3%A9?since=x", "")?.contains("\"members\""),
        "a request for the number of members has no position"
    );
    // A client that asks for something that is no position is refused.
    expect_failure(at[0].join("caf%C3%A9?since=x")?, 1, "400")?;
    interrupt(one.0)?;
    interrupt(other.0)
}

fn brokers() -> Result<Brokers> {
    setup::brokers(Install::Forbidden)
}

/// The address of a node.
struct Place(String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Place {
    fn join(&self, room: &str) -> Result<Running> {
        start("cat", &[&format!("ws://{self}/rooms/{room}")])
    }

    fn members(&self, room: &str) -> Result<String> {
        let response = request(&self.0, &format!("GET /rooms/{room}"), "")?;
        Ok(response.split_once("\r\n\r\n").context("the response has no body")?.1.to_owned())
    }

    fn health(&self) -> Result<String> {
        Ok(request(&self.0, "GET /health", "")?)
    }
}

fn check(scheme: &str, broker: impl Fn(u16) -> Command) -> Result<()> {
    let port = free_port()?;
    let running = Running::start(scheme, &mut broker(port))?;
    let url = format!("{scheme}://127.0.0.1:{port}");
    let node = |name: &str| -> Result<_> {
        let arguments = ["--broker", &url, "--node", name];
        let begun = Instant::now();
        loop {
            // The broker may not listen yet.
            match start_server("cluster", &arguments) {
                Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(50)),
                started => break started,
            }
        }
    };
    let (one, other) = (node("one")?, node("other")?);
    let at =
        [&one, &other].map(|(_, url)| Place(url.trim_start_matches("ws://").trim_end_matches('/').into()));
    let (near, far) = (at[0].join("caf%C3%A9")?, at[1].join("caf%C3%A9")?);
    let elsewhere = at[1].join("tea")?;
    for place in &at {
        wait_until("both are counted", || Ok(place.members("caf%C3%A9")? == "{\"members\":2}"))?;
        ensure!(place.health()?.starts_with("HTTP/1.1 200 "), "the broker is there");
    }
    near.write_line("hello")?;
    expect_next(&far, "hello")?;
    far.write_line("hello too")?;
    expect_next(&near, "hello too")?;

    drop(running);
    wait_until("the nodes notice that the broker is away", || {
        Ok(at[0].health()?.starts_with("HTTP/1.1 503 ") && at[1].health()?.starts_with("HTTP/1.1 503 "))
    })?;
    let _running = Running::start(scheme, &mut broker(port))?;
    wait_until("the nodes notice that it is back", || {
        Ok(at[0].health()?.starts_with("HTTP/1.1 200 ") && at[1].health()?.starts_with("HTTP/1.1 200 "))
    })?;
    wait_until("both are counted again", || Ok(at[1].members("caf%C3%A9")? == "{\"members\":2}"))?;
    near.write_line("and again")?;
    expect_next(&far, "and again")?;
    expect_lines(near, &[])?;
    wait_until("the one that has left is not counted", || {
        Ok(at[1].members("caf%C3%A9")? == "{\"members\":1}")
    })?;
    expect_lines(far, &[])?;
    expect_lines(elsewhere, &[])?;
    interrupt(one.0)?;
    interrupt(other.0)
}

/// Returns a port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() <= deadline, "it never came to be that {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
