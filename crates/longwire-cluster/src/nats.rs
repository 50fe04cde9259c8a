//! The broker NATS, over its own client.
//!
//! The client connects again by itself. It queues commands meanwhile, reports what happens by events that it drops if
//! they are many, and its `flush` does not wait for the server. So this module does not rely on these: calls are
//! confirmed by a message of the node to itself, an echo, that the server returns after everything before it; and
//! connections are told apart by the client's count of them.
//!
//! Echoes return on a connection of their own, so that the server need not return everything else that the node
//! publishes. They are few: messages are confirmed only now and then, because the node itself remembers what it has
//! handed over since the last answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, try_join};
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

/// The connections of one node to [NATS](https://nats.io), of which there are two: one on which the server returns only
/// confirmations, and one for everything else. Tested with version 2.9.
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
///   [`ClusterEvent::Lost`](crate::ClusterEvent::Lost). Both connections are tried again after 0.05 to 4 s, each time
///   at all servers, with no end. Afterwards all subscriptions are there again, and each room has a
///   [gap](crate::ClusterEvent::Gap). Messages that were handed over since the last probe may be lost as well: their
///   rooms have a gap on the other nodes, and they stay counted as
///   [`ClusterStats::published`](crate::ClusterStats::published).
/// - Only the connection for confirmations breaks: it is tried again, and replaced after a second without an answer.
///   After three seconds, subscriptions fail, and the node takes the broker for lost.
/// - The server, or the network, swallows everything: the node notices by its probes, after at most five seconds or a
///   third of its [lease](field@crate::ClusterOptions::lease), and three seconds more. After eight seconds without any
///   answer, it connects anew.
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
/// logged: NATS does not answer single calls. Without its second connection, a node cannot work: the account must
/// permit two for each node. With a history, a node hands over the messages of one room one at a time, so that a room
/// takes at most one message of each node in a round trip to the server. Each room in which a node has clients takes
/// some 6 KiB of memory in the client of NATS.
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
    /// The connection on which echoes return.
    echo_client: Client,
    prefix: String,
    signals: Arc<Signals>,
    started: OnceLock<Started>,
    /// The channels that are subscribed to, and the handles that end these subscriptions.
    channels: Mutex<HashMap<Channel, AbortHandle>>,
    echoes: Mutex<Echoes>,
    /// The number of connections that the node knows of: of later ones it has not been told yet.
    known: AtomicU64,
    /// The bytes that were handed to the client, and how many of them the server is known to have.
    handed_over: AtomicU64,
    confirmed: AtomicU64,
    kept: Kept,
}

/// The state that depends on the node.
struct Started {
    node: NodeId,
    inbox: Inbox,
    /// The subject of echoes, which the second connection receives, and that of those which the first one receives.
    echo: String,
    back: String,
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
    /// The time since when none has come back on the second connection, and the one at which that was last replaced.
    missing_since: Option<Instant>,
    renewed: Option<Instant>,
}

impl Echoes {
    /// Returns whether the second connection is to be replaced, and notes it.
    fn renews(&mut self, now: Instant) -> bool {
        let is_missing = self.missing_since.is_some_and(|since| now - since >= RENEW);
        let is_due = is_missing && self.renewed.is_none_or(|last| now - last >= 2 * ANSWER);
        if is_due {
            self.renewed = Some(now);
        }
        is_due
    }
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
    /// No server could be reached within five seconds for each of its addresses and connections, or it refused the
    /// credentials; or a URL or the prefix is malformed.
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
        let noted = Arc::clone(&signals);
        let connect = connect_options(&servers, &options)?.no_echo().event_callback(move |event| {
            noted.note(&event);
            std::future::ready(())
        });
        let client = connected(connect, &servers).await?;
        let connect = connect_options(&servers, &options)?.event_callback(|event| {
            warn_of(&event);
            std::future::ready(())
        });
        let echo_client = connected(connect, &servers).await?;
        let shared = Shared {
            client,
            echo_client,
            prefix: options.prefix,
            signals,
            started: OnceLock::new(),
            channels: Mutex::default(),
            echoes: Mutex::default(),
            known: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            kept: Kept::default(),
        };
        Ok(Self { shared: Arc::new(shared), tasks: Mutex::default() })
    }

    fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn connected(connect: ConnectOptions, servers: &[ServerAddr]) -> Result<Client, BackplaneError> {
    let servers = servers.to_vec();
    // In a task of its own: without a provider of cryptography, the client panics if the server wants TLS.
    match tokio::spawn(async move { connect.connect(servers).await }).await {
        Ok(connected) => connected.map_err(BackplaneError::new),
        Err(_) => Err(BackplaneError::new("the server wants TLS, which needs a provider of cryptography")),
    }
}

fn connect_options(
    servers: &[ServerAddr],
    options: &BrokerOptions,
) -> Result<ConnectOptions, BackplaneError> {
    let mut connect = ConnectOptions::new()
        .name("longwire")
        .connection_timeout(CONNECT)
        .ping_interval(PING)
        .subscription_capacity(CAPACITY)
        .custom_inbox_prefix(format!("{}.reply", options.prefix))
        .reconnect_delay_callback(|attempts| back_off(attempts.saturating_sub(1)));
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
        if matches!(event, Event::SlowConsumer(_)) {
            self.is_slow.store(true, Ordering::Relaxed);
        }
        warn_of(event);
        self.changed.notify_one();
    }
}

