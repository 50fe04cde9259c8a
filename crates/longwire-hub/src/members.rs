//! A set of clients that is read as a whole far more often than it changes: that of the registry, and
//! that of each room.
//!
//! A call that sends to all of them works on a snapshot, which costs nothing to take: the set is a list of blocks that
//! snapshots share. A change copies what it changes if a snapshot has it: one block of at most [`CHUNK`] clients, and
//! the list of blocks. Between two snapshots, each block is copied once at most. Clients that join while others
//! publish therefore cost little, and so do the publishers, however many clients there are.
//!
//! A change returns the values that it makes stale, because the last handle of a connection may be among them: drop
//! them where no lock is held. What a change copies is not among them, as all its clients but that one are in the copy.

use std::ops::DerefMut;
use std::sync::Arc;

use crate::id::ClientId;

pub(crate) struct Members<C> {
    blocks: Arc<Vec<Arc<Block<C>>>>,
    len: usize,
    /// The clients as one slice, if it was asked for since one has joined or left.
    slice: Option<Arc<[C]>>,
    /// The number of times that a client has joined or left.
    changes: u64,
}

/// Clients in the order of their IDs; at least one, and at most [`CHUNK`].
type Block<C> = Vec<(ClientId, C)>;

/// The clients of a set at one time, in the order of their IDs, which is the order in which they connected.
pub(crate) struct Snapshot<C>(Arc<Vec<Arc<Block<C>>>>);

impl<C> Default for Members<C> {
    fn default() -> Self {
        Self { blocks: Arc::default(), len: 0, slice: None, changes: 0 }
    }
}

/// Values that a change to [`Members`] has made stale.
#[must_use = "drop it where no lock is held"]
pub(crate) struct Stale<C> {
    _client: Option<C>,
    _slice: Option<Arc<[C]>>,
}

impl<C: Clone> Members<C> {
    pub(crate) fn insert(&mut self, id: ClientId, client: C) -> Stale<C> {
        self.changes += 1;
        let client = self.replace(id, client);
        self.len += usize::from(client.is_none());
        Stale { _client: client, _slice: self.slice.take() }
    }

    /// Adds a client; returns the one that had its ID.
    fn replace(&mut self, id: ClientId, client: C) -> Option<C> {
        let place = self.find(id);
        let blocks = Arc::make_mut(&mut self.blocks);
        let (at, index) = match place {
            Ok((at, index)) => {
                let known = &mut Arc::make_mut(&mut blocks[at])[index].1;
                return Some(std::mem::replace(known, client));
            }
            Err(place) => place,
        };
        let is_full = |block: &Arc<Block<C>>| block.len() == CHUNK;
        match blocks.get_mut(at) {
            // Most clients come last. The blocks before them stay full.
            None => blocks.push(Arc::new(vec![(id, client)])),
            Some(block) if is_full(block) && index == CHUNK => {
                blocks.insert(at + 1, Arc::new(vec![(id, client)]));
            }
            Some(block) if is_full(block) => {
                let block = Arc::make_mut(block);
                block.insert(index, (id, client));
                let second = block.split_off(block.len() / 2);
                blocks.insert(at + 1, Arc::new(second));
            }
            Some(block) => Arc::make_mut(block).insert(index, (id, client)),
        }
        None
    }

    pub(crate) fn remove(&mut self, id: ClientId) -> Stale<C> {
        let Ok((at, index)) = self.find(id) else {
            // A client that was not in the set is in no slice.
            return Stale { _client: None, _slice: None };
        };
        self.changes += 1;
        self.len -= 1;
        let blocks = Arc::make_mut(&mut self.blocks);
        let block = Arc::make_mut(&mut blocks[at]);
        let (_, client) = block.remove(index);
        if block.is_empty() {
            blocks.remove(at);
        } else {
            merge(blocks, at);
        }
        Stale { _client: Some(client), _slice: self.slice.take() }
    }

