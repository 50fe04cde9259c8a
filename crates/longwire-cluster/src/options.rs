//! The options of a node in a cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longwire_connection::Message;
use longwire_hub::ClientHandle;

use crate::history::{History, Position};

/// The data that the other nodes get of a client: see [`ClusterOptions::with_member_data`].
type MemberData = Arc<dyn Fn(&ClientHandle) -> Bytes + Send + Sync>;

/// The message for a room of which messages were lost: see [`ClusterOptions::with_gap_message`].
type GapMessage = Arc<dyn Fn(&str) -> Option<Message> + Send + Sync>;

/// The form in which clients get a message of the history: see [`ClusterOptions::with_history_message`].
type HistoryMessage = Arc<dyn Fn(Position, &Message) -> Message + Send + Sync>;

/// The options of a node in a cluster.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// The name by which other nodes and [`Cluster::nodes`](crate::Cluster::nodes) know this node. Default: none; then
    /// it is the node's [`NodeId`](crate::NodeId). At most 1024 bytes are used.
    pub name: Option<String>,
    /// The time after the last client of a room has left in which the node still receives the room's messages: a room
    /// whose clients come and go does not change the node's subscriptions. Default 5 s.
    pub linger: Duration,
    /// The time after which a node that is not heard is taken for dead. Nodes send a heartbeat in each third of it, and
    /// check as often, and each five seconds, that the broker answers. At least 300 ms and at most a day are used.
    /// Default 15 s.
    pub lease: Duration,
    /// The number of bytes of messages that may wait for the broker, and of news of presence: the lists of clients that
    /// other nodes ask for must fit. What is published beyond that reaches only the clients of this node, and is
    /// counted as [lost](crate::ClusterStats::lost). With a [history](field@Self::history), as many bytes of messages
    /// for rooms may wait besides, and what does not fit reaches nobody. Default 16 MiB.
    pub outbox: usize,
    /// The number of bytes that may wait for this node's clients to be served. What arrives beyond that is dropped, and
    /// reported as a gap. Default 16 MiB.
    pub inbox: usize,
    /// The bounds of the history that the broker keeps of each room. Default: none, and it keeps nothing. See
    /// [`with_history`](Self::with_history).
    pub history: Option<History>,
    pub(crate) history_message: Option<HistoryMessage>,
    pub(crate) member_data: Option<MemberData>,
    pub(crate) gap_message: Option<GapMessage>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name: None,
            linger: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            outbox: 16 * 1024 * 1024,
            inbox: 16 * 1024 * 1024,
            history: None,
            history_message: None,
            member_data: None,
            gap_message: None,
        }
    }
}

impl ClusterOptions {
    /// Sets [`name`](Self::name).
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets [`linger`](Self::linger).
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets [`lease`](field@Self::lease).
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets [`outbox`](Self::outbox).
    #[must_use]
    pub fn with_outbox(mut self, bytes: usize) -> Self {
        self.outbox = bytes;
        self
    }

    /// Sets [`inbox`](Self::inbox).
    #[must_use]
    pub fn with_inbox(mut self, bytes: usize) -> Self {
        self.inbox = bytes;
        self
    }

    /// Keeps a [`history`](field@Self::history) of each room: see "History" in the crate's documentation.
    ///
    /// All nodes of a cluster must have one, with the same bounds, or none: a node that learns of another with other
    /// bounds logs a warning. Between one with a history and one without, messages for rooms are lost. The broker must
    /// support it, otherwise [`Cluster::join`](crate::Cluster::join) fails. What is kept is as durable as the broker's
    /// files: see there what happens if these lack the last messages.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.history = Some(history);
        self
    }

    /// Sets the function that makes what clients get of a message in the history of a room, such as one that adds the
    /// [`Position`]. Default: the message unchanged.
    ///
    /// It is called once for each message on each node with clients in the room, and again for a message that is
    /// fetched for a client that resumes. Messages of [`broadcast`](longwire_hub::Hub::broadcast) and
    /// [`send_to`](longwire_hub::Hub::send_to), which are in no history, and those that are published on this node
    /// alone, do not pass through it. If it panics, this node's clients do not get the message. It must not wait, and
    /// must not call the [`Cluster`](crate::Cluster).
    #[must_use]
    pub fn with_history_message(
        mut self,
        message: impl Fn(Position, &Message) -> Message + Send + Sync + 'static,
    ) -> Self {
        self.history_message = Some(Arc::new(message));
        self
    }

    /// Sets the function that says what the other nodes are told of a client when it enters a room, such as the name of
    /// its user: [`Member::data`](crate::Member::data). Default: nothing. Of more than 4096 bytes, the first 4096 are
    /// used.
    #[must_use]
    pub fn with_member_data(mut self, data: impl Fn(&ClientHandle) -> Bytes + Send + Sync + 'static) -> Self {
        self.member_data = Some(Arc::new(data));
        self
    }

    /// Sets the function that makes the message for the clients in a room of which messages were lost on their way to
    /// this node. Default: no message. It gets the room's name.
    #[must_use]
    pub fn with_gap_message(
        mut self,
        message: impl Fn(&str) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        self.gap_message = Some(Arc::new(message));
        self
    }

    pub(crate) fn lease(&self) -> Duration {
        self.lease.clamp(MIN_LEASE, MAX_LEASE)
    }
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("name", &self.name)
            .field("linger", &self.linger)
            .field("lease", &self.lease)
            .field("outbox", &self.outbox)
            .field("inbox", &self.inbox)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

/// The limits of a lease.
pub(crate) const MIN_LEASE: Duration = Duration::from_millis(300);
pub(crate) const MAX_LEASE: Duration = Duration::from_secs(24 * 60 * 60);