fn warn_of(event: &Event) {
    // Such as a permission that is missing, which concerns one subject.
    if let Event::ServerError(error) = event {
        warn!(%error, "the NATS server has reported an error");
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

    /// Waits until there is a connection.
    async fn connected(&self) -> Result<(), BackplaneError> {
        while self.check().is_err() {
            // The signal may be missing.
            let _ = timeout(TICK, self.signals.changed.notified()).await;
        }
        Ok(())
    }

    /// Returns the number of the connection, or an error if there is none, or none that the node knows.
    fn connection(&self) -> Result<u64, BackplaneError> {
        self.check()?;
        let connects = self.connects();
        // Acquire: whoever confirms something on a new connection must see that the node was told of its loss.
        if connects == self.known.load(Ordering::Acquire) {
            Ok(connects)
        } else {
            Err(BackplaneError::new("the connection was replaced"))
        }
    }

    /// Makes the subscription whose messages `channel` gets.
    async fn subscribe(self: &Arc<Self>, channel: Channel) -> Result<AbortHandle, BackplaneError> {
        let started = self.started()?;
        let subscriber = self.client.subscribe(channel.subject(&self.prefix)).await;
        let subscriber = subscriber.map_err(BackplaneError::new)?;
        let (handle, registration) = AbortHandle::new_pair();
        let arrival = Arrival { subscriber, channel, shared: Arc::clone(self) };
        let sent = started.to_pump.send(Abortable::new(arrival, registration));
        sent.map_err(|_| BackplaneError::new("stopped"))?;
        Ok(handle)
    }

    /// Waits until the server has processed everything before, on a connection that the node knows.
    async fn confirm(&self) -> Result<(), BackplaneError> {
        let connection = self.connection()?;
        let handed_over = self.handed_over.load(Ordering::Relaxed);
        self.echoes().missing_since.get_or_insert_with(Instant::now);
        self.echo(&self.client, &self.started()?.echo, true).await?;
        self.echoes().missing_since = None;
        if self.connection()? != connection {
            return Err(BackplaneError::new("the connection was replaced"));
        }
        self.confirmed.fetch_max(handed_over, Ordering::Relaxed);
        Ok(())
    }

    /// Checks also that what the server sends arrives.
    async fn probe(&self) -> Result<(), BackplaneError> {
        let back = async { self.echo(&self.echo_client, &self.started()?.back, false).await };
        try_join(self.confirm(), back).await.map(|_| ())
    }

    /// Sends a message to the other connection of this node, until it arrives.
    async fn echo(&self, from: &Client, subject: &str, may_renew: bool) -> Result<(), BackplaneError> {
        let (waiter, mut back) = oneshot::channel();
        let number = {
            let mut echoes = self.echoes();
            echoes.last += 1;
            let number = echoes.last;
            echoes.awaited.insert(number, waiter);
            number
        };
        let _forget = Forget { shared: self, number };
        let payload = Bytes::copy_from_slice(&number.to_le_bytes());
        let mut wait = REPEAT;
        loop {
            from.publish(subject.to_owned(), payload.clone()).await.map_err(BackplaneError::new)?;
            if let Ok(back) = timeout(wait, &mut back).await {
                return back.map_err(|_| BackplaneError::new("the connection to the server is lost"));
            }
            // The other connection may be a new one, whose subscription the server does not know yet, or a dead one.
            wait = (2 * wait).min(SELDOM);
            let is_there = self.echo_client.connection_state() == State::Connected;
            if may_renew && is_there && self.echoes().renews(Instant::now()) {
                // If the client has ended, the echo fails as well.
                let _ = self.echo_client.force_reconnect().await;
                wait = REPEAT;
            }
        }
    }

    /// Takes the echoes that come back, until it is aborted.
    async fn take_echoes(self: Arc<Self>, mut echoes: Subscriber) {
        while let Some(echo) = echoes.next().await {
            let number = echo.payload[..].try_into().map(u64::from_le_bytes);
            if let Ok(number) = number
                && let Some(waiter) = self.echoes().awaited.remove(&number)
            {
                // Whoever waited may have gone.
                let _ = waiter.send(());
            }
        }
    }

    /// Hands messages over. It waits for the server only if that may lack many bytes: what it lacks when the connection
    /// breaks, the node counts among what was handed over since the last answer.
    async fn publish(&self, messages: &[(Channel, Bytes)]) -> Result<(), BackplaneError> {
        self.check()?;
        let node = self.started()?.node;
        for (channel, payload) in messages {
            let payload = if payload.len() > self.client.max_payload() {
                warn!(bytes = payload.len(), ?channel, "message exceeds the NATS server's max_payload");
                Envelope { from: node, body: Body::Lost { seq: 0 } }.encode()
            } else {
                payload.clone()
            };
            let cost = (channel.cost() + payload.len() + OVERHEAD) as u64;
            let published = self.client.publish(channel.subject(&self.prefix), payload).await;
            published.map_err(BackplaneError::new)?;
            self.handed_over.fetch_add(cost, Ordering::Relaxed);
        }
        let handed_over = self.handed_over.load(Ordering::Relaxed);
        if handed_over.saturating_sub(self.confirmed.load(Ordering::Relaxed)) >= WINDOW {
            self.confirm().await?;
        }
        Ok(())
    }

    /// Tells the inbox what happens to the connection, until it is aborted.
    async fn watch(self: Arc<Self>, inbox: Inbox) {
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
            if is_connected.is_err() || connects != self.known.load(Ordering::Relaxed) {
                if !is_lost {
                    is_lost = true;
                    let error = is_connected.as_ref().err().cloned();
                    inbox.lost(error.unwrap_or_else(|| BackplaneError::new("the connection was replaced")));
                }
                // Their messages may be lost: whoever waits learns it at once.
                let mut echoes = self.echoes();
                echoes.awaited.clear();
                echoes.missing_since = None;
                drop(echoes);
                // Release: see `connection`.
                self.known.store(connects, Ordering::Release);
            }
            if is_lost && is_connected.is_ok() {
                // The client has asked for all subscriptions before.
                match in_time(self.confirm()).await {
                    Ok(()) => {
                        is_lost = false;
                        inbox.restored();
                    }
                    Err(_) => wait = jittered(RETRY),
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
            let back = format!("{}.back.{node}", self.shared.prefix);
            let started = Started { node, inbox: inbox.clone(), echo, back, to_pump };
            if self.shared.started.set(started).is_err() {
                return Err(BackplaneError::new("this connection has a node already"));
            }
            // The client may be replacing a connection that it lost before the node joined.
            in_time(self.shared.connected()).await?;
            let Started { echo, back, .. } = self.shared.started()?;
            let Shared { client, echo_client, .. } = &*self.shared;
            let echoes = echo_client.subscribe(echo.clone()).await.map_err(BackplaneError::new)?;
            let backs = client.subscribe(back.clone()).await.map_err(BackplaneError::new)?;
            // Before this, there was nothing to lose.
            self.shared.known.store(self.shared.connects(), Ordering::Release);
            let tasks = [
                tokio::spawn(Arc::clone(&self.shared).watch(inbox)),
                tokio::spawn(Arc::clone(&self.shared).take_echoes(echoes)),
                tokio::spawn(Arc::clone(&self.shared).take_echoes(backs)),
                tokio::spawn(pump(added)),
            ];
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
            in_time(self.shared.probe()).await
        })
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(in_time(async move {
            self.shared.check()?;
            for channel in channels {
                if !self.shared.channels().contains_key(channel) {
                    let handle = self.shared.subscribe(channel.clone()).await?;
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
        Box::pin(in_time(self.shared.probe()))
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let drained = timeout(ANSWER, async {
                // It fails if the client has ended already.
                let echoes = self.shared.echo_client.drain().await;
                self.shared.client.drain().await.and(echoes)
            });
            if matches!(drained.await, Ok(Ok(()))) && self.shared.check().is_ok() {
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
        let (subscriptions, echoes) = (self.shared.channels().len(), self.shared.echoes().awaited.len());
        f.debug_struct("Nats")
            .field("subscriptions", &subscriptions)
            .field("awaited_echoes", &echoes)
            .finish_non_exhaustive()
    }
}

/// The messages of one subscription that may wait in the client. They wait only while the runtime is busy: what has to
/// be bounded is bounded by the inbox.
const CAPACITY: usize = 16 * 1024;

/// The bytes that are handed over without the server's answer, and the memory that each message takes beyond its own.
const WINDOW: u64 = 256 * 1024;
const OVERHEAD: usize = 64;

/// The time after which an echo that has not come back is sent again, twice as long each time, and the longest.
const REPEAT: Duration = Duration::from_millis(50);
const SELDOM: Duration = Duration::from_millis(400);

/// The time without echoes after which the connection on which they should return is replaced.
const RENEW: Duration = Duration::from_millis(750);

/// The longest time until something is noticed that the client has not told.
const TICK: Duration = Duration::from_secs(1);

/// The time in which dropped messages are reported at most once.
const REPORT: Duration = Duration::from_millis(100);

/// The wait before the subscriptions of a new connection are confirmed again.
const RETRY: Duration = Duration::from_millis(200);

/// The time that the client has to close its connection.
const DRAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_echoes_is_replaced_each_six_seconds() {
        let begin = Instant::now();
        let mut echoes = Echoes::default();
        let mut renewals = Vec::new();
        for tenth in 0..200 {
            let now = begin + Duration::from_millis(100) * tenth;
            match tenth {
                5 => echoes.missing_since = Some(now),
                180 => echoes.missing_since = None,
                _ => {}
            }
            if echoes.renews(now) {
                renewals.push(tenth);
            }
        }
        assert_eq!(renewals, [13, 73, 133]);
    }
}
