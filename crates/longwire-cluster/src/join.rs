//! Joining a room with a history: from a position, without a hole and without a repetition on the seam.
//!
//! ```text
//!      since            live when the client was admitted          it enters the room
//!        │   the history, fetched   │   kept for it by the room      │   the hub delivers
//!  ──────┴──────────────────────────┴────────────────────────────────┴──────────────────▶  positions
//! ```

use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{Error, Message};
use longwire_hub::{ClientHandle, HubError, Room as HubRoom};
use tokio::time::{Instant, timeout_at};

use crate::catch_up::{Content, Joiner, PAGE, Room};
use crate::channel::Channel;
use crate::cluster::{Cluster, ClusterError};
use crate::history::{Past, Position};
use crate::node::{Node, call, within_limit};

/// The state in which a client joins a room: see [`Cluster::join_since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// The position after which the client gets every message: the one that it asked for if it is
    /// [recovered](Self::recovered), otherwise that of the room's last message.
    pub position: Position,
    /// Whether the client asked for a position, and gets everything after it.
    pub recovered: bool,
}

impl Cluster {
    /// Adds a client to a room with a history, from a position on.
    ///
    /// First, `welcome` is called, and the message that it makes is sent to the client. If the history still has
    /// every message after `since`, the client then gets these. After that it is in the room, and gets what is
    /// published there: all in the order of their positions, without a hole, and none twice. Otherwise, or without
    /// `since`, the client gets what is published from now on, and [`Joined::recovered`] is `false`.
    ///
    /// The call waits until this node receives the room's messages, up to five seconds, and then as long as the client
    /// takes to read what it has missed. What is published meanwhile is kept for it, up to 1 MiB. A message that was
    /// published with [`publish_except`](longwire_hub::Hub::publish_except) for an earlier connection of the same
    /// user is missed as well: it excludes one connection. Latest values that were missed are sent one by one.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoHistory`] without [`ClusterOptions::with_history`](crate::ClusterOptions::with_history);
    /// [`ClusterError::Broker`] or [`ClusterError::Unanswered`] if the room's messages do not arrive in time;
    /// [`ClusterError::Slow`] if more is published than is kept, or the history loses messages before the client has
    /// got them; [`ClusterError::InRoom`] if the client is in the room; [`ClusterError::Hub`] if it has left the hub,
    /// is in too many rooms, or the room's name is too long; [`ClusterError::Left`] once the node has left. The client
    /// is not in the room then, and may have got a part of the messages.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the client is in the room or not, and may have got a part of the messages.
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_cluster::{Cluster, ClusterOptions, History, Memory, Position};
    /// use longwire_connection::{Config, testing::pair};
    /// use longwire_hub::{ClientInfo, Hub};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = Hub::default();
    /// let options = ClusterOptions::default().with_history(History::default());
    /// let cluster = Cluster::join(&hub, Memory::new(), options).await?;
    /// let (_ws, server) = pair(Config::default());
    /// let first = hub.admit(server, ClientInfo::default())?;
    /// let joined = cluster.join_since(&first.client(), "tea", None, |_| None).await?;
    /// hub.publish("tea", "missed by the next one");
    ///
    /// let (mut ws, server) = pair(Config::default());
    /// let socket = hub.admit(server, ClientInfo::default())?;
    /// let since: Position = joined.position.to_string().parse()?;
    /// let joined = cluster
    ///     .join_since(&socket.client(), "tea", since, |joined| {
    ///         Some(format!("recovered: {}", joined.recovered).into())
    ///     })
    ///     .await?;
    /// assert!(joined.recovered);
    /// assert_eq!(ws.recv().await?, Some("recovered: true".into()));
    /// assert_eq!(ws.recv().await?, Some("missed by the next one".into()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn join_since(
        &self,
        client: &ClientHandle,
        room: impl AsRef<str>,
        since: impl Into<Option<Position>>,
        welcome: impl FnOnce(&Joined) -> Option<Message> + Send,
    ) -> Result<Joined, ClusterError> {
        let name = room.as_ref();
        if self.node().rooms.is_none() {
            return Err(ClusterError::NoHistory);
        }
        if name.len() > HubRoom::MAX_NAME {
            return Err(ClusterError::Hub(HubError::RoomName { len: name.len() }));
        }
        if self.node().hub.room(name).contains(client.id()) {
            return Err(ClusterError::InRoom);
        }
        let joining = Joining { node: self.node(), client, name: name.into() };
        joining.run(since.into(), welcome).await
    }
}

