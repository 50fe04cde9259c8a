//! The broker NATS, over its own client.
//!
//! The client connects again by itself. It queues commands meanwhile, reports what happens by events that it drops if
//! they are many, and its `flush` does not wait for the server. So this module does not rely on these: each call is
//! confirmed by a message of the node to itself, an echo, that the server returns after everything before it; and
//! connections are told apart by the client's count of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable};
use percent_encoding::percent_decode_str;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use crate::appends::Append;
use crate::backplane::{Backplane, BackplaneError, BoxFuture, Inbox};
use crate::broker::{ANSWER, BrokerOptions, CONNECT, PING, back_off, jittered};
use crate::channel::{Channel, NodeId};
use crate::envelope::{Body, Envelope};
use crate::history::{History, Past, Position};

mod history;
mod pump;

use history::{HEADERS, Kept};
use pump::{Arrival, pump};

/// The connection of one node to [NATS](https://nats.io). Tested with version 2.9.
///
/// It uses the server's core, without `JetStream`: each message reaches the nodes that are there at the time. With
/// [`ClusterOptions::with_history`](crate::ClusterOptions::with_history), it makes a stream of `JetStream`, which keeps
/// the messages of all rooms in files, and publishes them again. Its name is the [prefix](BrokerOptions::prefix) and a
/// random number; it has one replica, which can be changed later. A server that is killed keeps what it has confirmed.
/// If its machine fails, the files may lack the last messages. Their positions are then given to others: a node or a
/// client that had got the lost ones may miss as many of the new ones, without a gap.
///
/// Nodes may be connected to different servers of one NATS cluster. A node that has just subscribed to a room may then
/// miss for a moment what is published at another server, until the servers have told each other.
///
/// # Failures
///
/// - The server goes away, or the connection breaks: that is noticed at once, and reported by
///   [`ClusterEvent::Lost`](crate::ClusterEvent::Lost). The connection is tried again after 0.05 to 4 s, each time at
///   all servers, with no end. Afterwards all subscriptions are there again, and each room has a
///   [gap](crate::ClusterEvent::Gap).
/// - The server, or the network, swallows everything: the node notices by its probes, after at most a third of its
///   [lease](field@crate::ClusterOptions::lease) and three seconds. After eight seconds without any answer, it connects
///   anew.
/// - The node does not keep up: beyond [`ClusterOptions::inbox`](crate::ClusterOptions::inbox), messages are dropped
///   and reported as gaps. A server that cannot get rid of its messages closes the connection.
/// - The stream refuses all messages, because the disk or the account's limit is full: the node tries again for up to
///   two minutes, and then gives up those that were handed over together.
/// - A message is larger than the server permits, by default 1 MiB: it does not leave the node, and its room has a gap
///   on the other nodes. With a history, one that is larger than the stream takes (`max_msg_size`) is a gap in its
///   place, on all nodes.
///
/// # Limits
///
/// The account needs the permission to publish and to subscribe to everything below the
/// [prefix](BrokerOptions::prefix), and for a history, to everything below `$JS.API`. What it may not do is only
/// logged: NATS does not answer single calls. With a history, a node hands over the messages of one room one at a time,
/// so that a room takes at most one message of each node in a round trip to the server. Each room in which a node has
/// clients takes some 6 KiB of memory in the client of NATS. What a node publishes in a room with clients of its own
/// comes back to it, and is dropped on arrival.
///
/// # Examples
///
/// ```no_run
/// use longwire_cluster::{Cluster, ClusterOptions, Nats};
/// use longwire_hub::Hub;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::default();
/// let broker = Nats::connect("nats://user:password@one.example,nats://two.example").await?;
/// let cluster = Cluster::join(&hub, broker, ClusterOptions::default()).await?;
/// hub.publish("lobby", "hello");
/// cluster.leave().await;
/// # Ok(())
/// # }
/// ```
pub struct Nats {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    client: Client,
    prefix: String,
    signals: Arc<Signals>,
    started: OnceLock<Started>,
    /// The channels that are subscribed to, and the handles that end these subscriptions.
    channels: Mutex<HashMap<Channel, AbortHandle>>,
    echoes: Mutex<Echoes>,
    kept: Kept,
}

