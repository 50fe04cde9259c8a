//! A load of compressed messages: realistic JSON, compressed by longwire's own client, with every echo checked.
//!
//! The server is measured from outside, as by `loadgen`. Each result is a line of alternating words and numbers.

#![forbid(unsafe_code)]

mod json;
#[allow(dead_code, reason = "shared with `loadgen`, which uses all of it")]
#[path = "../process.rs"]
mod process;

use std::{
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use longwire::{
    Client, DeflateOptions, Message, WebSocket,
    client::ClientStream,
    deflate::{Level, WindowBits},
};
use process::{Memory, cpu_nanoseconds, minor_faults, user_nanoseconds};
use tokio::task::LocalSet;

/// The result of a part of the work, or the reason why it failed.
type Outcome<T = ()> = Result<T, String>;

#[derive(Parser)]
#[command(about = "A load of compressed messages")]
struct Arguments {
    /// The address of the server.
    addr: SocketAddr,
    /// The server's process.
    #[arg(long, value_name = "PID")]
    server_pid: u32,
    /// The measurement to make.
    #[arg(long, value_enum)]
    what: What,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    conns: u32,
    /// Payload bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
    /// The duration of an echo measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Messages on each connection before it idles, or broadcasts of each kind.
    #[arg(long, value_name = "N", default_value_t = 100)]
    messages: u32,
    /// This end's compression level.
    #[arg(long, default_value_t = 6)]
    level: u8,
    /// Ask both sides to compress each message separately.
    #[arg(long)]
    no_context_takeover: bool,
    /// The window of both sides, as a power of two.
    #[arg(long, value_name = "BITS", default_value_t = 15)]
    window_bits: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// CPU time and bytes on the wire for a message that is echoed.
    Echo,
    /// Memory of connections after use.
    Idle,
    /// CPU time of a broadcast that is compressed once, and of one that is compressed for each client.
    Fanout,
}

type Socket = WebSocket<ClientStream>;

fn main() -> ExitCode {
    let arguments = Rc::new(Arguments::parse());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let work = async {
            match arguments.what {
                What::Echo => echo(&arguments).await,
                What::Idle => idle(&arguments).await,
                What::Fanout => fanout(&arguments).await,
            }
        };
        LocalSet::new().block_on(&runtime, work)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("deflate-load: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn connect(arguments: &Arguments) -> Outcome<Socket> {
    let mut options = DeflateOptions::default();
    options.level = Level::new(arguments.level).ok_or("the level must be from 1 to 9")?;
    options.threshold = 0;
    options.fallback = false;
    options.server_no_context_takeover = arguments.no_context_takeover;
    options.client_no_context_takeover = arguments.no_context_takeover;
    let bits = WindowBits::new(arguments.window_bits).ok_or("9 to 15 are window bits")?;
    options.server_max_window_bits = bits;
    options.client_max_window_bits = bits;
    let client = Client::new(format!("ws://{}/", arguments.addr)).deflate(options);
    let (ws, _) = client.connect().await.map_err(|error| error.to_string())?;
    let agreed = ws.extensions().unwrap_or_default();
    // The server may only accept or decline; the comparison needs it to accept.
    let is_as_asked = agreed.starts_with("permessage-deflate")
        && agreed.contains("server_no_context_takeover") == arguments.no_context_takeover
        && (arguments.window_bits == 15 || agreed.contains(&format!("={}", arguments.window_bits)));
    if is_as_asked { Ok(ws) } else { Err(format!("the server agreed to `{agreed}`")) }
}

async fn connect_all(arguments: &Arguments) -> Outcome<Vec<Socket>> {
    let mut sockets = Vec::new();
    for _ in 0..arguments.conns {
        sockets.push(connect(arguments).await?);
    }
    Ok(sockets)
}

async fn exchange(ws: &mut Socket, message: &Message) -> Outcome {
    ws.send(message.clone()).await.map_err(|error| error.to_string())?;
    let echo = ws.recv().await.map_err(|error| error.to_string())?;
    if echo.as_ref() == Some(message) { Ok(()) } else { Err("an echo differs from what was sent".into()) }
}

/// Echoes messages, one in flight on each connection.
async fn echo(arguments: &Rc<Arguments>) -> Outcome {
    let messages: Rc<[Message]> = json::messages(arguments.size).into();
    let mut warm = Vec::new();
    for (index, mut ws) in connect_all(arguments).await?.into_iter().enumerate() {
        for message in messages.iter().take(8) {
            exchange(&mut ws, message).await?;
        }
        warm.push((index, ws));
    }
    let before = cpu_nanoseconds(arguments.server_pid)?;
    let faults_before = minor_faults(arguments.server_pid)?;
    let end = Instant::now() + Duration::from_secs_f64(arguments.seconds);
    let running: Vec<_> = warm
        .into_iter()
        .map(|(index, mut ws)| {
            let messages = Rc::clone(&messages);
            tokio::task::spawn_local(async move {
                let start = ws.stats();
                for count in 0.. {
                    if Instant::now() >= end {
                        let now = ws.stats();
                        let sent = now.bytes_sent - start.bytes_sent;
                        return Ok((count, sent, now.bytes_received - start.bytes_received));
                    }
                    exchange(&mut ws, &messages[(index * 7 + count) % messages.len()]).await?;
                }
                Err(String::new())
            })
        })
        .collect();
    let (mut count, mut sent, mut received) = (0, 0, 0);
    for task in running {
        let (messages, out, back): (usize, u64, u64) = task.await.map_err(|error| error.to_string())??;
        count += messages as u64;
        sent += out;
        received += back;
    }
    let cpu = cpu_nanoseconds(arguments.server_pid)? - before;
    let faults = minor_faults(arguments.server_pid)? - faults_before;
    let count = count.max(1);
    println!(
        "messages {count} cpu_ns {} wire_in {} wire_out {} faults_of_1000 {}",
        cpu / count,
        sent / count,
        received / count,
        faults * 1000 / count
    );
    Ok(())
}

/// Sends messages of all sizes on every connection, then stays silent.
async fn idle(arguments: &Rc<Arguments>) -> Outcome {
    let empty = Memory::of(arguments.server_pid)?;
    let mut sockets = connect_all(arguments).await?;
    let fresh = Memory::of(arguments.server_pid)?;
    let sizes = [256, 1024, 16384].map(json::messages);
    for ws in &mut sockets {
        for number in 0..arguments.messages as usize {
            let messages = &sizes[number % sizes.len()];
            exchange(ws, &messages[number % messages.len()]).await?;
        }
    }
    let used = Memory::of(arguments.server_pid)?;
    // longwire gives contexts back after a second without a message; others need no time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let idle = Memory::of(arguments.server_pid)?;
    let each = |memory: Memory| memory.rss.saturating_sub(empty.rss) / u64::from(arguments.conns);
    println!("fresh {} used {} idle {}", each(fresh), each(used), each(idle));
    // The connections must still work.
    for ws in &mut sockets {
        exchange(ws, &sizes[1][0]).await?;
    }
    Ok(())
}

/// Makes the server send to all other clients: first many times one way, then many times the other.
async fn fanout(arguments: &Rc<Arguments>) -> Outcome {
    let messages = json::messages(arguments.size);
    let mut publisher = connect(arguments).await?;
    let mut clients = connect_all(arguments).await?;
    let deliveries = u64::from(arguments.conns) * u64::from(arguments.messages);
    for order in ["prepared", "each"] {
        let mut broadcast = async |message: &Message| -> Outcome {
            publisher.send(message.clone()).await.map_err(|error| error.to_string())?;
            publisher.send(order).await.map_err(|error| error.to_string())?;
            for ws in &mut clients {
                let received = ws.recv().await.map_err(|error| error.to_string())?;
                if received.as_ref() != Some(message) {
                    return Err("a broadcast differs from what was sent".into());
                }
            }
            Ok(())
        };
        // Creates contexts and fills windows.
        for message in messages.iter().take(4) {
            broadcast(message).await?;
        }
        let (cpu, user) = (cpu_nanoseconds(arguments.server_pid)?, user_nanoseconds(arguments.server_pid)?);
        for message in messages.iter().cycle().skip(4).take(arguments.messages as usize) {
            broadcast(message).await?;
        }
        let cpu = (cpu_nanoseconds(arguments.server_pid)? - cpu) / deliveries;
        let user = (user_nanoseconds(arguments.server_pid)? - user) / deliveries;
        let wire: u64 = clients.iter().map(|ws| ws.stats().received_compressed.wire_bytes).sum();
        let plain: u64 = clients.iter().map(|ws| ws.stats().received_compressed.payload_bytes).sum();
        println!("order {order} cpu_ns {cpu} user_ns {user} wire {wire} payload {plain}");
    }
    Ok(())
}
