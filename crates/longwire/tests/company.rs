//! Many connections under a mixed load, with a watchdog.
//!
//! Sixteen connections over TCP and TLS, with and without compression, split in each of the three ways, with two
//! tasks at each end, messages of 1 B to 4 MiB in both directions, broadcasts and pings. Everything sent must be
//! received, in order and intact; no call may wait while there is nothing to wait for; and memory must not grow.
//!
//! The test runs for `LONGWIRE_COMPANY_SECONDS` (default 20; 3600 for an hour), a third of that on each of 2, 3 and 4
//! worker threads. `LONGWIRE_COMPANY_SEED` selects other sizes. With `--release`, it moves about thirty times as many
//! bytes.

#![cfg(all(
    feature = "client",
    feature = "server",
    feature = "deflate",
    any(feature = "rustls", feature = "aws-lc-rs")
))]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use longwire::BoxError;
use longwire::client::TlsConfig;
use longwire::{
    Client, DeflateOptions, HandlerResult, Hub, Message, MessageKind, Request, Sender, Server, SlowPolicy,
    Socket, Stats, WebSocket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;
use tokio::time::sleep;

/// The number of connections.
const CONNECTIONS: usize = 16;

/// The longest message.
const LONGEST: usize = 4 << 20;

/// The longest message that is compressed. Without optimization, compressing 4 MiB blocks a thread for a second.
const LONGEST_COMPRESSED: usize = if cfg!(debug_assertions) { 128 << 10 } else { LONGEST };

/// The longest time that a connection may go without moving a byte, and that a sending call may wait after the
/// other end has received everything. Only time in which the runtime runs timers counts.
const STALL: Duration = Duration::from_secs(2);

/// The longest time that a call may take, even if its connection moves bytes. Calls take up to about 1 s on a busy
/// machine.
const LONGEST_CALL: Duration = Duration::from_secs(20);

/// The factor and the number of bytes by which memory may grow between the first quarter and the last.
///
/// The amount in flight varies: in each of 32 directions, the sender, the queue and the receiver hold up to one
/// message of 4 MiB. A leak of 1 KiB per message exceeds this within ten minutes.
const GROWTH: (f64, u64) = (1.25, 64 << 20);

#[test]
fn connections_in_company_make_progress() {
    let seconds = std::env::var("LONGWIRE_COMPANY_SECONDS").map_or(20.0, |text| text.parse().unwrap());
    let seed = std::env::var("LONGWIRE_COMPANY_SEED").map_or(1, |text| text.parse().unwrap());
    let each = Duration::from_secs_f64(seconds / 3.0);
    for workers in 2..=4 {
        run(workers, each, seed + workers as u64);
    }
}

/// The way in which two tasks share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    /// [`WebSocket::split`].
    Own,
    /// [`StreamExt::split`].
    Futures,
    /// [`tokio::io::split`] of a [`longwire::ByteStream`].
    Bytes,
}

/// One of the connections.
struct Link {
    number: usize,
    split: Split,
    is_tls: bool,
    deflate: bool,
    up: Direction,
    down: Direction,
    /// The broadcasts that the client has received.
    broadcasts: AtomicU64,
    /// The barrier at which both ends of all connections start together: a handshake takes long on a busy runtime.
    connected: Arc<Barrier>,
    /// Handles of both ends, for the watchdog.
    handles: Mutex<Vec<(&'static str, Sender)>>,
    started: AtomicBool,
    finished: AtomicBool,
}

/// One direction of a connection, and the two tasks that serve it.
struct Direction {
    seed: u64,
    longest: usize,
    /// The messages still to be received, if they arrive as messages.
    due: Mutex<Messages>,
    /// The number of messages whose sending has begun.
    begun: AtomicU64,
    /// The number of messages received; for byte streams, of those whose last byte was received.
    received: AtomicU64,
    /// Whether no further message will begin.
    complete: AtomicBool,
    sending: Task,
    receiving: Task,
}

/// A task and the call that it waits for.
struct Task {
    name: &'static str,
    /// A counter that increases when a call starts and when it returns.
    calls: AtomicUsize,
    waits_for: Mutex<String>,
}

impl Task {
    fn new(name: &'static str) -> Self {
        Self { name, calls: AtomicUsize::new(0), waits_for: Mutex::new("start".to_owned()) }
    }

