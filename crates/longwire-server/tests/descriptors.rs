//! A server that runs out of descriptors continues when some are free again.

#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use common::{REQUEST, bind, check_echo, head, open, start, tcp};

/// The variable that makes this test run as the server, with few descriptors.
const ROLE: &str = "LONGWIRE_TEST_FEW_DESCRIPTORS";

const DESCRIPTORS: usize = 32;

#[tokio::test]
async fn a_server_without_descriptors_recovers() {
    if std::env::var_os(ROLE).is_some() {
        return serve().await;
    }
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit -n {DESCRIPTORS} && exec \"$0\" --exact a_server_without_descriptors_recovers --nocapture"
        ))
        .arg(this)
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let addr = lines.find_map(|line| line.unwrap().split("listening on ").nth(1)?.parse().ok()).unwrap();

    // More clients than the server has descriptors for: the last ones stay in its backlog and get no answer.
    let mut clients = Vec::new();
    let mut unanswered = 0;
    for _ in 0..DESCRIPTORS + 5 {
        let mut stream = tcp(addr).await;
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        match timeout(Duration::from_millis(200), head(&mut stream)).await {
            Ok(head) => assert!(head.starts_with("HTTP/1.1 101 "), "{head}"),
            Err(_) => unanswered += 1,
        }
        clients.push(stream);
    }
    assert!((1..DESCRIPTORS).contains(&unanswered), "{unanswered} were not answered");
    expect_echo(&mut clients[0]).await;
    drop(clients);
    let mut ws = open(addr).await;
    check_echo(&mut ws, "back again").await;

    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

async fn expect_echo(stream: &mut TcpStream) {
    stream.write_all(&common::text("still served")).await.unwrap();
    common::expect(stream, b"\x81\x0cstill served").await;
}

/// Serves until standard input ends.
async fn serve() {
    let server = start(bind().await);
    println!("\nlistening on {}", server.addr);
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    while !ended.is_finished() {
        sleep(Duration::from_millis(10)).await;
    }
    drop(server.handle.shutdown());
}
