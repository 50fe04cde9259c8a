//! A chat with rooms: a client that joins a room receives the newest lines from there.
//!
//! ```text
//! cargo run --release --example chat -- --listen 127.0.0.1:9003
//! cargo run --release --example cat -- ws://127.0.0.1:9003/ann
//! ```
//! The path is the client's name. `/join ROOM` enters a room and leaves the previous one; any other line goes to
//! everybody in the room. A room's newest lines are kept while somebody is in it. On SIGINT every client is closed
//! with code 1001.

use std::collections::{HashMap, VecDeque};
use std::iter::once;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Parser;
use longwire::BoxError;
use longwire::{Limits, Message, Rate, RateLimit, Server, Socket};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9003")]
    listen: SocketAddr,
}

/// The newest lines of each room that is not empty.
#[derive(Default)]
struct Histories {
    by_room: Mutex<HashMap<String, VecDeque<String>>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes.
            eprintln!("chat: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let server = Server::bind(args.listen).await?.configure(|config| {
        config.connection.limits = Limits::default().with_max_message(MAX_LINE);
        // Nobody types faster than this: a line above the limit closes the connection with code 1008.
        let messages = Some(Rate::per_second(5).burst(20));
        config.connection.rate_limit = Some(RateLimit::default().with_messages(messages));
        config.hub.max_clients_per_address = Some(100);
    });
    println!("listening on ws://{}", server.local_addr());

    let histories = Arc::new(Histories::default());
    let chat = server.serve(move |ws, request| {
        let histories = Arc::clone(&histories);
        async move {
            let name: String = request.uri().path().trim_matches('/').chars().take(32).collect();
            chat(ws, &name, &histories).await
        }
    });
    chat.with_graceful_shutdown(tokio::signal::ctrl_c()).await?;
    Ok(())
}

async fn chat(mut ws: Socket, name: &str, histories: &Histories) -> Result<(), BoxError> {
    let mut room = String::from("lobby");
    histories.enter(&ws, &room, name)?;
    let ended = async {
        while let Some(message) = ws.recv().await? {
            let Message::Text(line) = message else {
                return Ok(ws.close(1003, "only text messages are allowed").await?);
            };
            match line.strip_prefix("/join ") {
                Some(next) if next.trim() != room => {
                    histories.leave(&ws, &room, name);
                    next.trim().clone_into(&mut room);
                    histories.enter(&ws, &room, name)?;
                }
                Some(_) => {}
                None => histories.say(&ws, &room, format!("{name}: {}", &*line)),
            }
        }
        Ok(())
    };
    let ended = ended.await;
    histories.leave(&ws, &room, name);
    ended
}

impl Histories {
    /// Lets a client into a room, and sends it the newest lines from there.
    fn enter(&self, ws: &Socket, room: &str, name: &str) -> Result<(), BoxError> {
        // One lock for both steps and for every new line, so the client misses no line and receives none twice.
        let mut by_room = self.lock();
        ws.join(room)?;
        let history = by_room.entry(room.to_owned()).or_default();
        let title = format!("* {room}, so far:");
        let lines: Vec<_> = once(&title).chain(&*history).map(String::as_str).collect();
        ws.sender().try_send(lines.join("\n"))?;
        drop(by_room);
        self.say(ws, room, format!("* {name} joined"));
        Ok(())
    }

    /// Lets a client out of a room, and forgets the room's lines if it is empty.
    fn leave(&self, ws: &Socket, room: &str, name: &str) {
        let mut by_room = self.lock();
        ws.leave(room);
        if ws.hub().room(room).is_empty() {
            by_room.remove(room);
        }
        drop(by_room);
        self.say(ws, room, format!("* {name} left"));
    }

    /// Sends a line to everybody in a room. It never waits, so it may run under the lock.
    fn say(&self, ws: &Socket, room: &str, line: String) {
        let mut by_room = self.lock();
        let Some(history) = by_room.get_mut(room) else { return };
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(line.clone());
        ws.hub().publish(room, line);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<String>>> {
        // Each change is complete in itself, so the state is valid after a panic as well.
        self.by_room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum length of a line in bytes.
const MAX_LINE: usize = 1000;

/// The number of lines kept for each room.
const HISTORY: usize = 50;