    /// Runs one call under a name that the watchdog reports.
    async fn call<O>(&self, name: impl FnOnce() -> String, call: impl Future<Output = O>) -> O {
        *self.waits_for.lock().unwrap() = name();
        self.calls.fetch_add(1, Relaxed);
        let output = call.await;
        self.calls.fetch_add(1, Relaxed);
        output
    }

    fn done(&self) {
        "nothing".clone_into(&mut self.waits_for.lock().unwrap());
    }
}

impl Direction {
    fn new(seed: u64, longest: usize, sending: &'static str, receiving: &'static str) -> Self {
        Self {
            seed,
            longest,
            due: Mutex::new(Messages::new(seed, longest)),
            begun: AtomicU64::new(0),
            received: AtomicU64::new(0),
            complete: AtomicBool::new(false),
            sending: Task::new(sending),
            receiving: Task::new(receiving),
        }
    }

    fn messages(&self) -> Messages {
        Messages::new(self.seed, self.longest)
    }

    fn is_over(&self) -> bool {
        self.complete.load(Relaxed) && self.received.load(Relaxed) == self.begun.load(Relaxed)
    }
}

impl Link {
    /// Returns one of the twelve combinations; four of them occur twice.
    fn new(number: usize, seed: u64, connected: Arc<Barrier>) -> Self {
        let split = [Split::Own, Split::Futures, Split::Bytes][number % 3];
        let deflate = number / 6 % 2 == 1;
        let longest = if deflate { LONGEST_COMPRESSED } else { LONGEST };
        let seed = (seed << 8) + 2 * number as u64;
        Self {
            number,
            split,
            is_tls: number / 3 % 2 == 1,
            deflate,
            up: Direction::new(seed, longest, "client's sender", "server's receiver"),
            down: Direction::new(seed + 1, longest, "server's sender", "client's receiver"),
            broadcasts: AtomicU64::new(0),
            connected,
            handles: Mutex::default(),
            started: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }

    fn is_over(&self) -> bool {
        self.up.is_over() && self.down.is_over()
    }

    fn describe(&self) -> String {
        let mut text = format!(
            "connection {} ({:?}, {}, {})",
            self.number,
            self.split,
            if self.is_tls { "TLS" } else { "TCP" },
            if self.deflate { "deflate" } else { "plain" },
        );
        for (direction, way) in [(&self.up, "up"), (&self.down, "down")] {
            let (begun, received) = (direction.begun.load(Relaxed), direction.received.load(Relaxed));
            write!(text, "\n    {way}: {begun} messages begun, {received} received").unwrap();
            for task in [&direction.sending, &direction.receiving] {
                write!(text, "\n      {} waits for {}", task.name, task.waits_for.lock().unwrap()).unwrap();
            }
        }
        for (end, sender) in self.handles.lock().unwrap().iter() {
            let stats = sender.stats();
            write!(
                text,
                "\n    {end}: {} bytes queued, {} sent, {} received",
                stats.bytes_queued, stats.bytes_sent, stats.bytes_received
            )
            .unwrap();
        }
        text
    }

    fn stats(&self, end: &str) -> Stats {
        let handles = self.handles.lock().unwrap();
        handles.iter().find(|(name, _)| *name == end).map(|(_, sender)| sender.stats()).unwrap_or_default()
    }

    fn bytes_moved(&self) -> u64 {
        ["client", "server"]
            .map(|end| self.stats(end))
            .iter()
            .map(|stats| stats.bytes_sent + stats.bytes_received)
            .sum()
    }
}

/// The messages of one direction. Both ends draw the same ones from its seed.
struct Messages {
    random: u64,
    longest: usize,
}

impl Messages {
    fn new(seed: u64, longest: usize) -> Self {
        // Spreads small seeds over all bits; xorshift never leaves 0.
        Self { longest, random: (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1) }
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() % bound as u64).unwrap()
    }

    /// Returns the next message. Every order of magnitude of length is equally frequent.
    fn next(&mut self) -> &'static [u8] {
        let bound = 1 << self.below(self.longest.ilog2() as usize + 1);
        let len = if self.below(200) == 0 { self.longest } else { 1 + self.below(bound) };
        let start = self.below(SPREAD);
        &POOL[start..start + len]
    }
}

/// The bytes from which payloads are cut. Half of them repeat and can be compressed.
static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut noise = Messages::new(42, LONGEST);
    let blocks = (LONGEST + SPREAD) / 64;
    (0..blocks)
        .flat_map(|block| {
            let word = if block % 2 == 0 { noise.draw() } else { 7 };
            (0..8_u64).flat_map(move |i| word.wrapping_mul(2 * i + 1).to_le_bytes())
        })
        .collect()
});

