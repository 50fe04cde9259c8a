//! A load for several nodes with one room: members on each of them, and one that publishes. One thread.
//!
//! Each member must get each message, in order. The nodes and the broker are measured from outside. The result is a
//! line of alternating words and numbers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use mio::{Events, Interest, Poll, Token};

#[path = "../../../loadgen/src/frames.rs"]
#[allow(dead_code, reason = "shared with `loadgen`, which uses all of it")]
mod frames;
#[path = "../../../loadgen/src/process.rs"]
#[allow(dead_code, reason = "shared with `loadgen`, which uses all of it")]
mod process;

use frames::{Kind, header};
use process::cpu_nanoseconds;

/// The result of a part of the work, or the reason why it failed.
type Outcome<T = ()> = Result<T, String>;

#[derive(Parser)]
struct Arguments {
    /// A node: its address and process. The first one has the client that publishes.
    #[arg(long = "node", value_name = "ADDR,PID", required = true, value_parser = node)]
    nodes: Vec<(SocketAddr, u32)>,
    /// The broker's process.
    #[arg(long, value_name = "PID")]
    broker_pid: u32,
    /// Members on each node.
    #[arg(long, value_name = "N", default_value_t = 100)]
    members: usize,
    /// Bytes of a message, at least the digits of its number.
    #[arg(long, value_name = "BYTES", default_value_t = 125)]
    size: usize,
    /// Messages that are published before all members have the first of them.
    #[arg(long, value_name = "N", default_value_t = 8)]
    in_flight: usize,
    /// The duration of the measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Speak the protocol of Socket.IO, as far as a client needs it that only sends and receives texts.
    #[arg(long)]
    socket_io: bool,
}

