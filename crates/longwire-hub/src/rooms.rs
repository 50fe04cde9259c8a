//! Membership of rooms: the table of rooms, and each client's list of its rooms.
//!
//! A room exists while a client is in it: the first member creates it, the last one removes it. Locks are
//! acquired in one order (a client's list, then the table or a room, never both), and no lock is held while
//! anything is sent.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use crate::error::HubError;
use crate::id::ClientId;
use crate::members::{Members, Snapshot, Stale};
use crate::sync::{Mutex, MutexGuard};

/// The rooms of a hub that have members.
///
/// Names may come from peers: the table's hashes are keyed at random, so that no peer can make them collide.
pub(crate) struct Rooms<C> {
    by_name: Mutex<HashMap<Arc<str>, Arc<RoomState<C>>>>,
    #[cfg(feature = "cluster")]
    watcher: std::sync::OnceLock<Watcher>,
}

/// A change of a room's members.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "without a link, nobody reads it"))]
pub(crate) struct Change {
    pub(crate) has_entered: bool,
    /// Whether the client is the only one, or was.
    pub(crate) is_first_or_last: bool,
}

/// Hears of each change, under the lock of the room: those of one room in their order.
#[cfg(feature = "cluster")]
pub(crate) type Watcher = Box<dyn Fn(&Arc<str>, ClientId, Change) + Send + Sync>;

/// A room that has members, or had them: the table may already have a later room of the same name.
pub(crate) struct RoomState<C> {
    name: Arc<str>,
    members: Mutex<Occupants<C>>,
}

struct Occupants<C> {
    members: Members<C>,
    /// Set once the last member has left. No client can enter any more, and a new room takes the name.
    is_closed: bool,
}

impl<C> Default for Occupants<C> {
    fn default() -> Self {
        Self { members: Members::default(), is_closed: false }
    }
}

impl<C> AsMut<Members<C>> for Occupants<C> {
    fn as_mut(&mut self) -> &mut Members<C> {
        &mut self.members
    }
}

/// The rooms that one client is in, in the order of their addresses.
pub(crate) struct Joined<C> {
    rooms: Vec<Arc<RoomState<C>>>,
    /// Set once the client is no longer connected. Nothing more is added to the list.
    is_closed: bool,
}

impl<C> Default for Joined<C> {
    fn default() -> Self {
        Self { rooms: Vec::new(), is_closed: false }
    }
}

impl<C> Default for Rooms<C> {
    fn default() -> Self {
        Self {
            by_name: Mutex::default(),
            #[cfg(feature = "cluster")]
            watcher: std::sync::OnceLock::new(),
        }
    }
}

impl<C: Clone> Rooms<C> {
    /// Adds a client to a room, and the room to the client's list; returns whether it was not in the room before.
    pub(crate) fn join(
        &self,
        name: &str,
        id: ClientId,
        client: &C,
        limit: Option<usize>,
        mut joined: MutexGuard<'_, Joined<C>>,
    ) -> Result<bool, HubError> {
        if joined.is_closed {
            return Err(HubError::NotConnected);
        }
        if self.find(name).is_some_and(|room| joined.position(&room).is_ok()) {
            return Ok(false);
        }
        if let Some(limit) = limit
            && joined.rooms.len() >= limit
        {
            return Err(HubError::TooManyRooms { limit });
        }
        let stale = self.enter(name, id, client, &mut joined);
        drop(joined);
        drop(stale);
        Ok(true)
    }

    /// Moves a client from all its rooms into one, or into none.
    pub(crate) fn move_to(
        &self,
        name: Option<&str>,
        id: ClientId,
        client: &C,
        mut joined: MutexGuard<'_, Joined<C>>,
    ) -> Result<(), HubError> {
        if joined.is_closed {
            return Err(HubError::NotConnected);
        }
        let current = joined.rooms.first().map(|room| &*room.name);
        if current == name && joined.rooms.len() <= 1 {
            return Ok(());
        }
        // The new room first, so that whoever moves is in one at any time.
        let left = std::mem::take(&mut joined.rooms);
        let mut stale = Vec::new();
        if let Some(name) = name {
            stale.push(self.enter(name, id, client, &mut joined));
        }
        stale.extend(left.into_iter().map(|room| room.release(id, self)));
        drop(joined);
        drop(stale);
        Ok(())
    }

    /// Adds a client to a room in which it is not.
    fn enter(&self, name: &str, id: ClientId, client: &C, joined: &mut Joined<C>) -> Stale<C> {
        loop {
            let room = self.find_or_make(name);
            if let Some(stale) = room.admit(id, client.clone(), self) {
                let at = joined.position(&room).unwrap_or_else(|at| at);
                joined.rooms.insert(at, room);
                return stale;
            }
            // The room's last member is just leaving: either task may remove the room from the table.
            self.forget(&room);
        }
    }

    /// Removes a client from a room; returns whether it was in the room.
    pub(crate) fn leave(&self, name: &str, id: ClientId, mut joined: MutexGuard<'_, Joined<C>>) -> bool {
        let Some(at) = self.find(name).and_then(|room| joined.position(&room).ok()) else {
            return false;
        };
        let room = joined.rooms.remove(at);
        let stale = room.release(id, self);
        drop(joined);
        drop(stale);
        true
    }