/// The number of positions at which a payload can begin.
const SPREAD: usize = 64 * 1024;

type Links = Arc<Vec<Link>>;

/// Runs the load on a runtime with this many threads.
fn run(workers: usize, length: Duration, seed: u64) {
    let connected = Arc::new(Barrier::new(2 * CONNECTIONS));
    let links = (0..CONNECTIONS).map(|number| Link::new(number, seed, Arc::clone(&connected)));
    let links: Links = Arc::new(links.collect());
    LazyLock::force(&POOL);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        // Polls take long here, especially without optimization, but sockets and timers must still get their turn.
        .event_interval(3)
        .enable_all()
        .build()
        .unwrap();
    let stopping = Arc::new(AtomicBool::new(false));
    let beats = Arc::new(AtomicU64::new(0));
    runtime.spawn({
        let beats = Arc::clone(&beats);
        async move {
            loop {
                sleep(TICK / 10).await;
                beats.fetch_add(1, Relaxed);
            }
        }
    });
    let (report, reported) = mpsc::channel();
    runtime.spawn({
        let (links, stopping) = (Arc::clone(&links), Arc::clone(&stopping));
        async move {
            let result = load(&links, &stopping).await.map_err(|error| error.to_string());
            let _ = report.send(result);
        }
    });
    let what = format!("{workers} workers, seed {seed}");
    let watched = watch(&links, &stopping, &beats, &reported, length);
    // A hanging task must not block the test.
    runtime.shutdown_background();
    match watched {
        Ok(summary) => println!("{what}: {summary}"),
        Err(fault) => panic!("{what}: {fault}"),
    }
}