/// The state that depends on the node.
struct Started {
    node: NodeId,
    inbox: Inbox,
    echo: String,
    to_pump: mpsc::UnboundedSender<Abortable<Arrival>>,
}

/// What the client's events are reduced to, because any of them may be missing.
#[derive(Default)]
struct Signals {
    changed: Notify,
    /// Whether the client has dropped messages of a subscription.
    is_slow: AtomicBool,
}

/// The messages of this node to itself that have not come back.
#[derive(Default)]
struct Echoes {
    last: u64,
    awaited: HashMap<u64, oneshot::Sender<()>>,
}

impl Nats {
    /// Connects with the default options: see [`with_options`](Self::with_options).
    ///
    /// # Errors
    ///
    /// As for [`with_options`](Self::with_options).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no connection.
    pub async fn connect(urls: impl AsRef<str>) -> Result<Self, BackplaneError> {
        Self::with_options(urls, BrokerOptions::default()).await
    }

    /// Connects to one of several servers: their URLs are separated by commas. Further servers of the same cluster are
    /// learned from the server.
    ///
    /// A URL is `nats://HOST`, or `tls://HOST` (feature `tls`), with a port, unless that is 4222. Credentials precede
    /// the host: `USER:PASSWORD@`, or `TOKEN@`, percent-encoded; those of the first URL that has some are used with all
    /// servers.
    ///
    /// # Errors
    ///
    /// No server could be reached within five seconds for each of its addresses, or it refused the credentials; or a
    /// URL or the prefix is malformed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no connection.
    pub async fn with_options(urls: impl AsRef<str>, options: BrokerOptions) -> Result<Self, BackplaneError> {
        if !options.has_valid_prefix() {
            return Err(BackplaneError::new(format!("the prefix {:?} is malformed", options.prefix)));
        }
        let urls = urls.as_ref().split(',').map(|url| url.trim().parse::<ServerAddr>());
        let servers: Vec<_> = urls.collect::<Result<_, _>>().map_err(BackplaneError::new)?;
        let signals = Arc::new(Signals::default());
        let connecting = connect_options(&servers, &options, &signals)?.connect(servers);
        // In a task of its own: without a provider of cryptography, the client panics if the server wants TLS.
        let connected = tokio::spawn(connecting).await;
        let client = match connected {
            Ok(connected) => connected.map_err(BackplaneError::new)?,
            Err(_) => {
                return Err(BackplaneError::new(
                    "the server wants TLS, which needs a provider of cryptography",
                ));
            }
        };
        let shared = Shared {
            client,
            prefix: options.prefix,
            signals,
            started: OnceLock::new(),
            channels: Mutex::default(),
            echoes: Mutex::default(),
            kept: Kept::default(),
        };
        Ok(Self { shared: Arc::new(shared), tasks: Mutex::default() })
    }

    fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
    }
}

fn connect_options(
    servers: &[ServerAddr],
    options: &BrokerOptions,
    signals: &Arc<Signals>,
) -> Result<ConnectOptions, BackplaneError> {
    let signals = Arc::clone(signals);
    let mut connect = ConnectOptions::new()
        .name("longwire")
        .connection_timeout(CONNECT)
        .ping_interval(PING)
        .subscription_capacity(CAPACITY)
        .custom_inbox_prefix(format!("{}.reply", options.prefix))
        .reconnect_delay_callback(|attempts| back_off(attempts.saturating_sub(1)))
        .event_callback(move |event| {
            signals.note(&event);
            std::future::ready(())
        });
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credentials = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    connect = match credentials {
        Some((user, Some(password))) => connect.user_and_password(decode(user), decode(password)),
        Some((token, None)) => connect.token(decode(token)),
        None => connect,
    };
    #[cfg(feature = "tls")]
    {
        match options.tls.clone().map_or_else(crate::tls::default_config, Ok) {
            Ok(config) => connect = connect.tls_client_config(config),
            Err(error) if servers.iter().any(ServerAddr::tls_required) => return Err(error),
            // Only a server that wants TLS nevertheless is out of reach.
            Err(_) => {}
        }
    }
    #[cfg(not(feature = "tls"))]
    if servers.iter().any(ServerAddr::tls_required) {
        return Err(BackplaneError::new("TLS needs the feature `tls`"));
    }
    Ok(connect)
}

