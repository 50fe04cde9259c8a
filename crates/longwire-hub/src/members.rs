//! A set of clients that is read as a whole far more often than it changes: that of the registry, and
//! that of each room.
//!
//! A call that sends to all of them works on a snapshot, which is kept until a client joins or leaves. The
//! snapshot is made in steps, so that others can join and leave meanwhile. A change returns the values that it
//! makes stale, because the last handle of a connection may be among them: drop them where no lock is held.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::DerefMut;
use std::sync::Arc;

use crate::{ClientHandle, ClientId};

#[derive(Default)]
pub(crate) struct Members {
    clients: BTreeMap<ClientId, ClientHandle>,
    /// A snapshot of `clients`, unless one has joined or left since it was made.
    snapshot: Option<Arc<[ClientHandle]>>,
    /// The number of times that a client has joined or left.
    changes: u64,
}

/// Values that a change to [`Members`] has made stale.
#[must_use = "drop it where no lock is held"]
#[derive(Default)]
pub(crate) struct Stale {
    _client: Option<ClientHandle>,
    _snapshot: Option<Arc<[ClientHandle]>>,
}

impl Members {
    pub(crate) fn insert(&mut self, client: ClientHandle) -> Stale {
        self.changes += 1;
        let client = self.clients.insert(client.id(), client);
        Stale { _client: client, _snapshot: self.snapshot.take() }
    }

    pub(crate) fn remove(&mut self, id: ClientId) -> Stale {
        let client = self.clients.remove(&id);
        // A client that was not in the set is in no snapshot.
        let snapshot = if client.is_some() { self.snapshot.take() } else { None };
        self.changes += u64::from(client.is_some());
        Stale { _client: client, _snapshot: snapshot }
    }

    /// Returns all clients in the order of their IDs, which is the order in which they connected.
    ///
    /// `lock` is called for each [`CHUNK`] of them. A client that joins or leaves meanwhile may or may not be included.
    pub(crate) fn snapshot<G, M>(lock: impl Fn() -> G) -> Arc<[ClientHandle]>
    where
        G: DerefMut<Target = M>,
        M: AsMut<Self>,
    {
        let mut guard = lock();
        let members = guard.as_mut();
        if let Some(snapshot) = &members.snapshot {
            return Arc::clone(snapshot);
        }
        if members.clients.len() <= CHUNK {
            let snapshot: Arc<[ClientHandle]> = members.clients.values().cloned().collect();
            members.snapshot = Some(Arc::clone(&snapshot));
            return snapshot;
        }
        let changes = members.changes;
        let last = members.clients.last_key_value().map(|(id, _)| *id);
        let mut copied = Vec::with_capacity(members.clients.len());
        loop {
            let before = copied.len();
            let from = copied.last().map(ClientHandle::id);
            copied.extend(guard.as_mut().between(from, last).take(CHUNK).cloned());
            drop(guard);
            // Clients that have joined since come after `last`, so the loop ends.
            if copied.len() - before < CHUNK {
                break;
            }
            guard = lock();
        }
        let snapshot: Arc<[ClientHandle]> = copied.into();
        let mut guard = lock();
        let members = guard.as_mut();
        if members.changes == changes {
            // Another thread may have been faster; either snapshot will do.
            let other = members.snapshot.replace(Arc::clone(&snapshot));
            drop(guard);
            drop(other);
        }
        snapshot
    }

    /// Returns the clients after `from`, up to and including `last`.
    fn between(&self, from: Option<ClientId>, last: Option<ClientId>) -> impl Iterator<Item = &ClientHandle> {
        let from = from.map_or(Unbounded, Excluded);
        let clients = self.clients.range((from, Unbounded));
        clients.take_while(move |(id, _)| last.is_some_and(|last| **id <= last)).map(|(_, client)| client)
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<ClientHandle> {
        self.clients.get(&id).cloned()
    }

    pub(crate) fn contains(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

/// The number of clients that a loop visits, in some tens of microseconds, before it lets others have a turn: by
/// releasing a lock, or by yielding from its task.
pub(crate) const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use longwire_connection::testing::pair;

    use super::*;
    use crate::{ClientInfo, Hub, Socket};

    struct Crowd(Members);

    impl AsMut<Members> for Crowd {
        fn as_mut(&mut self) -> &mut Members {
            &mut self.0
        }
    }

    fn ids(clients: &[ClientHandle]) -> Vec<u64> {
        clients.iter().map(|client| client.id().value()).collect()
    }

    /// Admits `count` clients to a new hub.
    fn clients(count: usize) -> Vec<Socket<longwire_connection::testing::Pipe>> {
        let hub = Hub::default();
        let admit = |_| hub.admit(pair(longwire_connection::Config::default()).1, ClientInfo::default());
        (0..count).map(admit).collect::<Result<_, _>>().expect("there is a place")
    }

    #[tokio::test]
    async fn others_join_and_leave_while_a_snapshot_is_made() {
        const COUNT: usize = 4 * CHUNK;
        let sockets = clients(COUNT + 3);
        let crowd = RefCell::new(Crowd(Members::default()));
        let insert = |n: usize| drop(crowd.borrow_mut().0.insert(sockets[n].client()));
        (0..COUNT).for_each(insert);
        let locked = Cell::new(0);
        let snapshot = Members::snapshot(|| {
            locked.set(locked.get() + 1);
            // Between two steps, one client joins, and the last of all leaves.
            if locked.get() == 3 {
                insert(COUNT);
                drop(crowd.borrow_mut().0.remove(sockets[COUNT - 1].id()));
            }
            crowd.borrow_mut()
        });
        assert!(locked.get() >= 5, "a step copies {CHUNK} at most, in {} steps", locked.get());
        assert_eq!(ids(&snapshot), (1..COUNT as u64).collect::<Vec<_>>(), "those who stayed, in order");

        // The change made this snapshot stale, and it is not kept.
        let next = Members::snapshot(|| crowd.borrow_mut());
        assert_eq!(next.len(), COUNT);
        assert_eq!(next.last().map(ClientHandle::id), Some(sockets[COUNT].id()));
        assert!(Arc::ptr_eq(&next, &Members::snapshot(|| crowd.borrow_mut())), "this one is kept");
        insert(COUNT + 1);
        assert_eq!(Members::snapshot(|| crowd.borrow_mut()).len(), COUNT + 1);
    }

    #[tokio::test]
    async fn a_snapshot_is_whole_at_every_size() {
        let sockets = clients(2 * CHUNK + 1);
        for count in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1] {
            let crowd = RefCell::new(Crowd(Members::default()));
            for socket in &sockets[..count] {
                drop(crowd.borrow_mut().0.insert(socket.client()));
            }
            let snapshot = Members::snapshot(|| crowd.borrow_mut());
            assert_eq!(ids(&snapshot), (1..=count as u64).collect::<Vec<_>>());
        }
    }
}
