//! The link that a hub calls: it takes messages and moves of clients, and never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire_hub::{ClientId, Published, Room, Target, Uplink};
use tokio::sync::Notify;

use crate::appends::Appends;
use crate::channel::Channel;
use crate::envelope::{Body, Post};
use crate::outbox::Outbox;
use crate::stats::Counters;

/// The link of a hub to its cluster. The hub keeps it, so it does not keep the hub.
pub(crate) struct Link {
    pub(crate) outbox: Outbox,
    /// The messages that wait for the history of rooms, if there is one.
    pub(crate) appends: Option<Appends>,
    pub(crate) counters: Counters,
    moves: Mutex<Moves>,
    pub(crate) moved: Notify,
}

#[derive(Default)]
struct Moves {
    queue: VecDeque<Move>,
    /// Set if moves were dropped: then the hub says what is true.
    has_overflowed: bool,
    is_stopped: bool,
}

/// A change of the hub's rooms or keys.
#[derive(Debug)]
pub(crate) enum Move {
    Entered(Arc<str>, ClientId),
    Left(Arc<str>, ClientId),
    Taken(Arc<str>),
    GivenUp(Arc<str>),
}

impl Link {
    pub(crate) fn new(outbox: Outbox, appends: Option<Appends>) -> Self {
        Self { outbox, appends, counters: Counters::default(), moves: Mutex::default(), moved: Notify::new() }
    }

    fn note(&self, change: Move) {
        let mut stale = VecDeque::new();
        let mut moves = self.lock();
        if moves.is_stopped || moves.has_overflowed {
            return;
        }
        if moves.queue.len() < MOST {
            moves.queue.push_back(change);
        } else {
            stale = std::mem::take(&mut moves.queue);
            moves.has_overflowed = true;
        }
        drop(moves);
        drop(stale);
        self.moved.notify_one();
    }

    /// Takes the moves since the last call; `None` if there were too many.
    pub(crate) fn take_moves(&self) -> Option<VecDeque<Move>> {
        let mut moves = self.lock();
        let queue = std::mem::take(&mut moves.queue);
        if std::mem::take(&mut moves.has_overflowed) { None } else { Some(queue) }
    }

    /// Ends the link: the hub is alone from now on.
    pub(crate) fn stop(&self, last: Option<(Channel, Body)>) {
        let mut moves = self.lock();
        moves.is_stopped = true;
        moves.queue = VecDeque::new();
        drop(moves);
        if let Some(appends) = &self.appends {
            appends.stop();
        }
        self.outbox.stop(last);
    }

    /// Returns whether the link has ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Counts a message for a room with a history that nobody will get, and sees to it that all nodes learn of it.
    pub(crate) fn refuse(&self, appends: &Appends, room: Arc<str>) {
        self.counters.lost.add(1);
        appends.refuse(room);
    }

    /// Takes a message for a room with a history. Returns whether this node's clients get it from there.
    fn append(&self, appends: &Appends, room: &str, published: Published<'_>) -> bool {
        let room: Arc<str> = room.into();
        if published.latest.is_some_and(|key| key.len() > MAX_NAME) {
            if appends.is_stopped() {
                return false;
            }
            self.refuse(appends, room);
            return true;
        }
        match appends.post(Arc::clone(&room), post(published)) {
            Some(true) => true,
            Some(false) => {
                self.refuse(appends, room);
                true
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Moves> {
        // No panic can leave it half changed.
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uplink for Link {
    fn publish(&self, published: Published<'_>) -> bool {
        let Published { target, latest, .. } = published;
        if let Target::Room(name) | Target::Key(name) = target
            && name.len() > MAX_NAME
        {
            // Nobody can be there.
            return false;
        }
        if let (Some(appends), Target::Room(room)) = (&self.appends, target) {
            return self.append(appends, room, published);
        }
        let channel = match target {
            Target::All => Channel::All,
            Target::Room(room) => Channel::Room(room.into()),
            Target::Key(key) => Channel::Key(key.into()),
        };
        if latest.is_some_and(|key| key.len() > MAX_NAME) {
            self.counters.lost.add(1);
            self.outbox.lose(channel);
            return false;
        }
        if self.outbox.post(channel, post(published)) == Some(false) {
            self.counters.lost.add(1);
        }
        false
    }

    fn moved(&self, room: &Arc<str>, client: ClientId, has_entered: bool) {
        let room = Arc::clone(room);
        self.note(if has_entered { Move::Entered(room, client) } else { Move::Left(room, client) });
    }

    fn keyed(&self, key: &Arc<str>, is_taken: bool) {
        let key = Arc::clone(key);
        self.note(if is_taken { Move::Taken(key) } else { Move::GivenUp(key) });
    }
}

/// Returns the content of an envelope, without its numbers.
fn post(published: Published<'_>) -> Post {
    Post {
        seq: 0,
        previous: 0,
        except: published.except.map(ClientId::value),
        latest: published.latest.map(Arc::from),
        message: published.message.clone(),
    }
}

/// The longest name of a room or key, in bytes, and the longest key of a latest value that reaches other nodes.
const MAX_NAME: usize = Room::MAX_NAME;

/// The moves that may wait. Beyond that, the hub is asked what is true.
const MOST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::NodeId;

    #[test]
    fn moves_are_bounded() {
        let link = Link::new(Outbox::new(NodeId(1), 1024, 1024), None);
        let room: Arc<str> = "a".into();
        for n in 0..MOST as u64 {
            link.moved(&room, n.into(), true);
        }
        assert_eq!(link.take_moves().map(|moves| moves.len()), Some(MOST));
        for n in 0..=MOST as u64 {
            link.moved(&room, n.into(), true);
        }
        assert!(link.take_moves().is_none());
        link.keyed(&room, false);
        assert!(matches!(link.take_moves().unwrap_or_default().pop_front(), Some(Move::GivenUp(_))));
        link.stop(None);
        link.keyed(&room, true);
        assert_eq!(link.take_moves().map(|moves| moves.len()), Some(0));
    }
}
