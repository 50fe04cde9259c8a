//! The record of what was done and what has arrived, to be compared at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire::cluster::{Channel, Gap, NodeId};
use tokio::time::Instant;

/// The record of a world; clones are the same one.
#[derive(Clone)]
pub(crate) struct Record {
    log: Arc<Mutex<Log>>,
}

/// The number of a node, in the order in which they have come. A node that comes back is another one.
pub(crate) type NodeNumber = usize;

/// The number of a session, in the order in which they began.
pub(crate) type SessionNumber = usize;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum To {
    All,
    Room(usize),
    User(usize),
}

/// The messages of one node to the same clients, which have an order.
pub(crate) type Stream = (NodeNumber, To);

pub(crate) struct Log {
    begin: Instant,
    steps: u64,
    /// The messages that were published: number `n` is at index `n - 1`.
    pub(crate) published: BTreeMap<Stream, Vec<Sent>>,
    pub(crate) nodes: Vec<NodeLog>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) violations: Vec<String>,
    /// The events that a node had told and nobody took in time.
    pub(crate) dropped_events: u64,
}

/// A time, and the order of what happens at the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Microseconds since the beginning.
    pub(crate) at: u64,
    step: u64,
}

/// A message that was published.
pub(crate) struct Sent {
    pub(crate) when: Moment,
    pub(crate) except: Option<SessionNumber>,
    /// Whether its node was in the cluster.
    pub(crate) is_shared: bool,
}

pub(crate) struct NodeLog {
    pub(crate) id: NodeId,
    pub(crate) gaps: Vec<(Moment, To)>,
    /// The times in which it knew that the broker was away.
    pub(crate) outages: Vec<Span>,
    /// The times at which it has given up another node.
    pub(crate) given_up: Vec<(Moment, NodeId)>,
    /// The messages that were published while it was in the cluster.
    pub(crate) posts: u64,
    /// The times in which the broker's subscription was confirmed.
    pub(crate) subscriptions: HashMap<Channel, Vec<Span>>,
    pub(crate) life: Span,
    /// Whether it has ended without saying so.
    pub(crate) has_vanished: bool,
}

/// The life of a connection of a client to a node.
pub(crate) struct Session {
    pub(crate) node: NodeNumber,
    pub(crate) user: usize,
    pub(crate) life: Span,
    pub(crate) stays: BTreeMap<usize, Vec<Stay>>,
    pub(crate) received: Vec<(Moment, Stream, u64)>,
    /// The messages about gaps.
    pub(crate) told: Vec<(Moment, usize)>,
}

/// The time of a client in a room.
pub(crate) struct Stay {
    pub(crate) span: Span,
    /// The time from which on messages of other nodes must arrive.
    pub(crate) confirmed: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Moment,
    pub(crate) until: Option<Moment>,
}

impl Span {
    pub(crate) fn contains(&self, moment: Moment) -> bool {
        self.from < moment && self.until.is_none_or(|until| moment < until)
    }

    /// Returns whether it contains a time, with the instants at both ends.
    pub(crate) fn touches(&self, moment: Moment) -> bool {
        self.from.at <= moment.at && self.until.is_none_or(|until| moment.at <= until.at)
    }

    /// Returns whether it contains a time, without the instants at both ends.
    pub(crate) fn surrounds(&self, moment: Moment) -> bool {
        self.from.at < moment.at && self.until.is_none_or(|until| moment.at < until.at)
    }
}

impl NodeLog {
    /// Returns whether a gap belongs to the end of an outage, before which a message has arrived: the connection was
    /// there a moment before the node had checked that it is.
    pub(crate) fn is_of_outage(&self, gap: Moment, arrived: Moment) -> bool {
        let is_end = |span: &Span| span.until.is_some_and(|until| until.at == gap.at);
        self.outages.iter().any(|span| is_end(span) && span.from.at <= arrived.at)
    }
}

