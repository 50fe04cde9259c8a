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

use crate::id::ClientId;

pub(crate) struct Members<C> {
    clients: BTreeMap<ClientId, C>,
    /// A snapshot of `clients`, unless one has joined or left since it was made.
    snapshot: Option<Arc<[C]>>,
    /// The number of times that a client has joined or left.
    changes: u64,
}

impl<C> Default for Members<C> {
    fn default() -> Self {
        Self { clients: BTreeMap::new(), snapshot: None, changes: 0 }
    }
}

/// Values that a change to [`Members`] has made stale.
#[must_use = "drop it where no lock is held"]
pub(crate) struct Stale<C> {
    _client: Option<C>,
    _snapshot: Option<Arc<[C]>>,
}

impl<C: Clone> Members<C> {
    pub(crate) fn insert(&mut self, id: ClientId, client: C) -> Stale<C> {
        self.changes += 1;
        let client = self.clients.insert(id, client);
        Stale { _client: client, _snapshot: self.snapshot.take() }
    }

    pub(crate) fn remove(&mut self, id: ClientId) -> Stale<C> {
        let client = self.clients.remove(&id);
        // A client that was not in the set is in no snapshot.
        let snapshot = if client.is_some() { self.snapshot.take() } else { None };
        self.changes += u64::from(client.is_some());
        Stale { _client: client, _snapshot: snapshot }
    }

    /// Returns all clients in the order of their IDs, which is the order in which they connected.
    ///
    /// `lock` is called for each [`CHUNK`] of them. A client that joins or leaves meanwhile may or may not be included.
    pub(crate) fn snapshot<G, M>(lock: impl Fn() -> G) -> Arc<[C]>
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
            let snapshot: Arc<[C]> = members.clients.values().cloned().collect();
            members.snapshot = Some(Arc::clone(&snapshot));
            return snapshot;
        }
        let changes = members.changes;
        let last = members.clients.last_key_value().map(|(id, _)| *id);
        let mut copied = Vec::with_capacity(members.clients.len());
        let mut from = None;
        loop {
            let before = copied.len();
            for (id, client) in guard.as_mut().between(from, last).take(CHUNK) {
                from = Some(*id);
                copied.push(client.clone());
            }
            drop(guard);
            // Clients that have joined since come after `last`, so the loop ends.
            if copied.len() - before < CHUNK {
                break;
            }
            guard = lock();
        }
        let snapshot: Arc<[C]> = copied.into();
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
    fn between(
        &self,
        from: Option<ClientId>,
        last: Option<ClientId>,
    ) -> impl Iterator<Item = (&ClientId, &C)> {
        let from = from.map_or(Unbounded, Excluded);
        let clients = self.clients.range((from, Unbounded));
        clients.take_while(move |(id, _)| last.is_some_and(|last| **id <= last))
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<C> {
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

    use super::*;

    #[derive(Default)]
    struct Crowd(Members<u64>);

    impl Crowd {
        /// The clients from 1 to `count`.
        fn of(count: usize) -> RefCell<Self> {
            let mut crowd = Self::default();
            (1..=count as u64).for_each(|n| crowd.insert(n));
            RefCell::new(crowd)
        }

        fn insert(&mut self, n: u64) {
            drop(self.0.insert(ClientId(n), n));
        }
    }

    impl AsMut<Members<u64>> for Crowd {
        fn as_mut(&mut self) -> &mut Members<u64> {
            &mut self.0
        }
    }

    #[test]
    fn others_join_and_leave_while_a_snapshot_is_made() {
        const COUNT: u64 = 4 * CHUNK as u64;
        let crowd = Crowd::of(4 * CHUNK);
        let locked = Cell::new(0);
        let snapshot = Members::snapshot(|| {
            locked.set(locked.get() + 1);
            // Between two steps, one client joins, and the last of all leaves.
            if locked.get() == 3 {
                crowd.borrow_mut().insert(COUNT + 1);
                drop(crowd.borrow_mut().0.remove(ClientId(COUNT)));
            }
            crowd.borrow_mut()
        });
        assert!(locked.get() >= 5, "a step copies {CHUNK} at most, in {} steps", locked.get());
        assert_eq!(*snapshot, (1..COUNT).collect::<Vec<_>>(), "those who stayed, in order");

        // The change made this snapshot stale, and it is not kept.
        let next = Members::snapshot(|| crowd.borrow_mut());
        assert_eq!((next.len() as u64, next.last()), (COUNT, Some(&(COUNT + 1))));
        assert!(Arc::ptr_eq(&next, &Members::snapshot(|| crowd.borrow_mut())), "this one is kept");
        crowd.borrow_mut().insert(COUNT + 2);
        assert_eq!(Members::snapshot(|| crowd.borrow_mut()).len() as u64, COUNT + 1);
    }

    #[test]
    fn a_snapshot_is_whole_at_every_size() {
        for count in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1] {
            let crowd = Crowd::of(count);
            let snapshot = Members::snapshot(|| crowd.borrow_mut());
            assert_eq!(*snapshot, (1..=count as u64).collect::<Vec<_>>());
        }
    }
}
