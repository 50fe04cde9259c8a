//! A set of clients that is read as a whole far more often than it changes: the registry's, and each room's.
//!
//! Whoever sends to all of them works on a snapshot, which is kept until somebody joins or leaves. What a change makes
//! stale is handed out, because the last handle of a connection may go with it: drop it where no lock is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Client, ClientId};

#[derive(Default)]
pub(crate) struct Members {
    clients: BTreeMap<ClientId, Client>,
    /// All of `clients`, unless one has joined or left since it was made.
    snapshot: Option<Arc<[Client]>>,
}

/// What a change to [`Members`] has made of no use.
#[must_use = "drop it where no lock is held"]
#[derive(Default)]
pub(crate) struct Stale {
    _client: Option<Client>,
    _snapshot: Option<Arc<[Client]>>,
}

impl Members {
    pub(crate) fn insert(&mut self, client: Client) -> Stale {
        let client = self.clients.insert(client.id(), client);
        Stale { _client: client, _snapshot: self.snapshot.take() }
    }

    pub(crate) fn remove(&mut self, id: ClientId) -> Stale {
        let client = self.clients.remove(&id);
        // Who was not here was in no snapshot.
        let snapshot = if client.is_some() { self.snapshot.take() } else { None };
        Stale { _client: client, _snapshot: snapshot }
    }

    /// All clients in the order of their names, which is the one in which they came.
    pub(crate) fn snapshot(&mut self) -> Arc<[Client]> {
        let Self { clients, snapshot } = self;
        Arc::clone(snapshot.get_or_insert_with(|| clients.values().cloned().collect()))
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<Client> {
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
