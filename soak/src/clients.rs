//! The clients, of ten kinds, which come back whenever their connection has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use longwire::{BoxError, Client, DeflateOptions, Message, reconnect::Event};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// The ports of the server.
#[derive(Clone, Copy)]
pub(crate) struct Targets {
    pub(crate) plain: u16,
    pub(crate) tls: u16,
}

/// All clients.
pub(crate) struct Crowd {
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    arrived: Arc<AtomicUsize>,
    connections: Arc<AtomicU64>,
}

impl Crowd {
    /// Starts this number of clients.
    pub(crate) fn start(count: usize, targets: Targets) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (arrived, connections) = (Arc::default(), Arc::default());
        let mut crowd = Self { stop, tasks: Vec::new(), arrived, connections };
        for number in 0..count {
            let visitor = Visitor {
                number,
                client: client(number, targets),
                arrived: Arc::clone(&crowd.arrived),
                connections: Arc::clone(&crowd.connections),
                has_arrived: false,
            };
            crowd.tasks.push(tokio::spawn(visitor.live(stopped.clone())));
        }
        crowd
    }

    /// Waits until each client has had a connection.
    pub(crate) async fn complete(&self) -> Result<()> {
        let began = Instant::now();
        while self.arrived.load(Ordering::Relaxed) < self.tasks.len() {
            ensure!(
                began.elapsed() < ARRIVAL,
                "only {} clients arrived",
                self.arrived.load(Ordering::Relaxed)
            );
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets all clients leave: each drops its connection.
    pub(crate) async fn leave(self) {
        sleep(Duration::from_millis(500)).await;
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// A third of the clients uses TLS, half of them compress.
fn client(number: usize, targets: Targets) -> Client {
    let round = number / 10;
    let client = if round.is_multiple_of(3) {
        let tls = longwire::client::TlsConfig::new().dangerously_accept_any_certificate();
        Client::new(format!("wss://localhost:{}/", targets.tls)).tls(tls)
    } else {
        Client::new(format!("ws://127.0.0.1:{}/", targets.plain))
    };
    let client = client.handshake_timeout(ARRIVAL);
    if round.is_multiple_of(2) { client.deflate(DeflateOptions::default()) } else { client }
}

struct Visitor {
    number: usize,
    client: Client,
    arrived: Arc<AtomicUsize>,
    connections: Arc<AtomicU64>,
    has_arrived: bool,
}

impl Visitor {
    async fn live(mut self, mut stopped: watch::Receiver<bool>) {
        // Not all at once.
        let arrival = Duration::from_millis(self.number as u64 * 3);
        let live = async {
            sleep(arrival).await;
            loop {
                // An end is part of the load: slow and half-open clients are dropped.
                let _ = self.visit().await;
                sleep(random(200, 1000)).await;
            }
        };
        tokio::select! {
            () = live => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    /// Lives through one connection.
    async fn visit(&mut self) -> Result<(), BoxError> {
        let kind = self.number % 10;
        if kind == 9 {
            return self.reconnect().await;
        }
        let (mut ws, _) = self.client.connect().await?;
        let visit = self.count();
        // One room of its own, and one with others.
        ws.send(format!("room own-{}-{visit}", self.number)).await?;
        ws.send(format!("room common-{}", self.number % 50)).await?;
        match kind {
            // Comes, says something, and leaves, with and without a closing handshake.
            6 => {
                for _ in 0..fastrand::u32(1..4) {
                    ws.send(text(100)).await?;
                    ws.recv().await?;
                }
                if fastrand::bool() {
                    ws.close(1000, "").await?;
                } else {
                    ws.abort();
                }
            }
            // Reads a message now and then.
            7 => {
                for _ in 0..fastrand::u32(10..60) {
                    ws.send(text(4000)).await?;
                    sleep(Duration::from_secs(1)).await;
                    ws.recv().await?;
                }
                ws.send("close").await?;
            }
            // Stops answering, and holds on to its socket.
            8 => sleep(random(3000, 15_000)).await,
            kind => {
                let size = if kind >= 4 { 3000 } else { 120 };
                for turn in 0..fastrand::u32(20..90) {
                    let message = if turn % 5 == 4 {
                        format!("say common-{} {}", self.number % 50, text(80))
                    } else {
                        text(size)
                    };
                    ws.send(message).await?;
                    let pause = random(1000, 3000);
                    let _ = timeout(pause, async { while let Ok(Some(_)) = ws.recv().await {} }).await;
                }
                ws.close(1000, "").await?;
            }
        }
        Ok(())
    }

    /// The client that reconnects by itself, and asks the server to close now and then.
    async fn reconnect(&mut self) -> Result<(), BoxError> {
        let room = format!("room common-{}", self.number % 50);
        let mut ws = self
            .client
            .reconnecting()
            .on_connect(move |mut ws| {
                let room = room.clone();
                async move {
                    ws.send(room).await?;
                    Ok(ws)
                }
            })
            .start();
        let mut next = Instant::now();
        loop {
            if next <= Instant::now() {
                let message =
                    if fastrand::u32(0..10) == 0 { Message::text("close") } else { Message::text(text(300)) };
                ws.try_send(message)?;
                next = Instant::now() + random(1000, 3000);
            }
            match timeout(next.saturating_duration_since(Instant::now()), ws.next_event()).await {
                Ok(Ok(Some(Event::Message(_)))) if !self.has_arrived => drop(self.count()),
                Ok(Ok(Some(Event::Reconnected(_)))) => drop(self.count()),
                Ok(Ok(Some(_))) | Err(_) => {}
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(outage)) => return Err(format!("{outage:?}").into()),
            }
        }
    }

    /// Counts a connection and returns its number.
    fn count(&mut self) -> u64 {
        if !self.has_arrived {
            self.has_arrived = true;
            self.arrived.fetch_add(1, Ordering::Relaxed);
        }
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}

fn random(from: u64, to: u64) -> Duration {
    Duration::from_millis(fastrand::u64(from..to))
}

/// Returns a text that compresses as prose does.
fn text(len: usize) -> String {
    let mut text = String::with_capacity(len + 10);
    while text.len() < len {
        text.push_str(["soak ", "client ", "message ", "load "][fastrand::usize(0..4)]);
        text.push(char::from(fastrand::u8(b'a'..=b'z')));
    }
    text
}

/// The limit for all clients to arrive, on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(120);
