//! A node's membership in a cluster, as applications see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longwire_hub::{ClientId, Hub, HubError, Uplink};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};

use crate::appends::Appends;
use crate::backplane::{Backplane, BackplaneError, Inbox};
use crate::channel::{Channel, NodeId};
use crate::envelope::Body;
use crate::history::History;
use crate::link::Link;
use crate::metrics;
use crate::node::Node;
use crate::options::ClusterOptions;
use crate::outbox::Outbox;
use crate::stats::ClusterStats;

/// The membership of a [`Hub`] in a cluster; cheap to clone.
///
/// While it lasts, what is published on the hub reaches the clients of all nodes. It ends with [`leave`](Self::leave),
/// or when the last clone is dropped; the hub is alone then, for good.
#[derive(Clone)]
pub struct Cluster {
    membership: Arc<Membership>,
}

/// Ends the tasks when it is dropped.
struct Membership {
    node: Arc<Node>,
    tasks: Vec<JoinHandle<()>>,
    /// Those that hand over what was published, which a leaving node waits for.
    publishers: tokio::sync::Mutex<Option<Vec<JoinHandle<()>>>>,
}

/// Another node, or this one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// The node.
    pub id: NodeId,
    /// Its [name](ClusterOptions::name).
    pub name: Arc<str>,
}

/// A client in a room, on any node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The node to which the client is connected.
    pub node: NodeId,
    /// The client's ID there. Other nodes may have a client with the same ID.
    pub client: ClientId,
    /// The data that its node publishes about it: see [`ClusterOptions::with_member_data`].
    pub data: Bytes,
}

/// Whether a node reaches its broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClusterState {
    /// The broker is there.
    Connected,
    /// The broker is away. What is published meanwhile reaches only the clients of this node.
    Lost {
        /// The time since when it is away.
        since: Instant,
        /// The cause.
        error: BackplaneError,
    },
    /// The node has left the cluster.
    Left,
}

/// Something that happens in a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// The broker is away.
    Lost(BackplaneError),
    /// The broker is there again. A [`Gap`](Self::Gap) for each room with clients on this node precedes it, or follows
    /// if the node had not subscribed to the room yet.
    Restored,
    /// Messages were lost on their way to this node.
    Gap(Gap),
    /// A node has come.
    NodeCame(NodeInfo),
    /// A node has left, or was not heard for a [lease](field@ClusterOptions::lease).
    NodeWent(NodeInfo),
    /// A client has entered a room in which this node has clients. A client that was there before this node had any is
    /// reported as well.
    Entered {
        /// The name of the room.
        room: Arc<str>,
        /// The client.
        member: Member,
    },
    /// A client has left a room in which this node has clients, or its node is gone.
    Left {
        /// The name of the room.
        room: Arc<str>,
        /// The client.
        member: Member,
    },
}

/// The messages among which some were lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gap {
    /// Those for every client.
    All,
    /// Those for the room with this name.
    Room(Arc<str>),
    /// Those for the clients with this key.
    Key(Arc<str>),
}

/// The events of a cluster, from the time of [`Cluster::events`] on.
pub struct ClusterEvents {
    receiver: broadcast::Receiver<ClusterEvent>,
}

impl ClusterEvents {
    /// Waits for the next event; `None` once the node has left the cluster and all events were received.
    ///
    /// 1024 events are kept for a receiver that is slow, and more than these are dropped, the oldest first.
    ///
    /// # Errors
    ///
    /// The number of events that were dropped before the next one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no event is lost.
    pub async fn next(&mut self) -> Result<Option<ClusterEvent>, u64> {
        match self.receiver.recv().await {
            Ok(event) => Ok(Some(event)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(dropped)) => Err(dropped),
        }
    }
}

impl fmt::Debug for ClusterEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterEvents").field("waiting", &self.receiver.len()).finish_non_exhaustive()
    }
}

