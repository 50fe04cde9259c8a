//! The builder of a reconnecting connection.

use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{BoxError, Keepalive, Message, Transport as Stream, WebSocket};

use tracing::Instrument as _;

use super::inbox::inbox;
use super::outbox::Outbox;
use super::settings::{Confirm, Settings};
use super::shared::{Finish, Shared};
use super::task::Task;
use super::{Backoff, Failure, Reconnecting, Sender};
use crate::trace::reconnecting_span;
use crate::{Client, ClientStream, Error};

/// A builder of a connection that is re-established whenever it is lost: see [`Reconnecting`].
///
/// # Examples
///
/// Subscribes again on each connection, and gives up after an hour:
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
pub struct Builder<T: Stream = ClientStream> {
    /// The URL, for the span.
    url: Option<String>,
    settings: Settings<T>,
    max_queued: usize,
    max_queued_bytes: usize,
}

impl Client {
    /// Returns a builder of a connection that is re-established whenever it is lost.
    ///
    /// If [`Config::keepalive`](crate::Config::keepalive) is off, it is set to its default: without keepalive, a peer
    /// that vanishes silently would never be detected. Each attempt may take
    /// [`handshake_timeout`](Self::handshake_timeout).
    pub fn reconnecting(&self) -> Builder {
        let mut client = self.clone();
        client.config_mut().keepalive.get_or_insert(Keepalive::default());
        let client = Arc::new(client);
        let url = client.url().to_owned();
        let connect = move |number| {
            let client = Arc::clone(&client);
            async move { client.attempt(Some(number)).await.map(|(ws, _response)| ws) }
        };
        Builder { url: Some(url), ..Builder::with_numbers(connect) }
    }
}

