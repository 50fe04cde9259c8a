//! The handshakes that are going on: how many there may be, and who has to go first.
//!
//! When a new one finds no place, the oldest loses its own. An honest client is through in a moment, so the oldest is the
//! one that drips; refusing the newest instead would let a thousand idle strangers lock everybody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

#[derive(Debug, Default)]
pub(crate) struct Pending {
    state: Mutex<State>,
    /// Notified when the last ticket is gone.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By age: who still has a place.
    places: BTreeMap<u64, oneshot::Sender<Revoked>>,
    issued: u64,
    /// Tickets that exist, with those that were revoked and are about to go.
    tickets: usize,
    closed: bool,
}

/// Why a handshake lost its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// A newer one needs it.
    Crowded,
    /// The server shuts down.
    ShutDown,
}

/// One handshake's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    revoked: oneshot::Receiver<Revoked>,
    pending: Arc<Pending>,
}

impl Pending {
    /// Gives a place to one more handshake; at the cost of the oldest if there are `most` already.
    pub(crate) fn enter(self: &Arc<Self>, most: usize) -> Ticket {
        let (place, revoked) = oneshot::channel();
        let mut state = self.state();
        state.issued += 1;
        state.tickets += 1;
        let number = state.issued;
        if state.closed {
            let _ = place.send(Revoked::ShutDown);
        } else {
            while state.places.len() >= most.max(1)
                && let Some((_, oldest)) = state.places.pop_first()
            {
                let _ = oldest.send(Revoked::Crowded);
            }
            state.places.insert(number, place);
        }
        drop(state);
        Ticket { number, revoked, pending: Arc::clone(self) }
    }

    /// Revokes every place, and every one to come.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let places = std::mem::take(&mut state.places);
        drop(state);
        for (_, place) in places {
            let _ = place.send(Revoked::ShutDown);
        }
    }

    /// Waits until no ticket is left.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.state().tickets == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Waits until the place is lost.
    pub(crate) async fn revoked(&mut self) -> Revoked {
        // The other end goes with a word, or not before this ticket.
        (&mut self.revoked).await.unwrap_or(Revoked::ShutDown)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.pending.state();
        state.places.remove(&self.number);
        state.tickets -= 1;
        if state.tickets == 0 {
            drop(state);
            self.pending.emptied.notify_waiters();
        }
    }
}