impl Record {
    pub(crate) fn new() -> Self {
        let log = Log {
            begin: Instant::now(),
            steps: 0,
            published: BTreeMap::new(),
            nodes: Vec::new(),
            sessions: Vec::new(),
            violations: Vec::new(),
            dropped_events: 0,
        };
        Self { log: Arc::new(Mutex::new(log)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    pub(crate) fn now(&mut self) -> Moment {
        self.steps += 1;
        let at = self.begin.elapsed().as_micros().try_into().expect("a world lasts some minutes");
        Moment { at, step: self.steps }
    }

    fn begin(&mut self) -> Span {
        Span { from: self.now(), until: None }
    }

    pub(crate) fn node_comes(&mut self, id: NodeId) -> NodeNumber {
        let life = self.begin();
        self.nodes.push(NodeLog {
            id,
            gaps: Vec::new(),
            outages: Vec::new(),
            given_up: Vec::new(),
            posts: 0,
            subscriptions: HashMap::new(),
            life,
            has_vanished: false,
        });
        self.nodes.len() - 1
    }

    pub(crate) fn node_goes(&mut self, node: NodeNumber, has_vanished: bool) {
        let now = self.now();
        let node = &mut self.nodes[node];
        node.life.until.get_or_insert(now);
        node.has_vanished |= has_vanished;
    }

    pub(crate) fn gap(&mut self, node: NodeNumber, gap: &Gap) {
        let now = self.now();
        let to = match gap {
            Gap::All => To::All,
            Gap::Room(name) => To::Room(number(name)),
            Gap::Key(name) => To::User(number(name)),
            _ => unreachable!("there are no other gaps"),
        };
        self.nodes[node].gaps.push((now, to));
    }

    pub(crate) fn gives_up(&mut self, node: NodeNumber, other: NodeId) {
        let now = self.now();
        self.nodes[node].given_up.push((now, other));
    }

    pub(crate) fn loses_broker(&mut self, node: NodeNumber) {
        let span = self.begin();
        self.nodes[node].outages.push(span);
    }

    pub(crate) fn finds_broker(&mut self, node: NodeNumber) {
        let now = self.now();
        if let Some(span) = self.nodes[node].outages.last_mut() {
            span.until.get_or_insert(now);
        }
    }

    pub(crate) fn subscribed(&mut self, node: NodeNumber, channel: &Channel) {
        let span = self.begin();
        let spans = self.nodes[node].subscriptions.entry(channel.clone()).or_default();
        if spans.last().is_none_or(|span| span.until.is_some()) {
            spans.push(span);
        }
    }

    pub(crate) fn unsubscribed(&mut self, node: NodeNumber, channel: &Channel) {
        let now = self.now();
        let spans = self.nodes[node].subscriptions.get_mut(channel);
        if let Some(span) = spans.and_then(|spans| spans.last_mut()) {
            span.until.get_or_insert(now);
        }
    }

    pub(crate) fn session_begins(&mut self, node: NodeNumber, user: usize) -> SessionNumber {
        let life = self.begin();
        let (stays, received, told) = (BTreeMap::new(), Vec::new(), Vec::new());
        self.sessions.push(Session { node, user, life, stays, received, told });
        self.sessions.len() - 1
    }

    pub(crate) fn session_ends(&mut self, session: SessionNumber) {
        let now = self.now();
        let session = &mut self.sessions[session];
        session.life.until.get_or_insert(now);
        for stay in session.stays.values_mut().flatten() {
            stay.span.until.get_or_insert(now);
        }
    }

    pub(crate) fn joins(&mut self, session: SessionNumber, room: usize) {
        let span = self.begin();
        self.sessions[session].stays.entry(room).or_default().push(Stay { span, confirmed: None });
    }

    pub(crate) fn leaves(&mut self, session: SessionNumber, room: usize) {
        let now = self.now();
        if let Some(stay) = self.stay(session, room) {
            stay.span.until.get_or_insert(now);
        }
    }

    /// Notes that what other nodes publish arrives.
    pub(crate) fn confirmed(&mut self, session: SessionNumber, room: usize) {
        let now = self.now();
        if let Some(stay) = self.stay(session, room) {
            stay.confirmed.get_or_insert(now);
        }
    }

    fn stay(&mut self, session: SessionNumber, room: usize) -> Option<&mut Stay> {
        self.sessions[session].stays.get_mut(&room)?.last_mut()
    }

    /// Returns the text of the next message of a node.
    pub(crate) fn publishes(
        &mut self,
        node: NodeNumber,
        to: To,
        except: Option<SessionNumber>,
        padding: usize,
    ) -> String {
        let when = self.now();
        let is_shared = self.nodes[node].life.until.is_none();
        self.nodes[node].posts += u64::from(is_shared);
        let sent = self.published.entry((node, to)).or_default();
        sent.push(Sent { when, except, is_shared });
        format!("post {to} {node} {} {}", sent.len(), "-".repeat(padding))
    }

    /// Notes a text that a client has received.
    pub(crate) fn receives(&mut self, session: SessionNumber, text: &str) {
        let now = self.now();
        let words: Vec<_> = text.split(' ').collect();
        match words[..] {
            ["post", to, node, count, _] => {
                let number = |word: &str| word.parse().expect("a number");
                let stream = (number(node), To::parse(to));
                self.sessions[session].received.push((now, stream, number(count) as u64));
            }
            ["gap", room] => self.sessions[session].told.push((now, number(room))),
            _ => self.violations.push(format!("session {session} has received {text:.80}")),
        }
    }

    /// Returns who is in a room, by what clients have done.
    pub(crate) fn members(&self, room: usize) -> BTreeSet<(NodeId, SessionNumber)> {
        let is_there = |session: &Session| {
            let stays = session.stays.get(&room).map_or(&[][..], Vec::as_slice);
            let has_cluster = self.nodes[session.node].life.until.is_none();
            has_cluster && stays.iter().any(|stay| stay.span.until.is_none())
        };
        let there = self.sessions.iter().enumerate().filter(|(_, session)| is_there(session));
        there.map(|(number, session)| (self.nodes[session.node].id, number)).collect()
    }
}

impl To {
    fn parse(text: &str) -> Self {
        match text.split_at(1) {
            ("a", _) => Self::All,
            ("r", _) => Self::Room(number(text)),
            _ => Self::User(number(text)),
        }
    }

    /// Returns the channel on which its messages travel.
    pub(crate) fn channel(self) -> Channel {
        let name = self.to_string().into();
        match self {
            Self::All => Channel::All,
            Self::Room(_) => Channel::Room(name),
            Self::User(_) => Channel::Key(name),
        }
    }
}

/// The name of the room or user.
impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Room(room) => write!(f, "r{room}"),
            Self::User(user) => write!(f, "u{user}"),
        }
    }
}

/// Returns the number of a room or user.
pub(crate) fn number(name: &str) -> usize {
    name[1..].parse().expect("a letter and a number")
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s (step {})", self.at / 1_000_000, self.at % 1_000_000, self.step)
    }
}
