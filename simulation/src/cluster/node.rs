//! The nodes of a cluster, and what is observed of them.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use longwire::cluster::{
    Backplane, BackplaneError, BoxFuture, Channel, Cluster, ClusterError, ClusterEvent, ClusterEvents,
    ClusterOptions, Inbox, NodeId,
};
use longwire::{Hub, Message};
use tokio::task::{JoinSet, unconstrained};

use super::record::{NodeNumber, Record, SessionNumber, number};

/// A node that runs.
pub(crate) struct Node {
    pub(crate) number: NodeNumber,
    pub(crate) id: NodeId,
    pub(crate) hub: Hub,
    cluster: Mutex<Option<Cluster>>,
    pub(crate) observer: Arc<Mutex<Observer>>,
    is_over: AtomicBool,
    /// The tasks of its clients, which end with it.
    tasks: Mutex<JoinSet<()>>,
}

/// What a client's data say of it, to the node and to others.
pub(crate) struct Tag(pub(crate) SessionNumber);

impl Tag {
    pub(crate) fn bytes(&self) -> Bytes {
        self.0.to_string().into()
    }

    /// Returns the session that a member's data name.
    pub(crate) fn parse(data: &Bytes) -> SessionNumber {
        std::str::from_utf8(data).ok().and_then(|text| text.parse().ok()).expect("the data of a session")
    }
}

impl Node {
    /// Joins the cluster.
    pub(crate) async fn join(
        backplane: impl Backplane,
        options: ClusterOptions,
        record: &Record,
    ) -> Result<Self, ClusterError> {
        let hub = Hub::default();
        let (number, observer) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let watched = Watched {
            backplane,
            record: record.clone(),
            number: Arc::clone(&number),
            observer: Arc::clone(&observer),
        };
        let options = options
            .with_member_data(|client| client.data::<Tag>().map(Tag::bytes).unwrap_or_default())
            .with_gap_message(|room| Some(Message::text(format!("gap {room}"))));
        let joined = Cluster::join(&hub, watched, options).await;
        let number = number.get().copied();
        let cluster = match joined {
            Ok(cluster) => cluster,
            Err(error) => {
                if let Some(number) = number {
                    record.lock().node_goes(number, true);
                }
                return Err(error);
            }
        };
        let number = number.expect("it was started");
        let seen =
            Observer { number, events: cluster.events(), rooms: HashMap::new(), record: record.clone() };
        let seen = Arc::new(Mutex::new(seen));
        drop(observer.set(Arc::clone(&seen)));
        tokio::spawn(listen(number, cluster.events(), Arc::clone(&seen), record.clone()));
        Ok(Self {
            number,
            id: cluster.id(),
            hub,
            cluster: Mutex::new(Some(cluster)),
            observer: seen,
            is_over: AtomicBool::new(false),
            tasks: Mutex::default(),
        })
    }

    /// Returns its cluster, until it ends.
    pub(crate) fn cluster(&self) -> Option<Cluster> {
        lock(&self.cluster).clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Starts a task that ends with the node, at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        lock(&self.tasks).spawn(task)
    }

    /// Ends its clients' connections, and everything else.
    pub(crate) fn end(&self, record: &Record) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut log = record.lock();
        let here: Vec<_> =
            (0..log.sessions.len()).filter(|it| log.sessions[*it].node == self.number).collect();
        for session in here {
            log.session_ends(session);
        }
        drop(log);
        drop(std::mem::take(&mut *lock(&self.tasks)));
        drop(lock(&self.cluster).take());
    }
}

/// Records what a node tells.
async fn listen(number: NodeNumber, mut events: ClusterEvents, seen: Arc<Mutex<Observer>>, record: Record) {
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(count) => {
                record.lock().dropped_events += count;
                continue;
            }
        };
        match event {
            ClusterEvent::Gap(gap) => record.lock().gap(number, &gap),
            ClusterEvent::Lost(_) => record.lock().loses_broker(number),
            ClusterEvent::NodeWent(other) => record.lock().gives_up(number, other.id),
            ClusterEvent::Restored => record.lock().finds_broker(number),
            _ => {}
        }
        lock(&seen).drain();
    }
}

/// Who is in which rooms, by what a node has told of changes.
pub(crate) struct Observer {
    number: NodeNumber,
    events: ClusterEvents,
    rooms: HashMap<usize, BTreeSet<(NodeId, SessionNumber)>>,
    record: Record,
}

impl Observer {
    /// Takes the events that are there.
    pub(crate) fn drain(&mut self) {
        loop {
            // All of them, however much this task has done.
            let next = pin!(unconstrained(self.events.next())).poll(&mut Context::from_waker(Waker::noop()));
            let (room, member, is_there) = match next {
                Poll::Ready(Ok(Some(ClusterEvent::Entered { room, member }))) => (room, member, true),
                Poll::Ready(Ok(Some(ClusterEvent::Left { room, member }))) => (room, member, false),
                Poll::Ready(Ok(Some(_)) | Err(_)) => continue,
                Poll::Ready(Ok(None)) | Poll::Pending => return,
            };
            if member.data.is_empty() {
                // The client had left before its node could ask for its data.
                continue;
            }
            let members = self.rooms.entry(number(&room)).or_default();
            let member = (member.node, Tag::parse(&member.data));
            let is_change = if is_there { members.insert(member) } else { members.remove(&member) };
            if !is_change {
                let what = format!("node {}: {member:?} in {room}, there: {is_there}, twice", self.number);
                self.record.lock().violations.push(what);
            }
        }
    }

    /// Returns who is in a room.
    pub(crate) fn members(&self, room: usize) -> BTreeSet<(NodeId, SessionNumber)> {
        self.rooms.get(&room).cloned().unwrap_or_default()
    }
}

/// A backplane whose subscriptions are recorded.
struct Watched<B> {
    backplane: B,
    record: Record,
    number: Arc<OnceLock<NodeNumber>>,
    observer: Arc<OnceLock<Arc<Mutex<Observer>>>>,
}

impl<B> Watched<B> {
    fn number(&self) -> NodeNumber {
        *self.number.get().expect("it was started")
    }
}

impl<B: Backplane> Backplane for Watched<B> {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move {
            self.backplane.start(node, inbox).await?;
            let number = self.record.lock().node_comes(node);
            self.number.set(number).map_err(|_| BackplaneError::new("started twice"))
        })
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            self.backplane.subscribe(channels).await?;
            let mut log = self.record.lock();
            for channel in channels {
                log.subscribed(self.number(), channel);
            }
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        if let Some(observer) = self.observer.get() {
            let mut seen = lock(observer);
            seen.drain();
            for channel in channels {
                if let Channel::Room(room) = channel {
                    // From now on, the node tells nothing of it.
                    seen.rooms.remove(&number(room));
                }
            }
        }
        let mut log = self.record.lock();
        for channel in channels {
            log.unsubscribed(self.number(), channel);
        }
        drop(log);
        self.backplane.unsubscribe(channels)
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.backplane.publish(messages)
    }

    fn max_payload(&self) -> usize {
        self.backplane.max_payload()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        self.backplane.probe()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.backplane.stop()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