/// The error of a call that concerns a cluster.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The hub has joined a cluster before.
    #[error("the hub has joined a cluster already")]
    Linked,
    /// The broker failed.
    #[error("the broker failed: {0}")]
    Broker(#[source] BackplaneError),
    /// Not all nodes have answered in time.
    #[error("not all nodes have answered in time")]
    Unanswered,
    /// The node has left the cluster.
    #[error("the node has left the cluster")]
    Left,
    /// The cluster keeps no history: see [`ClusterOptions::with_history`].
    #[error("the cluster keeps no history")]
    NoHistory,
    /// The client is in the room already.
    #[error("the client is in the room already")]
    InRoom,
    /// The client was too slow: more was published in the room than could be kept for it.
    #[error("the client takes messages more slowly than they are published in the room")]
    Slow,
    /// The hub refused.
    #[error(transparent)]
    Hub(HubError),
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Cluster {
    /// Joins a hub to a cluster: to all hubs that reach the same broker with the same prefix.
    ///
    /// It must be called in a tokio runtime, in which the tasks of the node run from then on. Clients may be connected
    /// already.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Broker`] if the broker cannot be reached within a few seconds, or cannot keep the
    /// [history](ClusterOptions::with_history) that is wanted, [`ClusterError::Linked`] if the hub is or was in a
    /// cluster.
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_cluster::{Cluster, ClusterOptions, Memory};
    /// use longwire_hub::Hub;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), longwire_cluster::ClusterError> {
    /// let broker = Memory::new();
    /// let (one, other) = (Hub::default(), Hub::default());
    /// let cluster = Cluster::join(&one, broker.clone(), ClusterOptions::default()).await?;
    /// let _other = Cluster::join(&other, broker, ClusterOptions::default()).await?;
    /// one.broadcast("hello"); // reaches the clients of both
    /// # cluster.leave().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn join(
        hub: &Hub,
        backplane: impl Backplane,
        options: ClusterOptions,
    ) -> Result<Self, ClusterError> {
        let id = NodeId::random();
        let inbox = Inbox::new(options.inbox);
        let backplane: Arc<dyn Backplane> = Arc::new(backplane);
        backplane.start(id, inbox.clone()).await.map_err(ClusterError::Broker)?;
        let history = options.history.map(History::clamped);
        let own = [Channel::All, Channel::Control, Channel::Node(id)];
        let prepared = async {
            if let Some(history) = &history {
                backplane.keep(history).await?;
            }
            backplane.subscribe(&own).await
        };
        let prepared = prepared.await.map_err(ClusterError::Broker);
        let max_payload = backplane.max_payload();
        let mut outbox = Outbox::new(id, options.outbox, max_payload);
        if history.is_some() {
            outbox = outbox.without_rooms();
        }
        let appends = history.map(|_| Appends::new(id, options.outbox, max_payload));
        let link = Arc::new(Link::new(outbox, appends));
        let uplink: Arc<dyn Uplink> = Arc::clone(&link) as _;
        let linked = prepared.and_then(|()| hub.link(&uplink).then_some(()).ok_or(ClusterError::Linked));
        if let Err(error) = linked {
            backplane.stop().await;
            return Err(error);
        }
        let node = Arc::new(Node::new(id, hub.clone(), link, inbox, backplane, options));
        let mut publishers = vec![tokio::spawn(Arc::clone(&node).publish_all())];
        let mut tasks = vec![
            tokio::spawn(Arc::clone(&node).keep_subscriptions()),
            tokio::spawn(Arc::clone(&node).receive_all()),
            tokio::spawn(Arc::clone(&node).keep_alive()),
            tokio::spawn(metrics::report(Arc::clone(&node))),
        ];
        if let Some(history) = history {
            publishers.push(tokio::spawn(Arc::clone(&node).append_all(history)));
            tasks.push(tokio::spawn(Arc::clone(&node).catch_up_all()));
        }
        let publishers = tokio::sync::Mutex::new(Some(publishers));
        Ok(Self { membership: Arc::new(Membership { node, tasks, publishers }) })
    }

    /// Returns the identity of this node.
    pub fn id(&self) -> NodeId {
        self.node().id
    }

    pub(crate) fn node(&self) -> &Node {
        &self.membership.node
    }

    /// Returns the nodes that are alive, this one first.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.node().nodes()
    }

    /// Returns whether the broker is reached, and a way to wait for changes.
    pub fn state(&self) -> watch::Receiver<ClusterState> {
        self.node().state.subscribe()
    }

    /// Returns whether the broker is reached.
    pub fn is_connected(&self) -> bool {
        matches!(*self.node().state.borrow(), ClusterState::Connected)
    }

    /// Returns the events from now on.
    pub fn events(&self) -> ClusterEvents {
        ClusterEvents { receiver: self.node().events() }
    }

    /// Returns the counts since the node has joined.
    pub fn stats(&self) -> ClusterStats {
        self.node().stats()
    }

    /// Reports the changes of [`stats`](Self::stats) since the last report to the recorder of the `metrics` crate. The
    /// node itself does so every 10 s, and when it leaves.
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn report_stats(&self) {
        self.node().report_stats();
    }

    /// Waits until this node receives what other nodes publish in a room from then on, which takes a moment after its
    /// first client has entered. Without a client in the room, or while the broker is away, it waits for these.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Left`] once the node has left the cluster.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn subscribed(&self, room: impl AsRef<str>) -> Result<(), ClusterError> {
        self.node().subscribed(room.as_ref()).await
    }

    /// Returns who is in a room, on all nodes, in the order of nodes and clients.
    ///
    /// For a room in which this node has had a client for more than a second, it is known here, as of a moment ago.
    /// Otherwise, and within a second of an outage, the other nodes are asked.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Broker`] while the broker is away, [`ClusterError::Unanswered`] if a node has not answered
    /// within two seconds, [`ClusterError::Left`] once the node has left the cluster.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn members(&self, room: impl AsRef<str>) -> Result<Vec<Member>, ClusterError> {
        let room: Arc<str> = room.as_ref().into();
        let node = self.node();
        node.check()?;
        // A node that has just come does not know the others yet.
        sleep_until(node.introduced_at).await;
        if let Some(members) = node.known_members(&room) {
            return Ok(members);
        }
        let (id, answer) = node.ask(&room);
        let _forget = Forget { node, id };
        match timeout(ANSWER, answer).await {
            Ok(Ok(members)) => Ok(members),
            Ok(Err(oneshot::error::RecvError { .. })) => Err(ClusterError::Left),
            Err(_) => {
                node.check()?;
                Err(ClusterError::Unanswered)
            }
        }
    }

    /// Returns how many clients are in a room, on all nodes, as [`members`](Self::members) does.
    ///
    /// # Errors
    ///
    /// As for [`members`](Self::members).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn count(&self, room: impl AsRef<str>) -> Result<usize, ClusterError> {
        let room = room.as_ref();
        self.node().check()?;
        if let Some(count) = self.node().known_count(room) {
            return Ok(count);
        }
        Ok(self.members(room).await?.len())
    }

    /// Leaves the cluster. The other nodes learn that this one's clients are gone from their rooms, and what was
    /// published before reaches the broker, unless that takes more than five seconds: the rest is counted as
    /// [lost](ClusterStats::lost). While the broker is away, these five seconds are for its return.
    ///
    /// The clients stay connected, and are alone with their hub. In rooms with a history, they get what was published
    /// before; if that cannot be fetched within two seconds, or not everything has reached the broker, these rooms have
    /// a [gap](ClusterEvent::Gap).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node has left, but the others may not have been told.
    pub async fn leave(&self) {
        let Membership { node, publishers, .. } = &*self.membership;
        // A second call waits for the end of the first.
        let mut publishers = publishers.lock().await;
        let Some(publishing) = publishers.take() else { return };
        let handles = publishing.iter().map(JoinHandle::abort_handle).collect();
        let mut end = Ending { membership: &self.membership, publishing: handles, has_fetched: false };
        node.link.stop(Some((Channel::Control, Body::Bye)));
        // They end once everything is handed over.
        let all = async {
            for publishing in publishing {
                let _ = publishing.await;
            }
        };
        let _ = timeout(FAREWELL, all).await;
        if self.is_connected() {
            // The broker may not have given everything back yet.
            let _ = timeout(LAST, node.fetch_last()).await;
            end.has_fetched = true;
        }
        drop(end);
        let _ = timeout(FAREWELL, node.backplane.stop()).await;
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Membership {
    fn end(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.end();
        self.publishers.get_mut().iter().flatten().for_each(JoinHandle::abort);
        self.node.leave();
        self.node.report_stats();
    }
}

/// The end of a node that leaves, also if nobody waits for it any more.
struct Ending<'a> {
    membership: &'a Membership,
    publishing: Vec<AbortHandle>,
    /// Whether the rooms that are up to date have what was published before.
    has_fetched: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.publishing.iter().for_each(AbortHandle::abort);
        self.membership.end();
        self.membership.node.give_up(self.has_fetched);
        self.membership.node.leave();
        self.membership.node.report_stats();
    }
}

/// Forgets a question when nobody waits for the answer any more.
struct Forget<'a> {
    node: &'a Node,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.node.forget(self.id);
    }
}

/// The time in which nodes have to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The time in which a leaving node hands over what was published.
const FAREWELL: Duration = Duration::from_secs(5);

/// The time in which it fetches what the broker has not given back yet.
const LAST: Duration = Duration::from_secs(2);