fn node(text: &str) -> Result<(SocketAddr, u32), String> {
    let (addr, pid) = text.split_once(',').ok_or("not an address and a process")?;
    Ok((addr.parse().map_err(|_| "not an address")?, pid.parse().map_err(|_| "not a process")?))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("cluster_load: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// A client.
struct Member {
    stream: mio::net::TcpStream,
    is_far: bool,
    received: Vec<u8>,
    /// The number of the next message.
    due: u64,
}

struct Load {
    poll: Poll,
    members: Vec<Member>,
    /// What precedes a message's text in a frame's payload, and what follows it.
    around: (&'static str, &'static str),
    size: usize,
    published: u64,
    /// The oldest message that not all have, and for each since then its time and the number of those without it.
    oldest: u64,
    in_flight: std::collections::VecDeque<(Instant, usize)>,
    deliveries: u64,
    /// The times of messages that went through the broker, in microseconds.
    times: Vec<u32>,
}

fn run(arguments: &Arguments) -> Outcome<String> {
    let poll = Poll::new().map_err(|error| error.to_string())?;
    let mut members = Vec::new();
    for (index, (addr, _)) in arguments.nodes.iter().enumerate() {
        for _ in 0..arguments.members {
            let stream = connect(*addr, arguments.socket_io)?;
            stream.set_nonblocking(true).map_err(|error| error.to_string())?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            let token = Token(members.len());
            poll.registry()
                .register(&mut stream, token, Interest::READABLE)
                .map_err(|error| error.to_string())?;
            members.push(Member { stream, is_far: index > 0, received: Vec::new(), due: 0 });
        }
    }
    // Until each node has subscribed to the room.
    thread::sleep(SETTLE);
    let around = if arguments.socket_io { ("42[\"m\",\"", "\"]") } else { ("", "") };
    let mut load = Load {
        poll,
        members,
        around,
        size: arguments.size.max(DIGITS),
        published: 0,
        oldest: 0,
        in_flight: std::collections::VecDeque::new(),
        deliveries: 0,
        times: Vec::new(),
    };
    let started = Instant::now();
    load.run(arguments.in_flight, started + WARM_UP)?;
    (load.deliveries, load.times) = (0, Vec::new());
    let before = Usage::now(arguments)?;
    let (started, first) = (Instant::now(), load.published);
    load.run(arguments.in_flight, started + Duration::from_secs_f64(arguments.seconds))?;
    let seconds = started.elapsed().as_secs_f64();
    let after = Usage::now(arguments)?;
    Ok(load.line(arguments, &before, &after, seconds, load.published - first))
}

impl Load {
    /// Publishes until a time, and receives everything.
    fn run(&mut self, in_flight: usize, end: Instant) -> Outcome {
        let mut events = Events::with_capacity(1024);
        let mut buf = vec![0; 64 * 1024];
        loop {
            while self.in_flight.len() < in_flight && Instant::now() < end {
                self.publish()?;
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(PATIENCE)).map_err(|error| error.to_string())?;
            if events.is_empty() {
                return Err(format!("message {} does not reach everyone", self.oldest));
            }
            for event in &events {
                self.receive(event.token().0, &mut buf)?;
            }
        }
    }

    fn publish(&mut self) -> Outcome {
        let (before, after) = self.around;
        let text = format!("{before}{:020}{}{after}", self.published, "x".repeat(self.size - DIGITS));
        self.in_flight.push_back((Instant::now(), self.members.len()));
        self.published += 1;
        send(&mut self.members[0].stream, &text)
    }

    fn receive(&mut self, index: usize, buf: &mut [u8]) -> Outcome {
        loop {
            let member = &mut self.members[index];
            match member.stream.read(buf) {
                Ok(0) => return Err(format!("the connection of member {index} ended")),
                Ok(len) => member.received.extend_from_slice(&buf[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
            let mut received = std::mem::take(&mut member.received);
            let mut at = 0;
            while let Some((payload, end)) = frame(&received[at..]) {
                self.take(index, &received[at..][payload])?;
                at += end;
            }
            received.drain(..at);
            self.members[index].received = received;
        }
    }

    /// Takes the payload of a frame.
    fn take(&mut self, index: usize, payload: &[u8]) -> Outcome {
        let member = &mut self.members[index];
        if payload == b"2" && !self.around.0.is_empty() {
            // A ping of Engine.IO.
            return send(&mut member.stream, "3");
        }
        let (before, after) = (self.around.0.len(), self.around.1.len());
        let digits = payload.get(before..before + DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
        let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
        if number != Some(member.due) || payload.len() != before + self.size + after {
            let text = String::from_utf8_lossy(payload);
            return Err(format!("member {index} waits for message {} and gets {text:.80}", member.due));
        }
        let slot = usize::try_from(member.due - self.oldest).map_err(|error| error.to_string())?;
        member.due += 1;
        self.deliveries += 1;
        let (sent, missing) = &mut self.in_flight[slot];
        if member.is_far {
            self.times.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        *missing -= 1;
        while self.in_flight.front().is_some_and(|(_, missing)| *missing == 0) {
            self.in_flight.pop_front();
            self.oldest += 1;
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "no count and no time comes near 2^52")]
    fn line(
        &mut self,
        arguments: &Arguments,
        before: &Usage,
        after: &Usage,
        seconds: f64,
        messages: u64,
    ) -> String {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let spent: Vec<_> =
            after.nodes.iter().zip(&before.nodes).map(|(after, before)| us(after - before)).collect();
        let (deliveries, messages) = (self.deliveries as f64, messages as f64);
        let others = (arguments.nodes.len() - 1) as f64;
        let broker = us(after.broker - before.broker);
        self.times.sort_unstable();
        let quantile = |part: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let index = (self.times.len() as f64 * part) as usize;
            self.times.get(index.min(self.times.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        format!(
            "deliveries {deliveries} deliveries_per_second {:.0} node_us {:.4} broker_us {:.4} cpu_us {:.4} \
             near_us {:.2} far_us {:.2} broker_us_per_message {:.2} broker_bytes {:.1} latency_us_p50 {} \
             latency_us_p99 {}",
            deliveries / seconds,
            spent.iter().sum::<f64>() / deliveries,
            broker / deliveries,
            (spent.iter().sum::<f64>() + broker) / deliveries,
            spent[0] / messages,
            spent[1..].iter().sum::<f64>() / messages / others,
            broker / messages,
            (after.written - before.written) as f64 / messages,
            quantile(0.5),
            quantile(0.99),
        )
    }
}

/// The CPU time of each process, and the bytes that the broker has written.
struct Usage {
    nodes: Vec<u64>,
    broker: u64,
    written: u64,
}

impl Usage {
    fn now(arguments: &Arguments) -> Outcome<Self> {
        let nodes = arguments.nodes.iter().map(|(_, pid)| cpu_nanoseconds(*pid)).collect::<Outcome<_>>()?;
        let pid = arguments.broker_pid;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).map_err(|error| error.to_string())?;
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        let written = written.and_then(|text| text.parse().ok()).ok_or("/proc has no bytes written")?;
        Ok(Self { nodes, broker: cpu_nanoseconds(pid)?, written })
    }
}

/// Returns the range of the payload of a server's frame, and the end of the frame, once it is complete.
fn frame(bytes: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
    let (start, len) = match *bytes {
        [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([a, b]))),
        [_, len @ ..126, ..] => (2, usize::from(len)),
        // No message here is longer than 64 KiB.
        _ => return None,
    };
    (bytes.len() >= start + len).then_some((start..start + len, start + len))
}

fn connect(addr: SocketAddr, socket_io: bool) -> Outcome<TcpStream> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(addr).map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let path = if socket_io { "/socket.io/?EIO=4&transport=websocket" } else { "/rooms/0" };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(text)?;
        head.extend(byte);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(format!("the node answered: {}", String::from_utf8_lossy(&head)));
    }
    if socket_io {
        // "0" opens the transport, "40" the namespace.
        expect(&mut stream, b"0")?;
        send(&mut stream, "40")?;
        expect(&mut stream, b"40")?;
    }
    Ok(stream)
}

/// Reads one frame, which must begin with some bytes.
fn expect(stream: &mut TcpStream, beginning: &[u8]) -> Outcome {
    let mut received = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(|error| error.to_string())?;
        received.extend(byte);
        if let Some((payload, _)) = frame(&received) {
            let payload = &received[payload];
            let found = || format!("not a packet of Socket.IO: {}", String::from_utf8_lossy(payload));
            return if payload.starts_with(beginning) { Ok(()) } else { Err(found()) };
        }
    }
}

/// Sends a text. It fits into the socket's buffer, because few are in flight.
fn send(stream: &mut impl Write, text: &str) -> Outcome {
    let mut bytes = Vec::new();
    header(&mut bytes, Kind::Text, text.len(), Some(KEY));
    bytes.extend(text.bytes().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    stream.write_all(&bytes).map_err(|error| error.to_string())
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The number of digits of every number.
const DIGITS: usize = 20;

/// The time in which nodes subscribe.
const SETTLE: Duration = Duration::from_millis(1500);

const WARM_UP: Duration = Duration::from_millis(300);

/// The longest time without a message.
const PATIENCE: Duration = Duration::from_secs(10);