    /// Removes a client from every room, for good.
    pub(crate) fn leave_all(&self, id: ClientId, mut joined: MutexGuard<'_, Joined<C>>) {
        joined.is_closed = true;
        let left = std::mem::take(&mut joined.rooms);
        drop(joined);
        for room in left {
            drop(room.release(id, self));
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<RoomState<C>>> {
        self.lock().get(name).cloned()
    }

    fn find_or_make(&self, name: &str) -> Arc<RoomState<C>> {
        let mut rooms = self.lock();
        if let Some(room) = rooms.get(name) {
            return Arc::clone(room);
        }
        let name: Arc<str> = name.into();
        let room = Arc::new(RoomState { name: Arc::clone(&name), members: Mutex::default() });
        rooms.insert(name, Arc::clone(&room));
        room
    }

    /// Removes a closed room from the table, unless a new one has its name.
    fn forget(&self, room: &Arc<RoomState<C>>) {
        let mut rooms = self.lock();
        if rooms.get(&*room.name).is_some_and(|known| Arc::ptr_eq(known, room)) {
            rooms.remove(&*room.name);
            // A burst of rooms must not cost memory forever after.
            if rooms.capacity() > SPARE && rooms.len() < rooms.capacity() / 8 {
                rooms.shrink_to(SPARE);
            }
        }
    }

    /// Has each change of a room's members told to `watcher`, for good. Only the first call counts.
    #[cfg(feature = "cluster")]
    pub(crate) fn watch(&self, watcher: Watcher) {
        // A hub is linked once.
        let _ = self.watcher.set(watcher);
    }

    #[cfg(feature = "cluster")]
    fn note(&self, room: &Arc<str>, id: ClientId, change: Change) {
        if let Some(watcher) = self.watcher.get() {
            watcher(room, id, change);
        }
    }

    #[cfg(not(feature = "cluster"))]
    #[inline]
    #[allow(clippy::unused_self, reason = "as with the feature")]
    fn note(&self, _: &Arc<str>, _: ClientId, _: Change) {}

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<RoomState<C>>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clone> RoomState<C> {
    pub(crate) fn members(&self) -> Arc<[C]> {
        Members::slice(|| self.lock())
    }

    pub(crate) fn snapshot(&self) -> Snapshot<C> {
        self.lock().members.snapshot()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().members.len()
    }

    pub(crate) fn contains(&self, id: ClientId) -> bool {
        self.lock().members.contains(id)
    }

    /// Adds a client; returns `None` if the room is closed.
    fn admit(&self, id: ClientId, client: C, rooms: &Rooms<C>) -> Option<Stale<C>> {
        let mut occupants = self.lock();
        if occupants.is_closed {
            return None;
        }
        let stale = occupants.members.insert(id, client);
        let is_first_or_last = occupants.members.len() == 1;
        rooms.note(&self.name, id, Change { has_entered: true, is_first_or_last });
        Some(stale)
    }

    /// Removes a client. Removing the last one closes the room.
    fn release(self: &Arc<Self>, id: ClientId, rooms: &Rooms<C>) -> Stale<C> {
        let mut occupants = self.lock();
        let stale = occupants.members.remove(id);
        let is_closed = occupants.members.is_empty();
        occupants.is_closed = is_closed;
        rooms.note(&self.name, id, Change { has_entered: false, is_first_or_last: is_closed });
        drop(occupants);
        if is_closed {
            rooms.forget(self);
        }
        stale
    }

    fn lock(&self) -> MutexGuard<'_, Occupants<C>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Joined<C> {
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.rooms.iter().map(|room| Arc::clone(&room.name)).collect()
    }

    /// Returns the index of a room in the list, or as an error the index at which to insert it.
    fn position(&self, room: &Arc<RoomState<C>>) -> Result<usize, usize> {
        self.rooms.binary_search_by_key(&Arc::as_ptr(room), Arc::as_ptr)
    }
}

/// The number of rooms for which the table keeps its memory.
const SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_cut_when_few_of_many_rooms_are_left() {
        let (rooms, joined) = (Rooms::<()>::default(), Mutex::default());
        let joined = || joined.lock().expect("nothing panics");
        for n in 0..1000 {
            assert!(rooms.join(&n.to_string(), ClientId(1), &(), None, joined()).expect("it is no limit"));
        }
        let capacity = || rooms.lock().capacity();
        let full = capacity();
        for n in 0..1000 {
            assert!(rooms.leave(&n.to_string(), ClientId(1), joined()));
            // A table that is not cut loses some of its capacity to places that cannot be used again.
            let (left, capacity) = (rooms.len(), capacity());
            assert!(left < full / 8 || capacity > full / 2, "{left} left: {capacity}");
            assert!(left >= full / 32 || capacity < full / 2, "{left} left: {capacity}");
        }
        assert!(capacity() < 4 * SPARE, "{}", capacity());
    }
}