/// A client on its way into a room.
struct Joining<'a> {
    node: &'a Node,
    client: &'a ClientHandle,
    name: Arc<str>,
}

impl Joining<'_> {
    async fn run(
        &self,
        since: Option<Position>,
        welcome: impl FnOnce(&Joined) -> Option<Message>,
    ) -> Result<Joined, ClusterError> {
        let _held = Held::new(self.node, &self.name);
        let admitted = self.admitted().await?;
        let first = match since {
            Some(since) => self.first_page(since, admitted.live).await?,
            None => None,
        };
        let joined = match (since, &first) {
            (Some(since), Some(_)) => Joined { position: since, recovered: true },
            _ => Joined { position: admitted.live, recovered: false },
        };
        let goal = self.goal(joined.position, admitted.live).await?;
        if let Some(message) = call(|| welcome(&joined)).flatten() {
            self.send(message).await?;
        }
        if let Some(page) = first {
            self.send_missed(joined.position, page, admitted.live).await?;
        }
        self.enter(&admitted, joined.position, goal).await?;
        Ok(joined)
    }

    /// Waits until the room is live, and has messages kept for the client from then on.
    async fn admitted(&self) -> Result<Admitted, ClusterError> {
        let deadline = Instant::now() + WAIT;
        loop {
            let changed = self.node.wait_subscribed();
            if matches!(self.node.check(), Err(ClusterError::Left)) {
                return Err(ClusterError::Left);
            }
            if let Some(room) = self.node.rooms.as_ref().and_then(|rooms| rooms.get(&self.name)) {
                let mut state = room.lock();
                // Otherwise it was given up a moment ago, and is subscribed to again.
                if !state.is_over
                    && let Some(live) = state.timeline.live()
                {
                    let joiner = state.admit(self.client.id());
                    drop(state);
                    return Ok(Admitted { room, joiner, live });
                }
            }
            if timeout_at(deadline, changed).await.is_err() {
                self.node.check()?;
                return Err(ClusterError::Unanswered);
            }
        }
    }

    /// Fetches the first messages after a position; `None` if not all that follow can be had.
    async fn first_page(&self, since: Position, live: Position) -> Result<Option<Past>, ClusterError> {
        if since == live {
            return Ok(Some(Past { last: live, is_whole: true, records: Vec::new() }));
        }
        if since.epoch() != live.epoch() {
            return Ok(None);
        }
        // Also if it is ahead of this node: another node may have been faster.
        let past = self.fetch(since).await?;
        Ok(past.is_whole.then_some(past))
    }

    /// Returns the position that this node must have reached when the client enters the room. If the client is ahead of
    /// this node, it is that of the last message up to `since`: offsets may be counted over all rooms, and a node that
    /// has just subscribed to a quiet room gives positions that no message there will have.
    async fn goal(&self, since: Position, live: Position) -> Result<Position, ClusterError> {
        if since.epoch() != live.epoch() || live.reaches(since) {
            return Ok(since);
        }
        let mut goal = live;
        loop {
            let page = self.fetch(goal).await?;
            match page.records.iter().rfind(|record| since.reaches(record.position)) {
                Some(record) => goal = record.position,
                None => return Ok(goal),
            }
        }
    }

    async fn fetch(&self, after: Position) -> Result<Past, ClusterError> {
        let fetched = within_limit(self.node.backplane.history(&self.name, Some(after), PAGE)).await;
        fetched.map_err(ClusterError::Broker)
    }

    /// Sends what was missed up to the position from which on messages are kept.
    async fn send_missed(&self, since: Position, mut page: Past, live: Position) -> Result<(), ClusterError> {
        let mut reached = since;
        loop {
            if page.records.is_empty() {
                // What this node has delivered is in the history, or was: then it was not whole.
                return Ok(());
            }
            for record in page.records {
                if record.position.offset() > live.offset() {
                    return Ok(());
                }
                reached = record.position;
                match self.node.content(record) {
                    Some(Content::Message { message, except, .. }) if except != Some(self.client.id()) => {
                        self.send(message).await?;
                    }
                    Some(Content::Gap) => {
                        let make = self.node.options.gap_message.as_ref();
                        if let Some(message) = make.and_then(|make| call(|| make(&self.name)).flatten()) {
                            self.send(message).await?;
                        }
                    }
                    _ => {}
                }
            }
            if reached.reaches(live) {
                return Ok(());
            }
            page = self.fetch(reached).await?;
            if !page.is_whole {
                return Err(ClusterError::Slow);
            }
        }
    }

    /// Sends what was kept after `since`, and puts the client into the room when nothing is left and this node has
    /// reached `goal`.
    async fn enter(&self, admitted: &Admitted, since: Position, goal: Position) -> Result<(), ClusterError> {
        let Admitted { room, joiner, .. } = admitted;
        let mut deadline = Instant::now() + WAIT;
        loop {
            let mut next = None;
            {
                // Nothing is delivered in the room meanwhile.
                let state = room.lock();
                if joiner.has_overflowed() || state.is_over {
                    return Err(ClusterError::Slow);
                }
                while let Some((message, position)) = joiner.take() {
                    if position.is_some_and(|position| since.reaches(position)) {
                        continue;
                    }
                    match self.client.sender().try_send(message.clone()) {
                        Ok(()) => {}
                        Err(Error::QueueFull) => {
                            next = Some(message);
                            break;
                        }
                        Err(_) => return Err(ClusterError::Hub(HubError::NotConnected)),
                    }
                }
                // After a new start in another history, there is nothing to wait for.
                let last = state.timeline.last();
                let has_reached = last.is_none_or(|last| last.epoch() != goal.epoch() || last.reaches(goal));
                if next.is_none() && has_reached {
                    return match self.client.join(&self.name) {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(ClusterError::InRoom),
                        Err(error) => Err(ClusterError::Hub(error)),
                    };
                }
            }
            match next {
                Some(message) => {
                    self.send(message).await?;
                    deadline = Instant::now() + WAIT;
                }
                // The client is ahead of this node.
                None if Instant::now() >= deadline => return Err(ClusterError::Unanswered),
                None => drop(timeout_at(Instant::now() + AGAIN, joiner.added.notified()).await),
            }
        }
    }

    /// Sends a message, and waits while the client's queue is full.
    async fn send(&self, message: Message) -> Result<(), ClusterError> {
        let sent = self.client.sender().send(message).await;
        sent.map_err(|_| ClusterError::Hub(HubError::NotConnected))
    }
}

