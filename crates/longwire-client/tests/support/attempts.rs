//! The server's end of a reconnecting connection: the test answers each attempt, in memory and in virtual time.

use std::io;
use std::time::Duration;

use longwire_client::reconnect::{Backoff, Builder, Jitter};
use longwire_client::{Config, Error};
use longwire_connection::testing::{Faults, Pipe, duplex, pair_over, repeatable_keys};
use longwire_connection::{Handover, Message, WebSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The tolerance for times on the tests' clock, which counts in milliseconds.
pub(crate) const TICK: Duration = Duration::from_millis(2);

type Answer = oneshot::Sender<Result<WebSocket<Pipe>, Error>>;

/// A server at which connection attempts arrive.
pub(crate) struct Server {
    attempts: mpsc::UnboundedReceiver<(Instant, Answer)>,
}

/// Returns a client and the server to which its attempts go.
pub(crate) fn client() -> (Builder<Pipe>, Server) {
    let (asking, attempts) = mpsc::unbounded_channel();
    let builder = Builder::new(move || {
        let (answer, answered) = oneshot::channel();
        let asked = asking.send((Instant::now(), answer));
        async move {
            asked.map_err(|_| refused())?;
            answered.await.unwrap_or_else(|_| Err(refused()))
        }
    });
    (builder, Server { attempts })
}

fn refused() -> Error {
    io::Error::from(io::ErrorKind::ConnectionRefused).into()
}

/// Returns a backoff that always waits for the same time.
pub(crate) fn steady() -> Backoff {
    Backoff::default()
        .with_first(SECOND)
        .with_max(SECOND)
        .with_jitter(Jitter::None)
        .with_reset_after(30 * SECOND)
}

impl Server {
    /// Waits for the next attempt without answering it.
    pub(crate) async fn attempt(&mut self) -> (Instant, Answer) {
        self.attempts.recv().await.expect("it connects")
    }

    /// Accepts the next attempt and returns the server's end.
    pub(crate) async fn accept(&mut self) -> WebSocket<Pipe> {
        self.accept_over(64 * 1024, Faults::new()).await
    }

    /// Accepts the next attempt over a pipe of this capacity, with these faults at the client's end.
    pub(crate) async fn accept_over(&mut self, capacity: usize, faults: Faults) -> WebSocket<Pipe> {
        let (client, server) = duplex(capacity);
        let (client, server) = pair_over(client.with_faults(faults), server, &Config::default());
        let (_, answer) = self.attempt().await;
        assert!(answer.send(Ok(client)).is_ok(), "it waits for the answer");
        server
    }

    /// Accepts the next attempt and returns the server's end of the pipe, for hand-written bytes.
    pub(crate) async fn accept_raw(&mut self) -> Pipe {
        self.accept_raw_over(Faults::new()).await
    }

    /// Does the same, with these faults at the client's end.
    pub(crate) async fn accept_raw_over(&mut self, faults: Faults) -> Pipe {
        self.accept_raw_with(faults, &Config::default()).await
    }

    /// Does the same, with this configuration of the client's end.
    pub(crate) async fn accept_raw_with(&mut self, faults: Faults, config: &Config) -> Pipe {
        let (client, server) = duplex(64 * 1024);
        let client = client.with_faults(faults);
        let client = WebSocket::new(client, Handover::client(repeatable_keys), config);
        let (_, answer) = self.attempt().await;
        assert!(answer.send(Ok(client)).is_ok(), "it waits for the answer");
        server
    }

    /// Refuses the next attempt and returns the time at which it arrived.
    pub(crate) async fn refuse(&mut self) -> Instant {
        self.attempt().await.0
    }

    /// Fails the next attempt with this error.
    pub(crate) async fn fail(&mut self, error: Error) {
        let (_, answer) = self.attempt().await;
        assert!(answer.send(Err(error)).is_ok(), "it waits for the answer");
    }

    /// Returns whether no further attempt arrives within an hour.
    pub(crate) async fn is_left_alone(&mut self) -> bool {
        timeout(3600 * SECOND, self.attempts.recv()).await.map_or(true, |attempt| attempt.is_none())
    }
}

/// Receives text messages until the connection ends.
pub(crate) async fn texts(peer: &mut WebSocket<Pipe>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Ok(Some(message)) = peer.recv().await {
        texts.push(text(&message));
    }
    texts
}

pub(crate) fn text(message: &Message) -> String {
    message.as_text().expect("only text is sent").to_owned()
}
