//! Membership of rooms: the table of rooms, and each client's list of its rooms.
//!
//! A room exists while a client is in it: the first member creates it, the last one removes it. Locks are
//! acquired in one order (a client's list, then the table or a room, never both), and no lock is held while
//! anything is sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::entry::Entry;
use crate::members::{Members, Stale};
use crate::{ClientHandle, ClientId, HubError, Room};

/// The rooms of a hub that have members.
///
/// Names may come from peers: the table's hashes are keyed at random, so that no peer can make them collide.
#[derive(Default)]
pub(crate) struct Rooms {
    by_name: Mutex<HashMap<Arc<str>, Arc<RoomState>>>,
}

/// A room that has members, or had them: the table may already have a later room of the same name.
pub(crate) struct RoomState {
    name: Arc<str>,
    members: Mutex<Occupants>,
}

#[derive(Default)]
struct Occupants {
    members: Members,
    /// Set once the last member has left. No client can enter any more, and a new room takes the name.
    is_closed: bool,
}

impl AsMut<Members> for Occupants {
    fn as_mut(&mut self) -> &mut Members {
        &mut self.members
    }
}

/// The rooms that one client is in, in the order of their addresses.
#[derive(Default)]
pub(crate) struct Joined {
    rooms: Vec<Arc<RoomState>>,
    /// Set once the client is no longer connected. Nothing more is added to the list.
    is_closed: bool,
}

impl Rooms {
    pub(crate) fn find(&self, name: &str) -> Option<Arc<RoomState>> {
        self.lock().get(name).cloned()
    }

    fn find_or_make(&self, name: &str) -> Arc<RoomState> {
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
    fn forget(&self, room: &Arc<RoomState>) {
        let mut rooms = self.lock();
        if rooms.get(&*room.name).is_some_and(|known| Arc::ptr_eq(known, room)) {
            rooms.remove(&*room.name);
            // A burst of rooms must not cost memory forever after.
            if rooms.capacity() > SPARE && rooms.len() < rooms.capacity() / 8 {
                rooms.shrink_to(SPARE);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<RoomState>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomState {
    pub(crate) fn members(&self) -> Arc<[ClientHandle]> {
        Members::snapshot(|| self.lock())
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().members.len()
    }

    pub(crate) fn contains(&self, id: ClientId) -> bool {
        self.lock().members.contains(id)
    }

    /// Adds a client; returns `None` if the room is closed.
    fn admit(&self, client: ClientHandle) -> Option<Stale> {
        let mut occupants = self.lock();
        (!occupants.is_closed).then(|| occupants.members.insert(client))
    }

    /// Removes a client. Removing the last one closes the room.
    fn release(self: &Arc<Self>, id: ClientId, rooms: &Rooms) -> Stale {
        let mut occupants = self.lock();
        let stale = occupants.members.remove(id);
        let is_closed = occupants.members.is_empty();
        occupants.is_closed = is_closed;
        drop(occupants);
        if is_closed {
            rooms.forget(self);
        }
        stale
    }

    fn lock(&self) -> MutexGuard<'_, Occupants> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    /// Returns the index of a room in the list, or as an error the index at which to insert it.
    fn position(&self, room: &Arc<RoomState>) -> Result<usize, usize> {
        self.rooms.binary_search_by_key(&Arc::as_ptr(room), Arc::as_ptr)
    }
}

impl Entry {
    /// Adds this client to a room; returns whether it was not in the room before.
    pub(crate) fn join(self: &Arc<Self>, name: &str) -> Result<bool, HubError> {
        if name.len() > Room::MAX_NAME {
            return Err(HubError::RoomName { len: name.len() });
        }
        let rooms = &self.hub().inner.rooms;
        let limit = self.max_rooms(self.hub().config().max_rooms_per_client);
        let rare = self.rare_if_connected().ok_or(HubError::NotConnected)?;
        let mut joined = rare.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if joined.is_closed {
            return Err(HubError::NotConnected);
        }
        if rooms.find(name).is_some_and(|room| joined.position(&room).is_ok()) {
            return Ok(false);
        }
        if let Some(limit) = limit
            && joined.rooms.len() >= limit
        {
            return Err(HubError::TooManyRooms { limit });
        }
        let stale = loop {
            let room = rooms.find_or_make(name);
            if let Some(stale) = room.admit(ClientHandle { entry: Arc::clone(self) }) {
                let at = joined.position(&room).unwrap_or_else(|at| at);
                joined.rooms.insert(at, room);
                break stale;
            }
            // The room's last member is just leaving: either task may remove the room from the table.
            rooms.forget(&room);
        };
        drop(joined);
        drop(stale);
        Ok(true)
    }

    /// Removes this client from a room; returns whether it was in the room.
    pub(crate) fn leave(&self, name: &str) -> bool {
        let rooms = &self.hub().inner.rooms;
        let Some(mut joined) = self.joined() else {
            return false;
        };
        let Some(at) = rooms.find(name).and_then(|room| joined.position(&room).ok()) else {
            return false;
        };
        let room = joined.rooms.remove(at);
        let stale = room.release(self.id, rooms);
        drop(joined);
        drop(stale);
        true
    }

    /// Removes this client from every room, for good.
    pub(crate) fn leave_all_rooms(&self) {
        let Some(mut joined) = self.joined() else {
            return;
        };
        joined.is_closed = true;
        let left = std::mem::take(&mut joined.rooms);
        drop(joined);
        for room in left {
            drop(room.release(self.id, &self.hub().inner.rooms));
        }
    }

    pub(crate) fn room_names(&self) -> Vec<Arc<str>> {
        let joined = self.joined();
        let rooms = joined.iter().flat_map(|joined| &joined.rooms);
        rooms.map(|room| Arc::clone(&room.name)).collect()
    }

    fn joined(&self) -> Option<MutexGuard<'_, Joined>> {
        Some(self.rare()?.rooms.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The number of rooms for which the table keeps its memory.
const SPARE: usize = 64;
