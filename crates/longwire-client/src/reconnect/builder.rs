//! What a connection that is kept needs to be told.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{Keepalive, Transport as Stream, WebSocket};

use super::inbox::inbox;
use super::outbox::Outbox;
use super::shared::{Finish, Shared};
use super::task::Task;
use super::{Backoff, BoxError, Failure, Reconnecting, Sender};
use crate::{Client, Error, Transport};

/// What is reported as delivered: until then `send` waits, and the message is kept to be sent again on the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirm {
    /// What was written whole to the transport. What the system has taken and not yet sent when the connection fails is lost: no
    /// more can be known without an answer of the peer.
    Written,
    /// What a ping was sent behind that the peer answered (RFC 6455 §5.5.2, §5.5.3): the peer has read the message, so none is
    /// lost that was reported as delivered. A peer that reads on only when the application took what came before, as longwire
    /// does, has handed it to its application; what that did with it, an answer of the application alone can say.
    ///
    /// **Something has to receive all the time**, in another task than the one that sends: a pong is behind the messages that
    /// came before it, of which 256, or 1 MiB, are kept. A loop that receives and sends in turn would wait for itself for ever
    /// once the peer is so far ahead. A peer that answers no pings is told from one that does by
    /// [`Builder::delivery_timeout`].
    Pong,
}

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;
type Connect<T> = Box<dyn FnMut() -> Future<Result<WebSocket<T>, Error>> + Send>;
type OnConnect<T> = Box<dyn FnMut(WebSocket<T>) -> Future<Result<WebSocket<T>, BoxError>> + Send>;
type RetryIf = Box<dyn FnMut(&Failure<'_>) -> bool + Send>;

/// What the task needs.
pub(super) struct Settings<T: Stream> {
    pub(super) connect: Connect<T>,
    pub(super) on_connect: Option<OnConnect<T>>,
    pub(super) retry_if: RetryIf,
    pub(super) backoff: Backoff,
    pub(super) confirm: Confirm,
    pub(super) setup_timeout: Duration,
    pub(super) delivery_timeout: Option<Duration>,
    pub(super) close_timeout: Duration,
}

/// Sets up a connection that is made again whenever it is lost: see [`Reconnecting`].
///
/// # Examples
///
/// Subscribes anew on each connection, and gives up after an hour:
///
/// ```no_run
/// use std::time::Duration;
/// use longwire_client::Client;
/// use longwire_client::reconnect::Outage;
///
/// # async fn example() -> Result<(), Outage> {
/// let mut ws = Client::new("ws://example.com/feed")
///     .reconnecting()
///     .on_connect(|mut ws| async move {
///         ws.send("subscribe: news").await?;
///         Ok(ws)
///     })
///     .retry_if(|failure| {
///         failure.outage.is_temporary() && failure.elapsed < Duration::from_secs(3600)
///     })
///     .start();
/// while let Some(message) = ws.recv().await? {
///     println!("{message}");
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "it does nothing until it is started"]
pub struct Builder<T: Stream = Transport> {
    settings: Settings<T>,
    max_queued: usize,
    max_queued_bytes: usize,
}

impl Client {
    /// Begins to set up a connection that is made again whenever it is lost.
    ///
    /// [`Config::keepalive`](crate::Config::keepalive) is set to its default if it is off: without it, nothing would ever tell
    /// that a peer has vanished without a word. Each attempt may take [`handshake_timeout`](Self::handshake_timeout).
    pub fn reconnecting(&self) -> Builder {
        let mut client = self.clone();
        client.config_mut().keepalive.get_or_insert(Keepalive::default());
        let client = Arc::new(client);
        Builder::new(move || {
            let client = Arc::clone(&client);
            async move { client.connect().await.map(|(ws, _response)| ws) }
        })
    }
}