    /// Returns the block and the index in it of a client, or as an error those at which to insert it.
    fn find(&self, id: ClientId) -> Result<(usize, usize), (usize, usize)> {
        let at = self.blocks.partition_point(|block| block[0].0 <= id).saturating_sub(1);
        let Some(block) = self.blocks.get(at) else { return Err((at, 0)) };
        match block.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(index) => Ok((at, index)),
            Err(index) => Err((at, index)),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<C> {
        Snapshot(Arc::clone(&self.blocks))
    }

    /// Returns all clients in the order of their IDs. They are copied while the lock is free, and kept until a client
    /// joins or leaves.
    pub(crate) fn slice<G, M>(lock: impl Fn() -> G) -> Arc<[C]>
    where
        G: DerefMut<Target = M>,
        M: AsMut<Self>,
    {
        let mut guard = lock();
        let members = guard.as_mut();
        if let Some(slice) = &members.slice {
            return Arc::clone(slice);
        }
        let (snapshot, len, changes) = (members.snapshot(), members.len, members.changes);
        drop(guard);
        let mut copied = Vec::with_capacity(len);
        copied.extend(snapshot.iter().cloned());
        let slice: Arc<[C]> = copied.into();
        drop(snapshot);
        let mut guard = lock();
        let members = guard.as_mut();
        if members.changes == changes {
            // Another thread may have been faster; either slice will do.
            let other = members.slice.replace(Arc::clone(&slice));
            drop(guard);
            drop(other);
        }
        slice
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<C> {
        let (at, index) = self.find(id).ok()?;
        Some(self.blocks[at][index].1.clone())
    }

    pub(crate) fn contains(&self, id: ClientId) -> bool {
        self.find(id).is_ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Merges a block with the next or the previous one if both are short, so that many departures leave few blocks.
fn merge<C: Clone>(blocks: &mut Vec<Arc<Block<C>>>, at: usize) {
    for first in [at, at.saturating_sub(1)] {
        if let Some(second) = blocks.get(first + 1)
            && blocks[first].len() + second.len() <= CHUNK / 2
        {
            let second = blocks.remove(first + 1);
            Arc::make_mut(&mut blocks[first]).extend(second.iter().cloned());
            return;
        }
    }
}

impl<C> Snapshot<C> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &C> {
        self.0.iter().flat_map(|block| block.iter().map(|(_, client)| client))
    }
}

impl<C> Default for Snapshot<C> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The number of clients that a loop visits, in some tens of microseconds, before it lets others have a turn. Also the
/// largest number of clients in a block: that and the number of blocks are what a change may have to copy.
pub(crate) const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

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
    fn others_join_and_leave_while_a_slice_is_made() {
        const COUNT: u64 = 4 * CHUNK as u64;
        let crowd = Crowd::of(4 * CHUNK);
        let locked = Cell::new(0);
        let slice = Members::slice(|| {
            locked.set(locked.get() + 1);
            // While the clients are copied, one joins, and the last of all leaves.
            if locked.get() == 2 {
                crowd.borrow_mut().insert(COUNT + 1);
                drop(crowd.borrow_mut().0.remove(ClientId(COUNT)));
            }
            crowd.borrow_mut()
        });
        assert_eq!(*slice, (1..=COUNT).collect::<Vec<_>>(), "those at the time of the call, in order");

        // The change made this slice stale, and it is not kept.
        let next = Members::slice(|| crowd.borrow_mut());
        assert_eq!((next.len() as u64, next.last()), (COUNT, Some(&(COUNT + 1))));
        assert!(Arc::ptr_eq(&next, &Members::slice(|| crowd.borrow_mut())), "this one is kept");
        crowd.borrow_mut().insert(COUNT + 2);
        assert_eq!(Members::slice(|| crowd.borrow_mut()).len() as u64, COUNT + 1);
    }

    #[test]
    fn a_slice_that_was_overtaken_is_not_kept() {
        let join = |crowd: &mut Crowd| crowd.insert(3);
        let leave = |crowd: &mut Crowd| drop(crowd.0.remove(ClientId(2)));
        for (change, after) in [(&join as &dyn Fn(&mut Crowd), &[1, 2, 3][..]), (&leave, &[1])] {
            let crowd = Crowd::of(2);
            let locked = Cell::new(0);
            let slice = Members::slice(|| {
                locked.set(locked.get() + 1);
                if locked.get() == 2 {
                    change(&mut crowd.borrow_mut());
                }
                crowd.borrow_mut()
            });
            assert_eq!(*slice, [1, 2]);
            assert_eq!(*Members::slice(|| crowd.borrow_mut()), *after);
        }
    }

    #[test]
    fn a_slice_is_whole_at_every_size() {
        for count in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1] {
            let crowd = Crowd::of(count);
            let slice = Members::slice(|| crowd.borrow_mut());
            assert_eq!(*slice, (1..=count as u64).collect::<Vec<_>>());
        }
    }

    /// A client that counts its copies.
    struct Counted<'a>(&'a Cell<usize>);