/// Watches until the load is over.
fn watch(
    links: &[Link],
    stopping: &AtomicBool,
    beats: &AtomicU64,
    reported: &mpsc::Receiver<Result<(), String>>,
    length: Duration,
) -> Result<String, String> {
    let start = Instant::now();
    let mut watches: Vec<_> = links.iter().map(|_| Watch::default()).collect();
    let mut memory = Vec::new();
    let mut last_beat = 0;
    // The time that the runtime has had; it stands still while the runtime or the machine does.
    let mut clock = Duration::ZERO;
    loop {
        match reported.recv_timeout(TICK) {
            Ok(result) => {
                result?;
                break;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err("the load panicked".to_owned()),
        }
        let elapsed = start.elapsed();
        if elapsed >= length {
            stopping.store(true, Relaxed);
        } else if let Some(resident) = resident() {
            memory.push((elapsed, resident));
        }
        let beat = beats.load(Relaxed);
        if beat != last_beat {
            last_beat = beat;
            clock += TICK;
        }
        for (link, watch) in links.iter().zip(&mut watches) {
            watch.look(link, clock).map_err(|fault| format!("{fault}: {}", link.describe()))?;
        }
    }
    let sum = |count: fn(&Link) -> u64| links.iter().map(count).sum::<u64>();
    let messages = sum(|link| link.up.received.load(Relaxed) + link.down.received.load(Relaxed));
    let broadcasts = sum(|link| link.broadcasts.load(Relaxed));
    let bytes = sum(Link::bytes_moved) / 2;
    let quarter = |number: u32| {
        let range = length * number / 4..length * (number + 1) / 4;
        memory.iter().filter(|(at, _)| range.contains(at)).map(|(_, resident)| *resident).max()
    };
    let mut summary = format!("{messages} messages, {broadcasts} broadcasts, {} MiB", bytes >> 20);
    if let Some((first, last)) = quarter(0).zip(quarter(3)) {
        write!(summary, ", {} MiB resident, {} MiB at the end", first >> 20, last >> 20).unwrap();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bound = (first as f64 * GROWTH.0) as u64 + GROWTH.1;
        if last > bound {
            return Err(format!("memory grows: {summary}"));
        }
    }
    Ok(summary)
}

const TICK: Duration = Duration::from_millis(100);

/// The watchdog's record of a connection. Times are those of its clock.
#[derive(Default)]
struct Watch {
    moved: (u64, Duration),
    calls: [Call; 4],
}

/// The watchdog's record of a task.
#[derive(Clone, Copy, Default)]
struct Call {
    /// The value of the call counter, unchanged since `since`.
    count: usize,
    since: Duration,
    /// The number of checks since then that found that the other end had received everything.
    without_reason: u32,
}

impl Watch {
    fn look(&mut self, link: &Link, now: Duration) -> Result<(), String> {
        let is_idle = !link.started.load(Relaxed) || link.finished.load(Relaxed);
        let moved = link.bytes_moved();
        if moved != self.moved.0 || is_idle {
            self.moved = (moved, now);
        }
        if now.saturating_sub(self.moved.1) > STALL {
            return Err(format!("no byte was moved for {STALL:?}"));
        }
        let [client, server] = ["client", "server"].map(|end| link.stats(end));
        let is_received =
            |from: Stats, to: Stats| from.bytes_queued == 0 && from.bytes_sent == to.bytes_received;
        let (up, down) = (is_received(client, server), is_received(server, client));
        let tasks = [
            (&link.up.sending, up),
            (&link.down.sending, down),
            // A receiver waits for bytes, which the rule above covers.
            (&link.up.receiving, false),
            (&link.down.receiving, false),
        ];
        for ((task, without_reason), call) in tasks.into_iter().zip(&mut self.calls) {
            let count = task.calls.load(Relaxed);
            // The counter is odd during a call.
            if call.count != count || count % 2 == 0 || is_idle {
                *call = Call { count, since: now, without_reason: 0 };
            }
            // A pong arrives only after the data that the other end has queued.
            let awaits_pong = *task.waits_for.lock().unwrap() == "pong";
            call.without_reason += u32::from(without_reason && !awaits_pong);
            let waited = now.saturating_sub(call.since);
            if waited > LONGEST_CALL || TICK * call.without_reason > STALL {
                return Err(format!("{} has waited for {waited:?}", task.name));
            }
        }
        Ok(())
    }
}

/// The resident memory of this process in bytes; the second number of `statm` is in pages.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Starts the servers, connects, and waits for all connections to end.
async fn load(links: &Links, stopping: &Arc<AtomicBool>) -> Result<(), BoxError> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let mut servers = Vec::new();
    for is_tls in [false, true] {
        let mut server = Server::bind("127.0.0.1:0").await?.configure(|config| {
            config.hub.slow = SlowPolicy::DropNewest;
            config.handshake.deflate = Some(DeflateOptions::default());
        });
        if is_tls {
            server = server.tls(longwire::server::TlsConfig::from_pem(chain.as_bytes(), key.as_bytes())?);
        }
        let (addr, handle) = (server.local_addr(), server.handle());
        tokio::spawn(broadcast(handle.hub().clone(), Arc::clone(stopping)));
        let (links, stopping) = (Arc::clone(links), Arc::clone(stopping));
        let serving =
            server.serve(move |ws, request| serve(ws, request, Arc::clone(&links), Arc::clone(&stopping)));
        servers.push((addr, handle, tokio::spawn(serving.into_future())));
    }
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..links.len() {
        let (links, stopping) = (Arc::clone(links), Arc::clone(stopping));
        let addr = servers[usize::from(links[number].is_tls)].0;
        clients.spawn(async move {
            let link = &links[number];
            let scheme = if link.is_tls { "wss" } else { "ws" };
            let (ws, response) = Client::new(format!("{scheme}://{addr}/{number}"))
                .tls(TlsConfig::new().dangerously_accept_any_certificate())
                .deflate(link.deflate.then(DeflateOptions::default))
                .connect()
                .await?;
            assert_eq!(response.headers().contains_key("sec-websocket-extensions"), link.deflate);
            link.handles.lock().unwrap().push(("client", ws.sender()));
            link.connected.wait().await;
            link.started.store(true, Relaxed);
            use_client(ws, &links, number, &stopping).await
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    for (_, handle, serving) in servers {
        handle.shutdown().await;
        serving.await??;
    }
    for link in links.iter() {
        let [up, down] = [&link.up, &link.down].map(|direction| direction.received.load(Relaxed));
        assert!(link.is_over() && up > 0 && down > 0, "{}", link.describe());
    }
    Ok(())
}

/// Sends broadcasts to the room, and pings all clients, until the load stops.
async fn broadcast(hub: Hub, stopping: Arc<AtomicBool>) {
    let mut random = Messages::new(7, LONGEST);
    for number in 0_u64.. {
        if stopping.load(Relaxed) {
            return;
        }
        let len = 1 << random.below(17);
        hub.publish(ROOM, format!("{number} {}", "broadcast ".repeat(1 + len / 10)));
        for client in hub.clients().iter().filter(|_| number % 8 == 0) {
            let _ = client.sender().ping();
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// The room that receives broadcasts. A byte stream has no place for them, so its client is not in the room.
const ROOM: &str = "messages";

async fn serve(ws: Socket, request: Request, links: Links, stopping: Arc<AtomicBool>) -> HandlerResult {
    let number: usize = request.uri().path().trim_start_matches('/').parse()?;
    let link = &links[number];
    link.handles.lock().unwrap().push(("server", ws.sender()));
    if link.split != Split::Bytes {
        ws.join(ROOM)?;
    }
    let shared = Arc::clone(&links);
    let down = |outlet| send_down(outlet, shared, number, stopping);
    match link.split {
        Split::Own => {
            let (sender, mut receiver) = ws.split();
            let sending = tokio::spawn(down(Outlet::Own(sender)));
            while let Some(message) = link.up.receiving.call(|| "recv".into(), receiver.recv()).await? {
                link.up.check_message(&message);
            }
            link.up.receiving.done();
            sending.await??;
        }
        Split::Futures => {
            let (sink, mut stream) = StreamExt::split(ws.into_inner());
            let sending = tokio::spawn(down(Outlet::Futures(Box::new(sink))));
            while let Some(message) = link.up.receiving.call(|| "next".into(), stream.next()).await {
                link.up.check_message(&message?);
            }
            link.up.receiving.done();
            sending.await??;
        }
        Split::Bytes => {
            let (read, write) = tokio::io::split(ws.into_inner().into_byte_stream());
            let sending = tokio::spawn(down(Outlet::Bytes(Box::new(write))));
            link.up.receive_bytes(read).await?;
            sending.await??;
        }
    }
    Ok(())
}

async fn use_client(
    ws: WebSocket<longwire::client::ClientStream>,
    links: &Links,
    number: usize,
    stopping: &Arc<AtomicBool>,
) -> Result<(), BoxError> {
    let link = &links[number];
    let (shared, stopping) = (Arc::clone(links), Arc::clone(stopping));
    let up = |outlet| send_up(outlet, shared, number, stopping);
    let sending;
    match link.split {
        Split::Own => {
            let (sender, mut receiver) = ws.split();
            sending = tokio::spawn(up(Outlet::Own(sender)));
            while let Some(message) = link.down.receiving.call(|| "recv".into(), receiver.recv()).await? {
                link.receive_from_server(&message);
            }
        }
        Split::Futures => {
            let (sink, mut stream) = StreamExt::split(ws);
            sending = tokio::spawn(up(Outlet::Futures(Box::new(sink))));
            while let Some(message) = link.down.receiving.call(|| "next".into(), stream.next()).await {
                link.receive_from_server(&message?);
            }
        }
        Split::Bytes => {
            let (read, write) = tokio::io::split(ws.into_byte_stream());
            sending = tokio::spawn(up(Outlet::Bytes(Box::new(write))));
            link.down.receive_bytes(read).await?;
        }
    }
    link.down.receiving.done();
    sending.await??;
    link.finished.store(true, Relaxed);
    Ok(())
}

impl Link {
    fn receive_from_server(&self, message: &Message) {
        let Some(text) = message.as_text() else {
            return self.down.check_message(message);
        };
        let (number, rest) = text.split_once(' ').expect("a broadcast has a number");
        let number = number.parse::<u64>().unwrap() + 1;
        // Broadcasts may be dropped, but the others must arrive in order.
        assert!(
            self.broadcasts.swap(number, Relaxed) < number,
            "a broadcast out of order: {}",
            self.describe()
        );
        assert!(rest.len() % 10 == 0 && rest.starts_with("broadcast "));
    }
}

impl Direction {
    /// Compares a message with the expected one.
    fn check_message(&self, message: &Message) {
        let due = self.due.lock().unwrap().next();
        assert!(message.as_bytes() == due, "{} received something else", self.receiving.name);
        self.received.fetch_add(1, Relaxed);
    }

    /// Reads to the end and compares all bytes with the expected ones.
    async fn receive_bytes(&self, mut read: impl tokio::io::AsyncRead + Unpin) -> Result<(), BoxError> {
        let mut messages = self.messages();
        let mut due = messages.next();
        let mut buf = vec![0; 128 * 1024];
        loop {
            let len = self.receiving.call(|| "read".into(), read.read(&mut buf)).await?;
            let mut found = &buf[..len];
            if found.is_empty() {
                self.receiving.done();
                return Ok(());
            }
            while !found.is_empty() {
                let len = found.len().min(due.len());
                assert!(found[..len] == due[..len], "{} received something else", self.receiving.name);
                (found, due) = (&found[len..], &due[len..]);
                if due.is_empty() {
                    self.received.fetch_add(1, Relaxed);
                    due = messages.next();
                }
            }
        }
    }
}

type MessageSink = dyn futures_util::Sink<Message, Error = longwire::connection::Error> + Send + Unpin;

/// The sending half of any split.
enum Outlet {
    Own(Sender),
    Futures(Box<MessageSink>),
    Bytes(Box<dyn tokio::io::AsyncWrite + Send + Unpin>),
}

impl Outlet {
    async fn close(&mut self) -> Result<(), BoxError> {
        match self {
            Self::Own(sender) => sender.start_close(1000, "")?,
            Self::Futures(sink) => sink.close().await?,
            Self::Bytes(write) => write.shutdown().await?,
        }
        Ok(())
    }
}

/// The server's sending task.
async fn send_down(
    mut outlet: Outlet,
    links: Links,
    number: usize,
    stopping: Arc<AtomicBool>,
) -> Result<(), BoxError> {
    let direction = &links[number].down;
    links[number].connected.wait().await;
    send_all(&mut outlet, direction, &stopping).await?;
    direction.sending.done();
    Ok(())
}

/// The client's sending task, which closes once both ends have received everything.
async fn send_up(
    mut outlet: Outlet,
    links: Links,
    number: usize,
    stopping: Arc<AtomicBool>,
) -> Result<(), BoxError> {
    let link = &links[number];
    send_all(&mut outlet, &link.up, &stopping).await?;
    while !link.is_over() {
        sleep(Duration::from_millis(2)).await;
    }
    link.up.sending.call(|| "close".into(), outlet.close()).await?;
    link.up.sending.done();
    Ok(())
}

/// Sends until the load stops.
async fn send_all(outlet: &mut Outlet, direction: &Direction, stopping: &AtomicBool) -> Result<(), BoxError> {
    let mut messages = direction.messages();
    let mut ways = Messages::new(direction.seed ^ 0xff, LONGEST);
    let task = &direction.sending;
    while !stopping.load(Relaxed) {
        let payload = messages.next();
        let len = payload.len();
        direction.begun.fetch_add(1, Relaxed);
        let message = Message::binary(payload);
        match (&mut *outlet, ways.below(8)) {
            (Outlet::Own(sender), 0) => {
                task.call(|| format!("send_flushed of {len} bytes"), sender.send_flushed(message)).await?;
            }
            (Outlet::Own(sender), 1) => {
                task.call(|| format!("feed of {len} bytes"), sender.feed(message)).await?;
                task.call(|| "flush".into(), sender.flush()).await?;
            }
            (Outlet::Own(sender), 2) => {
                let mut writer =
                    task.call(|| "message_writer".into(), sender.message_writer(MessageKind::Binary)).await?;
                for part in payload.chunks(len.div_ceil(5)) {
                    task.call(|| format!("write of a part of {len} bytes"), writer.write(part)).await?;
                }
                task.call(|| "finish".into(), writer.finish()).await?;
            }
            (Outlet::Own(sender), 3) => {
                task.call(|| format!("send of {len} bytes"), sender.send(message)).await?;
                let pong = sender.ping()?;
                task.call(|| "pong".into(), pong).await?;
            }
            (Outlet::Own(sender), _) => {
                task.call(|| format!("send of {len} bytes"), sender.send(message)).await?;
            }
            (Outlet::Futures(sink), 0..4) => {
                task.call(|| format!("feed of {len} bytes"), sink.feed(message)).await?;
            }
            (Outlet::Futures(sink), _) => {
                task.call(|| format!("send of {len} bytes"), sink.send(message)).await?;
            }
            (Outlet::Bytes(write), way) => {
                task.call(|| format!("write_all of {len} bytes"), write.write_all(payload)).await?;
                if way < 4 {
                    task.call(|| "flush".into(), write.flush()).await?;
                }
            }
        }
        // Tokio's budget is 128 operations, which can be many seconds of work without optimization.
        tokio::task::yield_now().await;
    }
    // Send the messages that were only queued.
    match outlet {
        Outlet::Own(sender) => task.call(|| "last flush".into(), sender.flush()).await?,
        Outlet::Futures(sink) => task.call(|| "last flush".into(), sink.flush()).await?,
        Outlet::Bytes(write) => task.call(|| "last flush".into(), write.flush()).await?,
    }
    direction.complete.store(true, Relaxed);
    Ok(())
}
