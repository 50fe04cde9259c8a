//! The brokers Redis and Valkey, over the client of Redis.
//!
//! One connection with version 3 of the protocol carries everything: what is published, what is subscribed to, and what
//! arrives, which the task of the client puts into the inbox itself. The client does not connect again; this module
//! does, because only then is it known which messages belong to which connection.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, Value,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::appends::Append;
use crate::backplane::{Backplane, BackplaneError, BoxFuture, Inbox};
use crate::broker::{ANSWER, BrokerOptions, CONNECT, PING, back_off};
use crate::channel::{Channel, NodeId};
use crate::envelope::Envelope;
use crate::history::{History, Past, Position};

mod history;

use history::Kept;

/// The connection of one node to [Redis](https://redis.io), version 6 or newer, or to [Valkey](https://valkey.io).
/// Tested with Redis 7.0 and Valkey 8.1.
///
/// It uses the server's publish and subscribe, and stores nothing: each message reaches the nodes that are there at the
/// time. With [`ClusterOptions::with_history`](crate::ClusterOptions::with_history), each room has a stream, which two
/// scripts write and read. Its messages are as durable as the server's files (`appendonly yes`), and the server needs
/// memory for them: with a `maxmemory-policy` other than `noeviction`, it may drop what should be kept. If the server
/// starts again and its files lack the last messages, these are a gap in the room as soon as a node that had got one of
/// them is connected again: it adds the gap to the history, so that others have it as well. Of messages that reached no
/// node that is still there, nobody but their publisher knows.
///
/// # Failures
///
/// - The server goes away, or the connection breaks: that is noticed at once, and reported by
///   [`ClusterEvent::Lost`](crate::ClusterEvent::Lost). The connection is tried again after 0.05 to 4 s, with no end.
///   Afterwards all subscriptions are there again, and each room has a [gap](crate::ClusterEvent::Gap).
/// - The server, or the network, swallows everything: that is noticed by a test of the connection each two seconds, or
///   by the first call that gets no answer for three seconds, or by a probe of the node, if that is earlier. After five
///   seconds at most, the node connects anew.
/// - The node does not keep up: beyond [`ClusterOptions::inbox`](crate::ClusterOptions::inbox), messages are dropped
///   and reported as gaps. A server that cannot get rid of its messages closes the connection (its option
///   `client-output-buffer-limit pubsub`).
///
/// # Limits
///
/// One server, without Sentinel. In a Redis Cluster, all nodes may use any of its servers, because these pass all
/// messages on to each other (tested with three); sharded channels, which avoid that, are not supported. What a node
/// publishes in a room with clients of its own comes back to it, and is dropped on arrival. The user needs the
/// permission for `PUBLISH`, `SUBSCRIBE`, `UNSUBSCRIBE` and `PING`, and for the channels that begin with the
/// [prefix](BrokerOptions::prefix). For a history it needs `SCRIPT LOAD`, `EVALSHA`, `INFO` (without it, messages that
/// the server has lost when it starts again may go unnoticed) and what the scripts use (`TIME`, `GET`, `SET`, `DEL`,
/// `PEXPIRE`, `HGET`, `HSET`, `XADD`, `XDEL`, `XRANGE`), for the keys that begin with a brace and the prefix; in a
/// Redis Cluster, a history is not supported, and joining with one fails.
///
/// # Examples
///
/// ```no_run
/// use longwire_cluster::{Cluster, ClusterOptions, Redis};
/// use longwire_hub::Hub;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::default();
/// let broker = Redis::connect("redis://user:password@redis.example").await?;
/// let cluster = Cluster::join(&hub, broker, ClusterOptions::default()).await?;
/// hub.publish("lobby", "hello");
/// cluster.leave().await;
/// # Ok(())
/// # }
/// ```
pub struct Redis {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    host: String,
    port: u16,
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsConnector>,
    info: RedisConnectionInfo,
    prefix: String,
    started: OnceLock<Started>,
    state: Mutex<State>,
    /// Notified when the connection is lost.
    lost: Notify,
}

struct Started {
    node: NodeId,
    inbox: Inbox,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// The number of connections that there were.
    connections: u64,
    /// The channels to subscribe to, by their names.
    channels: HashMap<Vec<u8>, Channel>,
    /// Set if a history is kept.
    kept: Option<Kept>,
    /// Set at the end, after which there is no connection.
    has_ended: bool,
}

