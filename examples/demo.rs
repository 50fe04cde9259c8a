//! One server with a page: echo with round-trip times, a chat between tabs, and live statistics.
//!
//! ```text
//! cargo run --release --example demo
//! ```
//! It prints the page's address. Open it in two tabs to chat with yourself. On SIGINT every client is closed with
//! code 1001 (going away).

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use http::{HeaderValue, Response, StatusCode, header};
use longwire::BoxError;
use longwire::{
    ClientId, CloseCode, CompressionStats, DeflateOptions, Hub, Message, PreparedMessage, Server, Socket,
    Stats,
};
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    /// The address to listen on. Default: 127.0.0.1:8080, or a free port if that is taken.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

/// The state shared by all clients.
struct App {
    started: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    /// Both directions of all connections, including those that have ended.
    compressed: Mutex<CompressionStats>,
    chat: Mutex<Chat>,
}

#[derive(Default)]
struct Chat {
    members: HashSet<ClientId>,
    /// The newest messages, for clients that join later.
    history: VecDeque<Value>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes.
            eprintln!("demo: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let server = match args.listen {
        Some(addr) => Server::bind(addr).await?,
        None => match Server::bind("127.0.0.1:8080").await {
            Ok(server) => server,
            Err(_) => Server::bind("127.0.0.1:0").await?,
        },
    };
    println!("listening on http://{}", server.local_addr());

    let app = Arc::new(App {
        started: Instant::now(),
        received: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        compressed: Mutex::default(),
        chat: Mutex::default(),
    });
    server
        .configure(|config| {
            // Even a line of chat gets shorter, because each message may refer to earlier ones.
            let mut deflate = DeflateOptions::default();
            deflate.threshold = 32;
            config.handshake.deflate = Some(deflate);
        })
        .fallback(|request| async move { page(request.uri().path()) })
        .serve(move |ws, request| {
            let app = Arc::clone(&app);
            async move {
                match request.uri().path() {
                    "/echo" => echo(ws, &app).await,
                    "/chat" => chat(ws, &app).await,
                    "/stats" => stats(ws, &app).await,
                    _ => refuse(ws).await,
                }
            }
        })
        .with_graceful_shutdown(tokio::signal::ctrl_c())
        .await?;
    Ok(())
}

fn page(path: &str) -> Response<&'static str> {
    let (status, content_type, body) = match path {
        "/" => (StatusCode::OK, "text/html; charset=utf-8", include_str!("demo.html")),
        _ => (StatusCode::NOT_FOUND, "text/plain", "not found\n"),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn echo(mut ws: Socket, app: &App) -> Result<(), BoxError> {
    let mut meter = Meter::default();
    while let Some(message) = ws.recv().await? {
        app.received.fetch_add(1, Relaxed);
        ws.send(message).await?;
        app.sent.fetch_add(1, Relaxed);
        meter.read(&ws.stats(), app);
    }
    Ok(())
}

/// Forwards the messages of each member to all of them; a new member first receives the newest messages.
async fn chat(mut ws: Socket, app: &App) -> Result<(), BoxError> {
    let (id, hub) = (ws.id(), ws.hub().clone());
    app.enter(&ws)?;
    let mut meter = Meter::default();
    let ended = async {
        while let Some(message) = ws.recv().await? {
            app.received.fetch_add(1, Relaxed);
            let Some(said) = said(&message) else {
                return Ok(ws.close(CloseCode::POLICY_VIOLATION, "not a chat message").await?);
            };
            let mut chat = app.chat();
            if chat.history.len() == HISTORY {
                chat.history.pop_front();
            }
            chat.history.push_back(said.clone());
            app.tell(&chat, &hub, &said);
            drop(chat);
            meter.read(&ws.stats(), app);
        }
        Ok(())
    };
    let ended = ended.await;
    let mut chat = app.chat();
    chat.members.remove(&id);
    app.tell(&chat, &hub, &json!({ "notice": format!("client {} left", id.value()) }));
    ended
}

/// Returns a chat message as it is forwarded: only a name and a text, both of bounded length.
fn said(message: &Message) -> Option<Value> {
    let said: Value = serde_json::from_str(message.as_text()?).ok()?;
    let field = |name: &str, most: usize| -> Option<String> {
        Some(said.get(name)?.as_str()?.chars().take(most).collect())
    };
    Some(json!({ "name": field("name", 40)?, "text": field("text", 1000)? }))
}

/// Sends the server's figures once a second.
async fn stats(mut ws: Socket, app: &App) -> Result<(), BoxError> {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let mut meter = Meter::default();
    loop {
        tokio::select! {
            message = ws.recv() => {
                if message?.is_none() {
                    return Ok(());
                }
            }
            _ = every.tick() => {
                let compressed = *app.compressed();
                let stats = json!({
                    "clients": ws.hub().len(),
                    "received": app.received.load(Relaxed),
                    "sent": app.sent.load(Relaxed),
                    "compressible": compressed.payload_bytes,
                    "compressed": compressed.wire_bytes,
                    "uptime": app.started.elapsed().as_secs(),
                });
                ws.send(stats.to_string()).await?;
                app.sent.fetch_add(1, Relaxed);
                meter.read(&ws.stats(), app);
            }
        }
    }
}

/// Adds one connection's compression counters to the total.
#[derive(Default)]
struct Meter {
    /// The counters that have already been added.
    read: CompressionStats,
}

impl Meter {
    fn read(&mut self, stats: &Stats, app: &App) {
        let mut now = stats.received_compressed;
        now += stats.sent_compressed;
        *app.compressed() += now - std::mem::replace(&mut self.read, now);
    }
}

async fn refuse(mut ws: Socket) -> Result<(), BoxError> {
    Ok(ws.close(CloseCode::POLICY_VIOLATION, "no such endpoint").await?)
}

impl App {
    fn chat(&self) -> MutexGuard<'_, Chat> {
        self.chat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compressed(&self) -> MutexGuard<'_, CompressionStats> {
        self.compressed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the newest messages to a client, and makes it a member.
    fn enter(&self, ws: &Socket) -> Result<(), longwire::connection::Error> {
        // One lock for both steps and for every new message: nothing is missed, repeated or out of order.
        let mut chat = self.chat();
        ws.sender().try_send(json!({ "history": chat.history }).to_string())?;
        chat.members.insert(ws.id());
        self.tell(&chat, ws.hub(), &json!({ "notice": format!("client {} joined", ws.id().value()) }));
        Ok(())
    }

    /// Sends to all members of the chat; the hub deals with slow ones. It never waits, so it may run under the
    /// lock.
    fn tell(&self, chat: &Chat, hub: &Hub, what: &Value) {
        let prepared = PreparedMessage::new(what.to_string());
        let delivery = hub.broadcast_prepared(&prepared, |client| chat.members.contains(&client.id()));
        self.sent.fetch_add(delivery.accepted as u64, Relaxed);
    }
}

/// The number of messages that a newcomer receives.
const HISTORY: usize = 50;
