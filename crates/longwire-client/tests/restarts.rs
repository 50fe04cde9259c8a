//! A server that is killed and restarted while clients send to it over TCP. It is a separate process, killed as by
//! `kill -9`.
//!
//! The server writes each message to a file before it reads the next, and the file outlives it. A message that
//! [`Confirm::Pong`] reported as delivered must therefore be in the file, whenever the server was killed.

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use longwire_client::reconnect::{Backoff, Confirm, Phase, Reconnecting, Sender};
use longwire_client::{Client, Config, WebSocket};
use longwire_connection::Handover;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const ADDRESS: &str = "LONGWIRE_RESTARTS_ADDRESS";
const LOG: &str = "LONGWIRE_RESTARTS_LOG";
const SENDERS: usize = 4;

#[tokio::test]
async fn loses_nothing_that_it_said_was_delivered_to_a_server_that_is_killed() {
    run(Confirm::Pong, 5, Duration::from_millis(100)).await;
}

/// Runs for a minute with each confirmation:
/// `cargo test -p longwire-client --test restarts -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "takes two minutes"]
async fn loses_nothing_within_a_minute_of_twenty_kills() {
    run(Confirm::Pong, 20, Duration::from_millis(2900)).await;
    // For comparison: messages that were written but not read are lost. Their number varies.
    run(Confirm::Written, 20, Duration::from_millis(2900)).await;
}

async fn run(confirm: Confirm, kills: usize, life: Duration) {
    let began = Instant::now();
    let mut server = Server::new().await;
    let url = format!("ws://{}", server.address);
    let backoff =
        Backoff::default().with_first(Duration::from_millis(10)).with_max(Duration::from_millis(100));
    let ws = Client::new(url).reconnecting().backoff(backoff).confirm(confirm).start();
    let mut state = ws.phase();
    let stop = Arc::new(AtomicBool::new(false));
    let sending: Vec<_> =
        (0..SENDERS).map(|sender| tokio::spawn(send(ws.sender(), sender, Arc::clone(&stop)))).collect();
    let sent = Arc::new(AtomicBool::new(false));
    let receiving = tokio::spawn(receive(ws, Arc::clone(&sent)));

    for kill in 0..kills {
        server.start();
        let connected = state.wait_for(|state| matches!(state, Phase::Connected));
        timeout(PATIENCE, connected).await.expect("it connects").unwrap();
        // Vary the point at which the server is killed.
        sleep(life + Duration::from_millis(kill as u64 * 7 % 31)).await;
        server.kill();
        sleep(Duration::from_millis(kill as u64 * 13 % 50)).await;
    }
    server.start();
    stop.store(true, Ordering::Relaxed);
    let mut delivered = Vec::new();
    for sending in sending {
        delivered.push(timeout(PATIENCE, sending).await.expect("the last are delivered").unwrap());
    }
    sent.store(true, Ordering::Relaxed);
    let (mut ws, echoes) = timeout(PATIENCE, receiving).await.expect("the last echo comes").unwrap();
    assert_eq!(ws.gaps(), kills as u64, "each outage is told of");
    ws.close(1000, "").await.unwrap();
    server.kill();

    let logged = fs::read_to_string(&server.log).unwrap();
    let torn = logged
        .lines()
        .find(|line| line.split(' ').filter_map(|part| part.parse::<usize>().ok()).count() != 2);
    assert_eq!(torn, None, "each line is whole");
    let (mut lost, mut twice) = (0, 0);
    for (sender, delivered) in delivered.iter().enumerate() {
        let prefix = format!("{sender} ");
        let numbers: Vec<usize> =
            logged.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
        let mut next = 0;
        for &number in &numbers {
            if number < next {
                twice += 1;
            } else {
                lost += number - next;
                next = number + 1;
            }
        }
        assert!(next <= *delivered, "sender {sender}: it logs what was sent");
        lost += delivered - next;
    }
    let sent: usize = delivered.iter().sum();
    println!(
        "{confirm:?}: {kills} kills in {:?}: {sent} delivered, {lost} lost, {twice} came twice, {echoes} echoes came",
        began.elapsed(),
    );
    assert!(sent > 10 * kills, "it was at work: {sent}");
    if confirm == Confirm::Pong {
        assert_eq!(lost, 0, "of {sent}");
    }
}

/// Sends consecutive numbers in short and long messages, and returns how many were delivered.
async fn send(sender: Sender, number: usize, stop: Arc<AtomicBool>) -> usize {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return n;
        }
        let padding = ".".repeat([0, 10, 5000, 0, 100_000][n % 5]);
        sender.send(format!("{number} {n} {padding}")).await.expect("it never gives up");
    }
    unreachable!("the numbers do not end")
}

/// Receives until sending has ended and no echo arrives anymore, and returns the number of echoes.
async fn receive(mut ws: Reconnecting, sent: Arc<AtomicBool>) -> (Reconnecting, usize) {
    let mut echoes = 0;
    loop {
        match timeout(Duration::from_millis(200), ws.recv()).await {
            Ok(received) => {
                received.expect("it never gives up").expect("it is not closed");
                echoes += 1;
            }
            Err(_) if sent.load(Ordering::Relaxed) => return (ws, echoes),
            Err(_) => {}
        }
    }
}

/// The server, running or not.
struct Server {
    address: String,
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Chooses an address.
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = std::env::temp_dir().join(format!("longwire-{}-{}", std::process::id(), address.port()));
        Self { address: address.to_string(), log, process: None }
    }

    fn start(&mut self) {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--ignored"])
            .env(ADDRESS, &self.address)
            .env(LOG, &self.log)
            .stdout(Stdio::null())
            .spawn()
            .expect("this program runs again");
        self.process = Some(process);
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_file(&self.log);
    }
}

/// Not a test, but the server's process.
#[tokio::test]
#[ignore = "is run by the others"]
async fn server_process() {
    let (Ok(address), Ok(log)) = (std::env::var(ADDRESS), std::env::var(LOG)) else { return };
    let listener = loop {
        match TcpListener::bind(&address).await {
            Ok(listener) => break listener,
            // Another program may hold the port for a moment.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, Path::new(&log)).await;
    }
}

async fn serve(mut stream: TcpStream, log: &Path) {
    stream.set_nodelay(true).unwrap();
    let request = support::read_request(&mut stream).await;
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: {accept}\r\n\r\n";
    stream.write_all(&support::fill(answer, &request)).await.unwrap();
    let mut log = OpenOptions::new().append(true).create(true).open(log).unwrap();
    let mut ws = WebSocket::new(stream, Handover::server(), &Config::default());
    while let Ok(Some(message)) = ws.recv().await {
        let text = message.as_text().unwrap();
        let (what, _) = text.rsplit_once(' ').unwrap();
        // Data passed to the system survives the kill. This must be a single write: `writeln` would make two.
        log.write_all(format!("{what}\n").as_bytes()).unwrap();
        if ws.send(what).await.is_err() {
            return;
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