/// A client for which a room keeps messages, until this is dropped.
struct Admitted {
    room: Arc<Room>,
    joiner: Arc<Joiner>,
    live: Position,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.room.lock().dismiss(&self.joiner);
    }
}

/// The interest of a node in a room that a client is about to join.
struct Held<'a> {
    node: &'a Node,
    room: &'a Arc<str>,
}

impl<'a> Held<'a> {
    fn new(node: &'a Node, room: &'a Arc<str>) -> Self {
        let mut inner = node.inner();
        *inner.held.entry(Arc::clone(room)).or_default() += 1;
        inner.interest.occupy(Channel::Room(Arc::clone(room)));
        drop(inner);
        node.link.moved.notify_one();
        Self { node, room }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut inner = self.node.inner();
        if let Some(count) = inner.held.get_mut(self.room) {
            *count -= 1;
            if *count == 0 {
                inner.held.remove(self.room);
            }
        }
        drop(inner);
        let channel = Channel::Room(Arc::clone(self.room));
        // If it has members, the last one that leaves gives it up.
        if !self.node.is_occupied(&channel) {
            self.node.inner().interest.vacate(&channel, Instant::now());
            self.node.link.moved.notify_one();
        }
    }
}

/// The time in which a room has to become live.
const WAIT: Duration = Duration::from_secs(5);

/// The time after which a client that is ahead of its node looks again.
const AGAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use longwire_connection::Config;
    use longwire_connection::testing::pair;
    use longwire_hub::{ClientInfo, Hub};

    use super::*;
    use crate::history::History;
    use crate::memory::Memory;
    use crate::options::ClusterOptions;

    /// The room was about to be given up when the client began to join.
    #[tokio::test(start_paused = true)]
    async fn a_room_that_is_given_up_meanwhile_is_no_room_to_join() {
        let hub = Hub::default();
        let options = ClusterOptions::default().with_history(History::default());
        let cluster = Cluster::join(&hub, Memory::new(), options).await.expect("the broker is there");
        let (_ws, server) = pair(Config::default());
        let socket = hub.admit(server, ClientInfo::default()).expect("the hub is open");
        let rooms = cluster.node().rooms.as_ref().expect("there is a history");
        let end = |_: &Joined| {
            rooms.end("tea");
            None
        };
        let joined = cluster.join_since(&socket.client(), "tea", None, end).await;
        assert!(matches!(joined, Err(ClusterError::Slow)), "{joined:?}");
        assert!(hub.room("tea").is_empty());
    }
}