impl Signals {
    fn note(&self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => self.is_slow.store(true, Ordering::Relaxed),
            // Such as a permission that is missing, which concerns one subject.
            Event::ServerError(error) => warn!(%error, "the NATS server has reported an error"),
            _ => {}
        }
        self.changed.notify_one();
    }
}

impl Shared {
    fn started(&self) -> Result<&Started, BackplaneError> {
        self.started.get().ok_or_else(|| BackplaneError::new("not started"))
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Channel, AbortHandle>> {
        // No panic can leave it half changed.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn echoes(&self) -> MutexGuard<'_, Echoes> {
        // No panic can leave it half changed.
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of connections that there were.
    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), BackplaneError> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => {
                Err(BackplaneError::new("there is no connection to the server"))
            }
        }
    }

    /// Makes the subscription whose messages `channel` gets; `None`: the echoes.
    async fn subscribe(self: &Arc<Self>, channel: Option<Channel>) -> Result<AbortHandle, BackplaneError> {
        let started = self.started()?;
        let subject = match &channel {
            Some(channel) => channel.subject(&self.prefix),
            None => started.echo.clone(),
        };
        let subscriber = self.client.subscribe(subject).await.map_err(BackplaneError::new)?;
        let (handle, registration) = AbortHandle::new_pair();
        let arrival = Arrival { subscriber, channel, shared: Arc::clone(self) };
        let sent = started.to_pump.send(Abortable::new(arrival, registration));
        sent.map_err(|_| BackplaneError::new("stopped"))?;
        Ok(handle)
    }

    /// Waits until the server has processed everything before.
    async fn confirm(&self) -> Result<(), BackplaneError> {
        self.check()?;
        let started = self.started()?;
        let (waiter, back) = oneshot::channel();
        let number = {
            let mut echoes = self.echoes();
            echoes.last += 1;
            let number = echoes.last;
            echoes.awaited.insert(number, waiter);
            number
        };
        let _forget = Forget { shared: self, number };
        let payload = Bytes::copy_from_slice(&number.to_le_bytes());
        self.client.publish(started.echo.clone(), payload).await.map_err(BackplaneError::new)?;
        back.await.map_err(|_| BackplaneError::new("the connection to the server is lost"))
    }

    /// Takes an echo that has come back.
    fn echoed(&self, payload: &[u8]) {
        let number = payload.try_into().map(u64::from_le_bytes);
        if let Ok(number) = number
            && let Some(waiter) = self.echoes().awaited.remove(&number)
        {
            // Whoever waited may have gone.
            let _ = waiter.send(());
        }
    }

    async fn publish(&self, messages: &[(Channel, Bytes)]) -> Result<(), BackplaneError> {
        self.check()?;
        let node = self.started()?.node;
        let connects = self.connects();
        for (channel, payload) in messages {
            let payload = if payload.len() > self.client.max_payload() {
                warn!(bytes = payload.len(), ?channel, "message exceeds the NATS server's max_payload");
                Envelope { from: node, body: Body::Lost { seq: 0 } }.encode()
            } else {
                payload.clone()
            };
            let published = self.client.publish(channel.subject(&self.prefix), payload).await;
            published.map_err(BackplaneError::new)?;
        }
        self.confirm().await?;
        // Otherwise a part of it may have gone to the connection before.
        if self.connects() == connects {
            Ok(())
        } else {
            Err(BackplaneError::new("the connection was replaced"))
        }
    }

    /// Tells the inbox what happens to the connection, until it is aborted.
    async fn watch(self: Arc<Self>, inbox: Inbox) {
        let mut known = self.connects();
        let mut is_lost = false;
        let mut wait = TICK;
        let mut next_report = Instant::now();
        loop {
            // The signal may be missing.
            let _ = timeout(wait, self.signals.changed.notified()).await;
            wait = TICK;
            if self.signals.is_slow.load(Ordering::Relaxed) {
                let now = Instant::now();
                if now >= next_report {
                    self.signals.is_slow.store(false, Ordering::Relaxed);
                    // Which channel it was is known to the client only.
                    inbox.dropped(None);
                    next_report = now + REPORT;
                } else {
                    wait = next_report - now;
                }
            }
            let connects = self.connects();
            let is_connected = self.check();
            if is_connected.is_err() || connects != known {
                known = connects;
                // Their messages may be lost: whoever waits learns it at once.
                self.echoes().awaited.clear();
                if !is_lost {
                    is_lost = true;
                    let error = is_connected.as_ref().err().cloned();
                    inbox.lost(error.unwrap_or_else(|| BackplaneError::new("the connection was replaced")));
                }
            }
            if is_lost && is_connected.is_ok() {
                // The client has asked for all subscriptions before.
                match in_time(self.confirm()).await {
                    Ok(()) if self.check().is_ok() && self.connects() == known => {
                        is_lost = false;
                        inbox.restored();
                    }
                    _ => wait = jittered(RETRY),
                }
            }
        }
    }
}

