//! The registry: who is connected, and who may join.
//!
//! Its lock is held for a look or a change, never while anything is sent. Who sends to many works on a snapshot of
//! [`crate::members`], so that a broadcast allocates nothing but its frame.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use longwire_connection::{CloseFrame, Transport, WebSocket};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::entry::Entry;
use crate::members::Members;
use crate::rooms::Rooms;
use crate::socket::Member;
use crate::stats::Counters;
use crate::{Client, ClientId, ClientInfo, HubConfig, HubError, HubStats, RunError, Socket};

/// The registry of connected clients; clones are handles to the same one.
#[derive(Clone, Default)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Default)]
pub(crate) struct Inner {
    registry: Mutex<Registry>,
    config: Mutex<HubConfig>,
    pub(crate) rooms: Rooms,
    /// Notified when the last client has left.
    pub(crate) emptied: Notify,
    /// Where the limit on a slow client's leaving is waited for: a broadcast may come from a thread outside.
    pub(crate) runtime: OnceLock<Handle>,
    pub(crate) counters: Counters,
}

#[derive(Default)]
struct Registry {
    clients: Members,
    admitted: u64,
    /// The most clients that were here at once.
    peak: usize,
    /// What clients are told from the shutdown's beginning on.
    closing: Option<CloseFrame>,
}

impl Hub {
    /// Makes a hub without clients.
    pub fn new(config: HubConfig) -> Self {
        let hub = Self::default();
        hub.set_config(config);
        hub
    }

    /// Changes how slow clients are treated, from the next broadcast on.
    pub fn set_config(&self, config: HubConfig) {
        *self.inner.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// How slow clients are treated.
    pub fn config(&self) -> HubConfig {
        *self.inner.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a client and runs `handler` on its connection until both are done.
    ///
    /// The handler runs as under [`longwire_connection::drive`]: what it sends between two yields leaves in one write, and
    /// when it returns, the connection is closed with 1000, or 1011 for an error. The client is registered from this call
    /// on until the future has ended or is dropped.
    ///
    /// # Errors
    ///
    /// [`RunError::Handler`] with the handler's error, [`RunError::Refused`] if the hub is shutting down,
    /// [`RunError::Aborted`] if its shutdown passed the deadline.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the handler; the connection is closed in the background.
    pub fn run<T, F, Fut, E>(
        &self,
        ws: WebSocket<T>,
        info: ClientInfo,
        handler: F,
    ) -> impl Future<Output = Result<(), RunError<E>>> + use<T, F, Fut, E>
    where
        T: Transport,
        F: FnOnce(Socket<T>) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let admitted = self.admit(ws, info);
        async move {
            match admitted {
                Ok(socket) => socket.run(handler).await,
                Err(_) => Err(RunError::Refused),
            }
        }
    }

    /// Admits a client whose socket the caller drives; it is registered until the socket is dropped.
    ///
    /// # Errors
    ///
    /// [`HubError::ShuttingDown`]: the connection was closed with the shutdown's code.
    pub fn admit<T: Transport>(&self, mut ws: WebSocket<T>, info: ClientInfo) -> Result<Socket<T>, HubError> {
        if self.inner.runtime.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            // Another thread may have been faster: one is as good as the other.
            let _ = self.inner.runtime.set(runtime);
        }
        let sender = ws.sender();
        let mut registry = self.registry();
        if let Some(frame) = registry.closing.clone() {
            drop(registry);
            // A connection that is closing already needs no second close frame.
            let _ = ws.start_close(frame.code, &frame.reason);
            return Err(HubError::ShuttingDown);
        }
        registry.admitted += 1;
        let id = ClientId(registry.admitted);
        let entry = Arc::new(Entry::new(id, sender, info, self.clone()));
        let stale = registry.clients.insert(Client { entry: Arc::clone(&entry) });
        registry.peak = registry.peak.max(registry.clients.len());
        drop(registry);
        drop(stale);
        Ok(Socket::new(ws, Member::new(entry)))
    }

    /// All clients that are connected now, in the order in which they came.
    pub fn clients(&self) -> Arc<[Client]> {
        self.registry().clients.snapshot()
    }

    /// The client of this name, if it is connected.
    pub fn get(&self, id: ClientId) -> Option<Client> {
        self.registry().clients.get(id)
    }

    /// How many clients are connected.
    pub fn len(&self) -> usize {
        self.registry().clients.len()
    }

    /// Whether no client is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the hub takes no more clients.
    pub fn is_shutting_down(&self) -> bool {
        self.registry().closing.is_some()
    }

    /// Counts since the hub was made.
    pub fn stats(&self) -> HubStats {
        let rooms = self.inner.rooms.len();
        let registry = self.registry();
        let counters = &self.inner.counters;
        HubStats {
            clients: registry.clients.len(),
            peak: registry.peak,
            rooms,
            admitted: registry.admitted,
            broadcasts: counters.broadcasts.value(),
            broadcast_bytes: counters.broadcast_bytes.value(),
            delivered: counters.delivered.value(),
            dropped: counters.dropped.value(),
            closed_slow: counters.closed_slow.value(),
        }
    }

    /// Admits nobody from here on; says who is to be told. The first close frame counts.
    pub(crate) fn stop_admitting(&self, frame: CloseFrame) -> Arc<[Client]> {
        self.registry().closing.get_or_insert(frame);
        self.clients()
    }

    /// Takes a client out of the registry.
    pub(crate) fn remove(&self, id: ClientId) {
        let mut registry = self.registry();
        let stale = registry.clients.remove(id);
        let emptied = registry.clients.is_empty();
        drop(registry);
        drop(stale);
        if emptied {
            self.inner.emptied.notify_waiters();
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Nothing that can panic leaves the registry half changed.
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("clients", &self.len()).finish_non_exhaustive()
    }
}