struct Connection {
    number: u64,
    handle: MultiplexedConnection,
    driver: JoinHandle<()>,
    has_ended: Arc<AtomicBool>,
    /// The run ID of the server, once the history has asked for it.
    run: Option<Arc<str>>,
}

/// What a connection is made over.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl Redis {
    /// Connects with the default options: see [`with_options`](Self::with_options).
    ///
    /// # Errors
    ///
    /// As for [`with_options`](Self::with_options).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no connection.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, BackplaneError> {
        Self::with_options(url, BrokerOptions::default()).await
    }

    /// Connects to a server.
    ///
    /// The URL is `redis://HOST`, or `rediss://HOST` for TLS (feature `tls`), with a port, unless that is 6379.
    /// Credentials precede the host: `USER:PASSWORD@`, or `:PASSWORD@`, percent-encoded. The number of a database after
    /// it, as in `/3`, is that of the history; channels belong to none.
    ///
    /// # Errors
    ///
    /// The server could not be reached within five seconds, it is too old, or it refused the credentials; or the URL or
    /// the prefix is malformed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no connection.
    pub async fn with_options(url: impl AsRef<str>, options: BrokerOptions) -> Result<Self, BackplaneError> {
        let shared = Arc::new(Shared::new(url.as_ref(), options)?);
        let connection = shared.establish().await?;
        shared.state().connection = Some(connection);
        Ok(Self { shared, keeper: Mutex::default() })
    }

    fn end(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            keeper.abort();
        }
        let connection = {
            let mut state = self.shared.state();
            // A task that is aborted finishes its step.
            state.has_ended = true;
            state.connection.take()
        };
        drop(connection);
    }
}

impl Shared {
    fn new(url: &str, options: BrokerOptions) -> Result<Self, BackplaneError> {
        if !options.has_valid_prefix() {
            return Err(BackplaneError::new(format!("the prefix {:?} is malformed", options.prefix)));
        }
        // The client knows the scheme for TLS only if it makes TLS itself.
        let plain = url.strip_prefix("rediss://").map(|rest| format!("redis://{rest}"));
        let is_tls = plain.is_some();
        let info =
            plain.unwrap_or_else(|| url.to_owned()).into_connection_info().map_err(BackplaneError::new)?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err(BackplaneError::new("the URL begins neither with redis:// nor with rediss://"));
        };
        #[cfg(not(feature = "tls"))]
        if is_tls {
            return Err(BackplaneError::new("TLS needs the feature `tls`"));
        }
        Ok(Self {
            host: host.clone(),
            port: *port,
            #[cfg(feature = "tls")]
            tls: if is_tls { Some(connector(&options)?) } else { None },
            info: info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3),
            prefix: options.prefix,
            started: OnceLock::new(),
            state: Mutex::default(),
            lost: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self) -> Result<&Started, BackplaneError> {
        self.started.get().ok_or_else(|| BackplaneError::new("not started"))
    }

    /// Returns the connection that is there, and its number.
    fn connection(&self) -> Result<(u64, MultiplexedConnection), BackplaneError> {
        let state = self.state();
        let connection = state.connection.as_ref().map(|it| (it.number, it.handle.clone()));
        connection.ok_or_else(|| BackplaneError::new("there is no connection to the server"))
    }

    fn name(&self, channel: &Channel) -> Vec<u8> {
        channel.subject(&self.prefix).into_bytes()
    }

