//! Standard output, written by a thread of its own.
//!
//! A terminal that is stopped, or a pipe that is not read, must not stop the connection's answers to pings. Messages
//! are written in order; while the queue is full, the receiving task waits, and so does the server.

use std::io::{self, BufWriter, Write};
use std::thread;

use bytes::Bytes;
use rustyline::ExternalPrinter;
use tokio::sync::{mpsc, oneshot};

/// A sending handle to the thread.
#[derive(Clone)]
pub(crate) struct Output {
    queue: mpsc::Sender<Vec<Bytes>>,
}

/// The thread's end.
pub(crate) struct Written {
    end: oneshot::Receiver<io::Result<()>>,
}

/// The place that is written to.
pub(crate) enum Sink {
    Stdout,
    /// Above the line that is being typed.
    Prompt(Box<dyn ExternalPrinter + Send>),
}

/// Starts the thread.
pub(crate) fn start(sink: Sink) -> (Output, Written) {
    let (queue, pieces) = mpsc::channel(QUEUED);
    let (ended, end) = oneshot::channel();
    thread::spawn(move || {
        let result = match sink {
            Sink::Stdout => write_stdout(pieces),
            Sink::Prompt(printer) => print(pieces, printer),
        };
        // Nobody waits if the program ends early.
        let _ = ended.send(result);
    });
    (Output { queue }, Written { end })
}

const QUEUED: usize = 16;

impl Output {
    /// Queues pieces, which are written together. Returns whether the thread still takes some.
    pub(crate) async fn write(&self, pieces: Vec<Bytes>) -> bool {
        self.queue.send(pieces).await.is_ok()
    }

    /// Queues a line if there is space now.
    pub(crate) fn try_line(&self, line: String) {
        // Where lines come faster than they are written, one of them is missed.
        let _ = self.queue.try_send(vec![line.into()]);
    }

    /// Queues a line, as [`write`](Self::write) does.
    pub(crate) async fn line(&self, line: String) -> bool {
        self.write(vec![line.into()]).await
    }
}

impl Written {
    /// Waits until everything is written: until all handles are dropped, or writing has failed.
    ///
    /// # Errors
    ///
    /// The failure.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        (&mut self.end).await.unwrap_or_else(|_| Err(io::Error::other("the thread that writes has panicked")))
    }
}

fn write_stdout(mut queue: mpsc::Receiver<Vec<Bytes>>) -> io::Result<()> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    while let Some(pieces) = queue.blocking_recv() {
        for piece in pieces {
            stdout.write_all(&piece)?;
        }
        if queue.is_empty() {
            stdout.flush()?;
        }
    }
    stdout.flush()
}

fn print(
    mut queue: mpsc::Receiver<Vec<Bytes>>,
    mut printer: Box<dyn ExternalPrinter + Send>,
) -> io::Result<()> {
    while let Some(pieces) = queue.blocking_recv() {
        let text = String::from_utf8_lossy(&pieces.concat()).into_owned();
        printer.print(text).map_err(io::Error::other)?;
    }
    if cfg!(unix) {
        // The printer's queue holds one text. Once it has taken this one, the last message is on the terminal. The text
        // itself leaves no trace: up one line, and down again.
        printer.print("\x1bM\n".to_owned()).map_err(io::Error::other)?;
    }
    Ok(())
}
