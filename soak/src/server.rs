//! The server: an echo with rooms and broadcasts, plain and over TLS, which prints its own figures when asked.

use std::{
    alloc::System,
    fs::File,
    future::pending,
    io::BufRead,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow};
use cap::Cap;
use clap::ValueEnum;
use longwire::{BoxError, DeflateOptions, Keepalive, Message, Server, Socket, server::TlsConfig};
use tokio::runtime::{Builder, Handle};

/// Counts the bytes in use.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Something that stays after its connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Leak {
    /// An entry with the name of a room.
    Room,
    /// A task that waits for ever.
    Task,
    /// An open file, after each twentieth connection: more would use up the descriptors before the end.
    Descriptor,
}

impl Leak {
    /// Leaks one of it.
    fn one(self, room: &str) {
        match self {
            Self::Room => {
                // A name, a set of members and its place in a table take about this much.
                let entry = format!("{room:<512}");
                ENTRIES.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            }
            Self::Task => drop(tokio::spawn(pending::<()>())),
            Self::Descriptor => {
                if CONNECTIONS.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
                    let opened = File::open("/dev/null").ok();
                    FILES.lock().unwrap_or_else(PoisonError::into_inner).extend(opened);
                }
            }
        }
    }
}

static ENTRIES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static FILES: Mutex<Vec<File>> = Mutex::new(Vec::new());
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Serves until standard input ends. Prints the ports first, and for each line of input the bytes in use and the
/// number of tasks.
pub(crate) fn run(leak: Option<Leak>) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let handle = runtime.handle().clone();
    runtime.block_on(async {
        let plain = configured(Server::bind("127.0.0.1:0").await?);
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let tls =
            Server::bind("127.0.0.1:0").await?.tls(TlsConfig::from_pem(chain.as_bytes(), key.as_bytes())?);
        let tls = configured(tls);
        println!("{} {}", plain.local_addr().port(), tls.local_addr().port());
        for server in [plain, tls] {
            let hub = server.hub().clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(BROADCASTS).await;
                    hub.broadcast(Message::text("news ".repeat(20)));
                }
            });
            tokio::spawn(async move { server.serve(move |ws, _| handler(ws, leak)).await });
        }
        tokio::task::spawn_blocking(move || report(&handle)).await?
    })
}

fn report(handle: &Handle) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{} {}", HEAP.allocated(), handle.metrics().num_alive_tasks());
    }
    // The tasks of the clients would wait for their ends.
    std::process::exit(0)
}

fn configured(server: Server) -> Server {
    server.configure(|config| {
        let mut keepalive = Keepalive::default();
        keepalive.interval = Duration::from_secs(4);
        keepalive.timeout = Duration::from_secs(4);
        config.connection.keepalive = Some(keepalive);
        config.handshake.deflate = Some(DeflateOptions::default());
    })
}

/// The words of a client: `room NAME` joins, `room` alone leaves everything, `say ROOM TEXT` publishes, `close` asks
/// for a close frame, and anything else is echoed.
async fn handler(mut ws: Socket, leak: Option<Leak>) -> Result<(), BoxError> {
    let mut own = String::new();
    while let Some(message) = ws.recv().await? {
        let words = match &message {
            Message::Text(text) => text.splitn(3, ' ').map(str::to_owned).collect(),
            Message::Binary(_) => Vec::new(),
        };
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["room", room] => {
                ws.join(room)?;
                room.clone_into(&mut own);
            }
            ["say", room, text] => drop(ws.hub().publish(room, text)),
            ["close"] => break,
            _ => ws.send(message).await?,
        }
    }
    if let Some(leak) = leak {
        leak.one(&own);
    }
    ws.close(1000, "").await.map_err(|error| anyhow!(error).into())
}

/// The time between broadcasts to all clients.
const BROADCASTS: Duration = Duration::from_secs(2);
