//! The examples that are mounted on other servers.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use xtask::process::PATIENCE;

use super::{expect_failure, expect_lines, expect_next, get, interrupt, start, start_server};

/// Checks JSON and a chat at one path, for known clients.
#[test]
fn axum_chat() -> Result<()> {
    let (server, url) = start_server("axum_chat", &[])?;
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let json = get(address).with_context(|| format!("{url} cannot be fetched"))?;
    ensure!(json.contains(r#""msg":"hello""#), "{url} is not the JSON: {json}");
    let ada = start("cat", &[&format!("ws://{address}/?access_token=ada")])?;
    expect_next(&ada, "something")?;
    let grace = start("cat", &["--header", "Cookie: a=b; session=grace", &format!("ws://{address}/")])?;
    expect_next(&grace, "something")?;
    ada.write_line("hello")?;
    expect_next(&grace, "ada: hello")?;
    grace.write_line("hello too")?;
    expect_next(&ada, "grace: hello too")?;
    expect_lines(ada, &[])?;
    expect_lines(grace, &[])?;
    expect_failure(start("cat", &[&format!("ws://{address}/")])?, 1, "401").context("a stranger")?;
    interrupt(server)
}

/// Checks that two endpoints do not affect each other.
#[test]
fn endpoints() -> Result<()> {
    let (server, url) = start_server("endpoints", &[])?;
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let at = |path: &str| start("cat", &[&format!("ws://{address}{path}")]);
    let (echo, ada, grace, other) = (at("/echo")?, at("/chat/blue")?, at("/chat/blue")?, at("/chat/red")?);
    echo.write_line("hello")?;
    expect_next(&echo, "hello")?;
    let three_chat = |counts: &str| counts.contains(r#""echo":1"#) && counts.contains(r#""chat":3"#);
    wait_until("all are there", || get(address).is_ok_and(|counts| three_chat(&counts)))?;
    ada.write_line("blue")?;
    expect_next(&grace, "blue")?;
    // A message to the wrong client would be a line of its output.
    for client in [echo, ada, grace, other] {
        expect_lines(client, &[])?;
    }
    let long = at("/chat/blue")?;
    long.write_line(&"x".repeat(1001))?;
    let refused = long.finish(PATIENCE)?;
    ensure!(refused.stderr.contains("1009"), "a long message was to meet 1009: {}", refused.stderr.trim());
    interrupt(server)
}

/// Checks the echo, compressed and not.
#[test]
fn hyper_echo() -> Result<()> {
    for arguments in [&[][..], &["--deflate"]] {
        let (server, url) = start_server("hyper_echo", arguments)?;
        let client = start("cat", &[&url])?;
        client.write_line("are you there?")?;
        expect_lines(client, &["are you there?"])?;
        interrupt(server)?;
    }
    Ok(())
}

/// Repeats a check until it succeeds.
fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        ensure!(Instant::now() <= deadline, "it never came to be that {what}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