impl<T: Stream> Builder<T> {
    /// Keeps a connection that `connect` makes, by whatever means; it is called for each attempt, and bounds its own time.
    pub fn new<F>(mut connect: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: std::future::Future<Output = Result<WebSocket<T>, Error>> + Send + 'static,
    {
        Self {
            settings: Settings {
                connect: Box::new(move || Box::pin(connect())),
                on_connect: None,
                retry_if: Box::new(|failure| failure.outage.is_temporary()),
                backoff: Backoff::default(),
                confirm: Confirm::Written,
                setup_timeout: Duration::from_secs(10),
                delivery_timeout: None,
                close_timeout: Duration::from_secs(5),
            },
            max_queued: 1024,
            max_queued_bytes: 1024 * 1024,
        }
    }

    /// Sets how long to wait between attempts. Default: half a second, doubled up to 30 s, half of it at random.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Decides after each failure whether there is another attempt. Default: if [`Outage::is_temporary`](super::Outage::is_temporary) says so, for ever.
    ///
    /// If it says no, [`Reconnecting::recv`] fails with the outage, or ends with `None` if the peer closed with 1000.
    pub fn retry_if(mut self, decide: impl FnMut(&Failure<'_>) -> bool + Send + 'static) -> Self {
        self.settings.retry_if = Box::new(decide);
        self
    }

    /// Runs on each connection that is made, before anything else is sent or received: the place to log in and to subscribe.
    ///
    /// It is given the connection and gives it back. What it receives nobody else does. If it fails, the connection is
    /// closed, and that counts as a failure, [`Outage::Setup`](super::Outage::Setup).
    pub fn on_connect<F>(mut self, mut set_up: impl FnMut(WebSocket<T>) -> F + Send + 'static) -> Self
    where
        F: std::future::Future<Output = Result<WebSocket<T>, BoxError>> + Send + 'static,
    {
        self.settings.on_connect = Some(Box::new(move |ws| Box::pin(set_up(ws))));
        self
    }

    /// Sets how long [`on_connect`](Self::on_connect) may take in all. Default: 10 s.
    pub fn setup_timeout(mut self, limit: Duration) -> Self {
        self.settings.setup_timeout = limit;
        self
    }

    /// Sets what is reported as delivered. Default: [`Confirm::Written`], as with it one task may receive and send in turn.
    ///
    /// [`Confirm::Pong`] is for messages that must not be lost when the peer is killed.
    pub fn confirm(mut self, confirm: Confirm) -> Self {
        self.settings.confirm = confirm;
        self
    }

    /// Gives a connection up on which a message was not delivered this long after it was begun to be sent. Default: none, since a
    /// long message on a slow line would never arrive; a peer that has vanished is noticed by its silence.
    ///
    /// With [`Confirm::Pong`] the time in which the application receives nothing counts too.
    pub fn delivery_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.delivery_timeout = limit.into();
        self
    }

    /// Sets how many messages may wait to be delivered before `send` waits and `try_send` refuses; at least 1. Default: 1024.
    pub fn max_queued(mut self, messages: usize) -> Self {
        self.max_queued = messages;
        self
    }

    /// Sets how many bytes of messages may wait to be delivered, from 1 to 4 GiB. Default: 1 MiB.
    ///
    /// A message above that is taken when nothing else waits.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// Sets how long [`Reconnecting::close`] may take in all, deliveries and closing handshake. Default: 5 s.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.settings.close_timeout = limit;
        self
    }

    /// Starts to connect, in a task of its own.
    ///
    /// # Panics
    ///
    /// If it is called outside of a tokio runtime with time enabled.
    pub fn start(self) -> Reconnecting {
        let (filling, taking) = inbox();
        let shared = Arc::new(Shared::new(Outbox::new(self.max_queued, self.max_queued_bytes)));
        let task = Task { settings: self.settings, shared: Arc::clone(&shared), incoming: filling };
        // It is made here: a runtime that ends may never run the task.
        tokio::spawn(task.run(Finish::new(Arc::clone(&shared))));
        Reconnecting::new(Sender::new(shared), taking)
    }
}

impl<T: Stream> std::fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("backoff", &self.settings.backoff)
            .field("confirm", &self.settings.confirm)
            .finish_non_exhaustive()
    }
}