impl<T: Stream> Builder<T> {
    /// Keeps a connection that `connect` makes, by any means. `connect` is called for each attempt and must limit its
    /// own time.
    pub fn new<F>(mut connect: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<WebSocket<T>, Error>> + Send + 'static,
    {
        Self::with_numbers(move |_number| connect())
    }

    /// Does the same with a function that takes the number of the attempt.
    fn with_numbers<F>(mut connect: impl FnMut(u32) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<WebSocket<T>, Error>> + Send + 'static,
    {
        Self {
            url: None,
            settings: Settings {
                connect: Box::new(move |number| Box::pin(connect(number))),
                on_connect: None,
                on_message: None,
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

    /// Sets how long to wait between attempts. Default: half a second, doubled up to 30 s; half of each step
    /// is random. A `Retry-After` of the server adds up to 5 min.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Decides after each failure whether to make another attempt. Default: as long as
    /// [`Outage::is_temporary`](super::Outage::is_temporary) returns `true`, without limit. Failures that another
    /// attempt cannot change, such as an invalid certificate or status 404, are therefore final.
    ///
    /// If it returns `false`, [`Reconnecting::recv`] fails with the outage, or returns `None` if the peer closed with
    /// 1000.
    pub fn retry_if(mut self, decide: impl FnMut(&Failure<'_>) -> bool + Send + 'static) -> Self {
        self.settings.retry_if = Box::new(decide);
        self
    }

    /// Runs on each new connection before anything else is sent or received, for example to log in and to subscribe.
    ///
    /// It takes the connection and returns it. Messages that it receives are not received again. If it fails, the
    /// connection is closed, which counts as a failure, [`Outage::Setup`](super::Outage::Setup). No further attempt is
    /// made if it fails with the connection's own error and that is final, for example because the peer closed with
    /// 1008 (see [`Outage::is_temporary`](super::Outage::is_temporary)).
    pub fn on_connect<F>(mut self, mut set_up: impl FnMut(WebSocket<T>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<WebSocket<T>, BoxError>> + Send + 'static,
    {
        self.settings.on_connect = Some(Box::new(move |ws| Box::pin(set_up(ws))));
        self
    }

    /// Calls a function with each message of the peer when it is queued for the application, which may be some time
    /// before the application takes it. Messages that [`on_connect`](Self::on_connect) receives are not passed to it.
    ///
    /// Use it, with [`new`](Self::new), to resume where the last connection has ended: what this function remembers is
    /// what the next attempt has to ask for. [`new`](Self::new) leaves keepalive as it is configured. The function must
    /// not wait. If it panics, the client ends.
    ///
    /// # Examples
    ///
    /// Messages of the form `POSITION TEXT`; the position is a parameter of the URL:
    ///
    /// ```no_run
    /// use std::sync::{Arc, Mutex, PoisonError};
    ///
    /// use longwire_client::Client;
    /// use longwire_client::reconnect::{Builder, Outage};
    ///
    /// # async fn example() -> Result<(), Outage> {
    /// let since = Arc::new(Mutex::new(None::<String>));
    /// let last = Arc::clone(&since);
    /// let mut ws = Builder::new(move || {
    ///     let since = since.lock().unwrap_or_else(PoisonError::into_inner);
    ///     let query = since.as_ref().map(|since| format!("?since={since}")).unwrap_or_default();
    ///     let client = Client::new(format!("ws://example.com/rooms/tea{query}"));
    ///     async move { client.connect().await.map(|(ws, _response)| ws) }
    /// })
    /// .on_message(move |message| {
    ///     if let Some((position, _)) = message.as_text().and_then(|text| text.split_once(' ')) {
    ///         *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(position.to_owned());
    ///     }
    /// })
    /// .start();
    /// while let Some(message) = ws.recv().await? {
    ///     println!("{message}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_message(mut self, note: impl FnMut(&Message) + Send + 'static) -> Self {
        self.settings.on_message = Some(Box::new(note));
        self
    }

    /// Sets the time limit of [`on_connect`](Self::on_connect). Default: 10 s.
    pub fn setup_timeout(mut self, limit: Duration) -> Self {
        self.settings.setup_timeout = limit;
        self
    }

    /// Sets when a message counts as delivered. Default: [`Confirm::Written`], with which one task may receive and
    /// send in turn.
    ///
    /// [`Confirm::Pong`] is for messages that must not be lost if the peer is killed.
    pub fn confirm(mut self, confirm: Confirm) -> Self {
        self.settings.confirm = confirm;
        self
    }

    /// Drops a connection if a message is not delivered within this time after the connection began to send it.
    /// Default: none, because a long message on a slow line would never arrive; a peer that has vanished is detected
    /// by its silence.
    ///
    /// With [`Confirm::Pong`], time in which the application does not receive counts too.
    pub fn delivery_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.delivery_timeout = limit.into();
        self
    }

    /// Sets how many undelivered messages may be queued before `send` waits and `try_send` fails; at least 1.
    /// Default: 1024.
    pub fn max_queued(mut self, messages: usize) -> Self {
        self.max_queued = messages;
        self
    }

    /// Sets how many bytes of undelivered messages may be queued, from 1 byte to 4 GiB. Default: 1 MiB.
    ///
    /// A larger message is accepted when no other is queued.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// Sets the time limit of [`Reconnecting::close`], for deliveries and the closing handshake together.
    /// Default: 5 s.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.settings.close_timeout = limit;
        self
    }

    /// Starts to connect, in a separate task.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime with time enabled.
    pub fn start(self) -> Reconnecting {
        let (filling, taking) = inbox();
        let shared = Arc::new(Shared::new(Outbox::new(self.max_queued, self.max_queued_bytes)));
        let task = Task { settings: self.settings, shared: Arc::clone(&shared), incoming: filling };
        // `Finish` is created here, not in the task: a runtime that shuts down may never run the task.
        let span = reconnecting_span(self.url.as_deref());
        tokio::spawn(task.run(Finish::new(Arc::clone(&shared))).instrument(span));
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
