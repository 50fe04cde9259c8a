//! The publisher and its readers: publishes while the window has room, and reads the messages that arrive.

use std::{
    io::{ErrorKind, Read, Write},
    net,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{Outcome, connection::PATIENCE, latency::Latency, reader::Progress, window::Window};

/// One publisher and many readers.
pub(crate) struct Fanout {
    poll: Poll,
    events: Events,
    publisher: net::TcpStream,
    readers: Vec<(TcpStream, Progress)>,
    window: Window,
    buf: Vec<u8>,
    /// The measurements since they were last reset.
    measured: Measured,
}

#[derive(Default)]
struct Measured {
    /// The number of messages published before the measurements.
    before: u64,
    deliveries: u64,
    latency: Latency,
}

impl Fanout {
    /// Takes connections whose opening handshake is complete.
    pub(crate) fn new(
        publisher: net::TcpStream,
        readers: Vec<net::TcpStream>,
        size: usize,
        in_flight: u32,
    ) -> Outcome<Self> {
        let text = |error: std::io::Error| error.to_string();
        let poll = Poll::new().map_err(text)?;
        let count = u32::try_from(readers.len()).map_err(|_| "too many readers")?;
        let mut registered = Vec::with_capacity(readers.len());
        for (index, stream) in readers.into_iter().enumerate() {
            stream.set_nonblocking(true).map_err(text)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE).map_err(text)?;
            registered.push((stream, Progress::default()));
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            publisher,
            readers: registered,
            window: Window::new(size, in_flight, count),
            buf: vec![0; READ_LEN],
            measured: Measured::default(),
        })
    }

    /// Measures from here on.
    pub(crate) fn forget(&mut self) {
        self.measured = Measured { before: self.window.published(), ..Measured::default() };
    }

    /// Returns the number of messages published.
    pub(crate) fn published(&self) -> u64 {
        self.window.published() - self.measured.before
    }

    /// Returns the number of messages delivered to readers.
    pub(crate) fn deliveries(&self) -> u64 {
        self.measured.deliveries
    }

    /// Returns the times from publishing a message until a reader had it.
    pub(crate) fn latency(&self) -> &Latency {
        &self.measured.latency
    }

    /// Publishes as long as `more` returns true for the number of messages so far, and waits until all readers have
    /// them all.
    pub(crate) fn run(&mut self, mut more: impl FnMut(u64) -> bool) -> Outcome {
        let mut last_progress = Instant::now();
        loop {
            while !self.window.is_full() && more(self.published()) {
                let sent = self.window.publish();
                self.publisher.write_all(&sent).map_err(|error| format!("the publisher: {error}"))?;
            }
            if self.window.is_empty() {
                return Ok(());
            }
            match self.poll.poll(&mut self.events, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.map_err(|error| format!("epoll: {error}"))?,
            }
            if !self.events.is_empty() {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > PATIENCE {
                return Err(format!("the server was silent for {} s", PATIENCE.as_secs()));
            }
            for event in &self.events {
                let index = event.token().0;
                let (stream, progress) = &mut self.readers[index];
                read(stream, progress, &mut self.buf, &mut self.window, &mut self.measured)
                    .map_err(|reason| format!("reader {index}: {reason}"))?;
            }
        }
    }
}

/// Reads all available bytes.
fn read(
    stream: &mut TcpStream,
    progress: &mut Progress,
    buf: &mut [u8],
    window: &mut Window,
    measured: &mut Measured,
) -> Outcome {
    loop {
        match stream.read(buf) {
            Ok(0) => return Err("the server ended the connection".to_owned()),
            Ok(len) => {
                let answer = progress.take(&buf[..len], window, |time| {
                    measured.deliveries += 1;
                    measured.latency.add(time);
                })?;
                // A few bytes, rarely: there is room for them.
                stream.write_all(&answer).map_err(|error| error.to_string())?;
                // Events are edge-triggered, and later bytes raise a new one: a read that did not fill the buffer
                // took everything.
                if len < buf.len() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

const READ_LEN: usize = 64 * 1024;