    impl Clone for Counted<'_> {
        fn clone(&self) -> Self {
            self.0.set(self.0.get() + 1);
            Self(self.0)
        }
    }

    #[test]
    fn a_client_that_joins_or_leaves_between_publications_copies_one_block() {
        let copies = Cell::new(0);
        let mut members = Members::default();
        for n in 1..=100 * CHUNK as u64 {
            drop(members.insert(ClientId(n), Counted(&copies)));
        }
        assert_eq!(copies.get(), 0, "no snapshot has them");
        let mut snapshot = members.snapshot();
        for n in 1..=1000_u64 {
            let changed = members.insert(ClientId(1_000_000 + n), Counted(&copies));
            drop((changed, members.remove(ClientId(n * 7))));
            assert!(copies.take() <= 2 * CHUNK, "of {} clients", members.len());
            assert_eq!(snapshot.iter().count(), 100 * CHUNK, "it does not change");
            snapshot = members.snapshot();
        }
        drop(snapshot);
        copies.set(0);
        drop(members.insert(ClientId(2_000_000), Counted(&copies)));
        assert_eq!(copies.get(), 0, "no snapshot has the block any more");
    }

    #[test]
    fn blocks_are_full_if_clients_come_in_order_and_cut_in_halves_otherwise() {
        let lens = |crowd: &Crowd| crowd.0.blocks.iter().map(|block| block.len()).collect::<Vec<_>>();
        assert_eq!(lens(&Crowd::of(3 * CHUNK).borrow()), [CHUNK; 3]);
        let mut crowd = Crowd::default();
        (1..=CHUNK as u64).for_each(|n| crowd.insert(2 * n));
        crowd.insert(3);
        assert_eq!(lens(&crowd), [CHUNK / 2, CHUNK / 2 + 1]);
    }

    #[test]
    fn a_crowd_that_leaves_takes_its_blocks_with_it() {
        let crowd = Crowd::of(100 * CHUNK);
        let members = &mut crowd.borrow_mut().0;
        for n in (1..=100 * CHUNK as u64).filter(|n| n % 100 != 0) {
            drop(members.remove(ClientId(n)));
        }
        assert_eq!(members.len(), CHUNK);
        assert!(members.blocks.len() <= 5, "{}", members.blocks.len());
    }

    /// Returns pseudo-random numbers, the same in each run.
    fn numbers() -> impl FnMut(u64) -> u64 {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    #[test]
    fn it_is_an_ordered_set_and_snapshots_do_not_change() {
        let mut next = numbers();
        for round in 0..20 {
            let (mut members, mut model) = (Members::default(), BTreeMap::new());
            let mut kept = Vec::new();
            // More come than go in even rounds, and the other way round in odd ones.
            let coming = 4 + 3 * (1 - round % 2);
            for version in 0..5000 {
                let n = next(3000);
                match next(10) {
                    choice if choice < coming => {
                        drop(members.insert(ClientId(n), version));
                        model.insert(n, version);
                    }
                    9 if next(50) == 0 => {
                        kept.push((members.snapshot(), model.values().copied().collect::<Vec<_>>()));
                    }
                    _ => {
                        drop(members.remove(ClientId(n)));
                        model.remove(&n);
                        assert!(!members.contains(ClientId(n)));
                    }
                }
                assert_eq!((members.len(), members.is_empty()), (model.len(), model.is_empty()));
                assert!(members.blocks.iter().all(|block| (1..=CHUNK).contains(&block.len())));
            }
            kept.push((members.snapshot(), model.values().copied().collect()));
            for (snapshot, expected) in kept {
                assert_eq!(snapshot.iter().copied().collect::<Vec<_>>(), expected);
            }
            for (n, version) in model {
                assert_eq!(members.get(ClientId(n)), Some(version));
            }
        }
    }
}
