//! The link that a hub calls: it takes messages and moves of clients, and never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire_hub::{ClientId, Published, Room, Target, Uplink};
use tokio::sync::Notify;

use crate::channel::Channel;
use crate::envelope::{Body, Post};
use crate::outbox::Outbox;
use crate::stats::Counters;

/// The link of a hub to its cluster. The hub keeps it, so it does not keep the hub.
pub(crate) struct Link {
    pub(crate) outbox: Outbox,
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
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self { outbox, counters: Counters::default(), moves: Mutex::default(), moved: Notify::new() }
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
        self.outbox.stop(last);
    }

    fn lock(&self) -> MutexGuard<'_, Moves> {
        // No panic can leave it half changed.
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uplink for Link {
    fn publish(&self, published: Published<'_>) -> bool {
        let Published { target, latest, except, message } = published;
        if let Target::Room(name) | Target::Key(name) = target
            && name.len() > MAX_NAME
        {
            // Nobody can be there.
            return false;
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
        let post = Post {
            seq: 0,
            previous: 0,
            except: except.map(ClientId::value),
            latest: latest.map(Arc::from),
            message: message.clone(),
        };
        if self.outbox.post(channel, post) == Some(false) {
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
        let link = Link::new(Outbox::new(NodeId(1), 1024, 1024));
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