    /// Makes a connection.
    async fn establish(self: &Arc<Self>) -> Result<Connection, BackplaneError> {
        let connecting = async {
            let stream = self.transport().await?;
            let shared = Arc::clone(self);
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER)).set_push_sender(
                move |push: PushInfo| {
                    shared.arrived(push);
                    Ok::<_, Infallible>(())
                },
            );
            MultiplexedConnection::new_with_config(&self.info, stream, config)
                .await
                .map_err(BackplaneError::new)
        };
        let connected = timeout(CONNECT, connecting).await;
        let (handle, driver) =
            connected.unwrap_or_else(|_| Err(BackplaneError::new("the server does not answer")))?;
        let number = {
            let mut state = self.state();
            state.connections += 1;
            state.connections
        };
        let has_ended = Arc::new(AtomicBool::new(false));
        let (shared, ended) = (Arc::clone(self), Arc::clone(&has_ended));
        let driver = tokio::spawn(async move {
            driver.await;
            // Before the lock is taken: either this is seen there, or the connection is.
            ended.store(true, Ordering::Relaxed);
            shared.lose(number, BackplaneError::new("the connection to the server is lost"));
        });
        Ok(Connection { number, handle, driver, has_ended, run: None })
    }

    async fn transport(&self) -> Result<Pin<Box<dyn Transport>>, BackplaneError> {
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(BackplaneError::new)?;
        // A small message does not wait for the next one.
        stream.set_nodelay(true).map_err(BackplaneError::new)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let name = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name =
                tokio_rustls::rustls::pki_types::ServerName::try_from(name).map_err(BackplaneError::new)?;
            return Ok(Box::pin(tls.connect(name, stream).await.map_err(BackplaneError::new)?));
        }
        Ok(Box::pin(stream))
    }

    /// Takes what the server has sent without being asked.
    fn arrived(&self, push: PushInfo) {
        let PushInfo { kind: PushKind::Message, data } = push else { return };
        let Ok([Value::BulkString(name), Value::BulkString(payload)]) = <[Value; 2]>::try_from(data) else {
            return;
        };
        let Some(Started { node, inbox }) = self.started.get() else { return };
        if Envelope::is_from(&payload, *node) {
            return;
        }
        // Otherwise the server has not got the end of the subscription yet.
        let channel = self.state().channels.get(&name).cloned();
        let Some(channel) = channel else { return };
        let payload = Bytes::from(payload);
        match (channel.room(), history::arrived(&payload)) {
            (Some(room), Some(record)) => inbox.record(Arc::clone(room), record),
            _ => inbox.message(channel, payload),
        }
    }

    /// Gives a connection up. Does nothing if it is not there any more.
    fn lose(&self, number: u64, error: BackplaneError) {
        let mut state = self.state();
        let Some(connection) = state.connection.take_if(|connection| connection.number == number) else {
            return;
        };
        // Under the lock, so that it comes before the news that there is another one.
        if let Some(started) = self.started.get() {
            started.inbox.lost(error);
        }
        drop(state);
        drop(connection);
        self.lost.notify_one();
    }

    /// Wraps the error of a call, after which the connection may be of no use.
    fn failed(&self, number: u64, error: RedisError) -> BackplaneError {
        let is_over = error.is_timeout() || error.is_unrecoverable_error();
        let error = BackplaneError::new(error);
        if is_over {
            self.lose(number, error.clone());
        }
        error
    }

    async fn ping(&self) -> Result<(), BackplaneError> {
        let (number, mut handle) = self.connection()?;
        let answered = redis::cmd("PING").exec_async(&mut handle).await;
        answered.map_err(|error| self.failed(number, error))
    }

    async fn publish(&self, messages: &[(Channel, Bytes)]) -> Result<(), BackplaneError> {
        let (number, mut handle) = self.connection()?;
        let mut pipeline = redis::pipe();
        for (channel, payload) in messages {
            pipeline.cmd("PUBLISH").arg(self.name(channel)).arg(&payload[..]);
        }
        let answered = pipeline.exec_async(&mut handle).await;
        answered.map_err(|error| self.failed(number, error))
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BackplaneError> {
        let (number, mut handle) = self.connection()?;
        let names: Vec<_> = channels.iter().map(|channel| self.name(channel)).collect();
        // If it fails, these are subscribed to with the next connection; until the node ends that.
        self.state().channels.extend(names.iter().cloned().zip(channels.iter().cloned()));
        for chunk in names.chunks(BATCH) {
            if let Err(error) = handle.subscribe(chunk).await {
                let error = self.failed(number, error);
                if self.connection().is_ok_and(|(now, _)| now == number) {
                    // The server has refused one of them, and would with each connection.
                    let mut state = self.state();
                    for name in &names {
                        state.channels.remove(name);
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BackplaneError> {
        let names: Vec<_> = channels.iter().map(|channel| self.name(channel)).collect();
        {
            let mut state = self.state();
            for name in &names {
                state.channels.remove(name);
            }
        }
        let (number, mut handle) = self.connection()?;
        for names in names.chunks(BATCH) {
            handle.unsubscribe(names).await.map_err(|error| self.failed(number, error))?;
        }
        Ok(())
    }

    /// Keeps a connection, until it is aborted.
    async fn keep_connection(self: Arc<Self>) {
        let mut refreshed = Instant::now();
        loop {
            if timeout(PING, self.lost.notified()).await.is_err() {
                // If it fails, there is no connection any more.
                let _ = self.ping().await;
            }
            let mut failed = 0;
            while self.connection().is_err() {
                sleep(back_off(failed)).await;
                if let Err(error) = self.restore().await {
                    debug!(%error, failed, "connecting failed");
                }
                failed += 1;
            }
            if self.refresh_interval().is_some_and(|interval| refreshed.elapsed() >= interval) {
                refreshed = Instant::now();
                if let Err(error) = self.refresh().await {
                    debug!(%error, "rooms could not be refreshed");
                }
            }
        }
    }

    /// Makes a connection with all subscriptions.
    async fn restore(self: &Arc<Self>) -> Result<(), BackplaneError> {
        let mut connection = self.establish().await?;
        self.prepare(&mut connection.handle).await.map_err(BackplaneError::new)?;
        let mut subscribed: HashSet<Vec<u8>> = HashSet::new();
        loop {
            let (missing, surplus) = {
                let mut state = self.state();
                let wanted = &state.channels;
                let missing: Vec<_> =
                    wanted.keys().filter(|name| !subscribed.contains(*name)).cloned().collect();
                let surplus: Vec<_> =
                    subscribed.iter().filter(|name| !wanted.contains_key(*name)).cloned().collect();
                if missing.is_empty() && surplus.is_empty() {
                    if state.has_ended || connection.has_ended.load(Ordering::Relaxed) {
                        return Err(BackplaneError::new("the connection to the server is lost"));
                    }
                    state.connection = Some(connection);
                    if let Some(started) = self.started.get() {
                        started.inbox.restored();
                    }
                    return Ok(());
                }
                (missing, surplus)
            };
            for names in missing.chunks(BATCH) {
                connection.handle.subscribe(names).await.map_err(BackplaneError::new)?;
            }
            for names in surplus.chunks(BATCH) {
                connection.handle.unsubscribe(names).await.map_err(BackplaneError::new)?;
            }
            subscribed.extend(missing);
            for name in surplus {
                subscribed.remove(&name);
            }
        }
    }
}

#[cfg(feature = "tls")]
fn connector(options: &BrokerOptions) -> Result<tokio_rustls::TlsConnector, BackplaneError> {
    let config = options.tls.clone().map_or_else(crate::tls::default_config, Ok)?;
    Ok(Arc::new(config).into())
}

impl Backplane for Redis {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move {
            if self.shared.started.set(Started { node, inbox }).is_err() {
                return Err(BackplaneError::new("this connection has a node already"));
            }
            let keeper = tokio::spawn(Arc::clone(&self.shared).keep_connection());
            *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
            self.shared.ping().await
        })
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(self.shared.subscribe(channels))
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(self.shared.unsubscribe(channels))
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(self.shared.publish(messages))
    }

    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(self.shared.keep(history))
    }

    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(self.shared.append(messages))
    }

    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        Box::pin(self.shared.history(room, after, most))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(self.shared.ping())
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        // The server has confirmed everything that was published.
        Box::pin(async move { self.end() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("Redis")
            .field("is_connected", &state.connection.is_some())
            .field("subscriptions", &state.channels.len())
            .finish_non_exhaustive()
    }
}

/// The channels that are named in one command.
const BATCH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let address = |url: &str| Shared::new(url, BrokerOptions::default()).map(|it| (it.host, it.port));
        for (url, host, port) in [
            ("redis://one.example", "one.example", 6379),
            ("redis://ada:a%3Ab@one.example:7000/3", "one.example", 7000),
            ("redis://:secret@127.0.0.1", "127.0.0.1", 6379),
            ("redis://[::1]:1", "::1", 1),
        ] {
            assert_eq!(address(url).expect("it is well-formed"), (host.into(), port), "{url}");
        }
        for url in ["", "http://one.example", "redis+unix:///tmp/socket", "unix:///tmp/socket"] {
            assert!(address(url).is_err(), "{url}");
        }
        let ada = Shared::new("redis://ada:a%3Ab@one.example", BrokerOptions::default())
            .expect("it is well-formed");
        assert_eq!((ada.info.username(), ada.info.password()), (Some("ada"), Some("a:b")));
        #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
        assert!(
            Shared::new("rediss://one.example", BrokerOptions::default()).expect("it is known").tls.is_some()
        );
    }
}
