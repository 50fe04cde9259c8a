//! The load: every connection writes its batch, awaits the echoes, and writes it again.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream};

use crate::{
    Arguments, Outcome,
    connection::{PATIENCE, connect_all},
    frames::{Kind, Script},
    process::cpu_nanoseconds,
};

/// Drives the server and prints one line with its cost.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let [size] = arguments.size[..] else { return Err("a load takes one --size".to_owned()) };
    let kind = if arguments.text { Kind::Text } else { Kind::Binary };
    // Adjacent connections have different batches, but the memory of many connections stays small.
    let scripts: Vec<_> = (0..arguments.conns.min(VARIANTS))
        .map(|seed| Script::new(kind, size, arguments.depth, seed))
        .map(|script| if arguments.raw { script.mirrored() } else { script })
        .collect();
    let batches = arguments.messages.map(|messages| messages.div_ceil(u64::from(arguments.depth)));
    let mut load = Load::new(arguments, &scripts, batches)?;

    let cpu = || arguments.server_pid.map_or(Ok(0), cpu_nanoseconds);
    let (message_len, limit) =
        (scripts[0].expected.len() as u64 / u64::from(arguments.depth), arguments.seconds);
    if batches.is_none() {
        load.run_until(Instant::now() + Duration::from_secs_f64(arguments.warm_up))?;
    }
    let (started, cpu_before, bytes_before) = (Instant::now(), cpu()?, load.received);
    let end = if batches.is_some() { started + LONGEST } else { started + Duration::from_secs_f64(limit) };
    load.run_until(end)?;
    let (seconds, cpu_after) = (started.elapsed().as_secs_f64(), cpu()?);
    if batches.is_some() && load.busy > 0 {
        return Err(format!("{} connections had not finished after {} s", load.busy, LONGEST.as_secs()));
    }

    // Bytes are counted, not whole messages: large messages straddle the ends of the measured period.
    #[allow(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
    let messages = (load.received - bytes_before) as f64 / message_len as f64;
    if messages == 0.0 {
        return Err("no message came back".to_owned());
    }
    #[allow(clippy::cast_precision_loss, reason = "no time comes near 2^52 ns")]
    let cpu_us = (cpu_after - cpu_before) as f64 / 1000.0 / messages;
    let rate = messages / seconds;
    println!(
        "messages {messages:.0} seconds {seconds:.4} cpu_us_per_message {cpu_us:.4} messages_per_second {rate:.0}"
    );
    Ok(())
}

struct Load<'a> {
    poll: Poll,
    events: Events,
    connections: Vec<Connection<'a>>,
    buf: Vec<u8>,
    /// Bytes of echoes, all of them checked.
    received: u64,
    /// Connections with batches left.
    busy: usize,
}

impl<'a> Load<'a> {
    /// Connects, and writes the first batch of each connection.
    fn new(arguments: &Arguments, scripts: &'a [Script], batches: Option<u64>) -> Outcome<Self> {
        let poll = Poll::new().map_err(|error| format!("no epoll: {error}"))?;
        let mut connections = Vec::new();
        for (index, stream) in connect_all(arguments.addr, arguments.conns)?.into_iter().enumerate() {
            let text = |error: std::io::Error| format!("connection {index}: {error}");
            stream.set_nonblocking(true).map_err(text)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), interest).map_err(text)?;
            let script = &scripts[index % scripts.len()];
            connections.push(Connection { stream, script, written: 0, checked: 0, batches_left: batches });
        }
        for (index, connection) in connections.iter_mut().enumerate() {
            connection.write().map_err(|reason| format!("connection {index}: {reason}"))?;
        }
        let busy = connections.len();
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            connections,
            buf: vec![0; READ_LEN],
            received: 0,
            busy,
        })
    }

    /// Continues until a time, or until every connection has finished its batches.
    fn run_until(&mut self, end: Instant) -> Outcome {
        let mut last_progress = Instant::now();
        while self.busy > 0 {
            let now = Instant::now();
            if now >= end {
                break;
            }
            let timeout = (end - now).min(Duration::from_secs(1));
            match self.poll.poll(&mut self.events, Some(timeout)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.map_err(|error| format!("epoll: {error}"))?,
            }
            if !self.events.is_empty() {
                last_progress = now;
            } else if last_progress.elapsed() > PATIENCE {
                return Err(format!("the server was silent for {} s", PATIENCE.as_secs()));
            }
            for event in &self.events {
                let index = event.token().0;
                let connection = &mut self.connections[index];
                if connection.is_done() {
                    continue;
                }
                self.received += connection
                    .handle(event, &mut self.buf)
                    .map_err(|reason| format!("connection {index}: {reason}"))?;
                self.busy -= usize::from(connection.is_done());
            }
        }
        Ok(())
    }
}

struct Connection<'a> {
    stream: TcpStream,
    script: &'a Script,
    /// The number of bytes of the batch that are written.
    written: usize,
    /// The number of bytes of its echo that have arrived.
    checked: usize,
    /// The number of batches still to be echoed; `None` for no limit.
    batches_left: Option<u64>,
}

impl Connection<'_> {
    fn is_done(&self) -> bool {
        self.batches_left == Some(0)
    }

    /// Reads and checks the available bytes, and writes as much as possible. Returns the number of bytes read.
    fn handle(&mut self, event: &Event, buf: &mut [u8]) -> Outcome<u64> {
        if event.is_writable() {
            self.write()?;
        }
        let mut total = 0;
        while event.is_readable() {
            match self.stream.read(buf) {
                Ok(0) => return Err("the server closed".to_owned()),
                Ok(len) => {
                    self.check(&buf[..len])?;
                    total += len as u64;
                    // Events are edge-triggered, and later bytes raise a new one: a read that did not fill the buffer
                    // took everything.
                    if len < buf.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(total)
    }

    /// Compares bytes with the expected echo; at its end the next batch is sent.
    fn check(&mut self, bytes: &[u8]) -> Outcome {
        let due = &self.script.expected[self.checked..];
        if due.get(..bytes.len()) != Some(bytes) {
            let at = self.checked + bytes.iter().zip(due).take_while(|(a, b)| a == b).count();
            return Err(format!("the echo differs from what is due at byte {at} of a batch"));
        }
        self.checked += bytes.len();
        if self.checked == self.script.expected.len() {
            (self.checked, self.written) = (0, 0);
            self.batches_left = self.batches_left.map(|batches| batches - 1);
            if !self.is_done() {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes the rest of the batch, as far as the socket takes it.
    fn write(&mut self) -> Outcome {
        while self.written < self.script.sent.len() {
            match self.stream.write(&self.script.sent[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

/// The number of different batches.
const VARIANTS: u32 = 4;

const READ_LEN: usize = 256 * 1024;

/// The limit for a given number of messages: under callgrind everything takes fifty times longer.
const LONGEST: Duration = Duration::from_mins(5);