/// Limits the time of a call: the client queues commands for a server that does not read.
async fn in_time<R>(call: impl Future<Output = Result<R, BackplaneError>>) -> Result<R, BackplaneError> {
    timeout(ANSWER, call).await.unwrap_or_else(|_| Err(BackplaneError::new("the server does not answer")))
}

/// Forgets an echo for which nobody waits any more.
struct Forget<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.echoes().awaited.remove(&self.number);
    }
}

impl Backplane for Nats {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move {
            let (to_pump, added) = mpsc::unbounded_channel();
            let echo = format!("{}.echo.{node}", self.shared.prefix);
            let started = Started { node, inbox: inbox.clone(), echo, to_pump };
            if self.shared.started.set(started).is_err() {
                return Err(BackplaneError::new("this connection has a node already"));
            }
            let watch = tokio::spawn(Arc::clone(&self.shared).watch(inbox));
            let pump = tokio::spawn(pump(added));
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend([watch, pump]);
            self.shared.check()?;
            in_time(async {
                self.shared.subscribe(None).await?;
                self.shared.confirm().await
            })
            .await
        })
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(in_time(async move {
            self.shared.check()?;
            for channel in channels {
                if !self.shared.channels().contains_key(channel) {
                    let handle = self.shared.subscribe(Some(channel.clone())).await?;
                    self.shared.channels().insert(channel.clone(), handle);
                }
            }
            self.shared.confirm().await
        }))
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            // The client asks the server when the subscription is dropped, and asks again for no subscription that is
            // not there.
            let mut subscribed = self.shared.channels();
            channels
                .iter()
                .filter_map(|channel| subscribed.remove(channel))
                .for_each(|handle| handle.abort());
            Ok(())
        })
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(in_time(self.shared.publish(messages)))
    }

    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(in_time(self.shared.keep(history)))
    }

    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async {
            let appended = in_time(self.shared.append(messages)).await;
            appended.map_err(|error| error.with_stored(self.shared.stored().clone()))
        })
    }

    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        Box::pin(in_time(self.shared.history(room, after, most)))
    }

    fn max_payload(&self) -> usize {
        let most = self.shared.client.max_payload();
        if self.shared.kept.is_on() { most.saturating_sub(HEADERS) } else { most }
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(in_time(self.shared.confirm()))
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Everything that was published is confirmed. It fails if the client has ended already.
            let drained = timeout(ANSWER, self.shared.client.drain()).await;
            if matches!(drained, Ok(Ok(()))) && self.shared.check().is_ok() {
                // The client does not tell when the connection is closed.
                sleep(DRAIN).await;
            }
            self.end();
        })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subscriptions = self.shared.channels().len();
        f.debug_struct("Nats").field("subscriptions", &subscriptions).finish_non_exhaustive()
    }
}

/// The messages of one subscription that may wait in the client. They wait only while the runtime is busy: what has to
/// be bounded is bounded by the inbox.
const CAPACITY: usize = 16 * 1024;

/// The longest time until something is noticed that the client has not told.
const TICK: Duration = Duration::from_secs(1);

/// The time in which dropped messages are reported at most once.
const REPORT: Duration = Duration::from_millis(100);

/// The wait before the subscriptions of a new connection are confirmed again.
const RETRY: Duration = Duration::from_millis(200);

/// The time that the client has to close its connection.
const DRAIN: Duration = Duration::from_millis(50);
