//! The registry of connected clients.
//!
//! The registry's lock is held for a lookup or a change, never while anything is sent. A call that sends to many
//! clients works on a snapshot of [`crate::members`], so a broadcast allocates only its frame.

use std::fmt;
use std::sync::{Arc, Once, OnceLock, PoisonError, Weak};
use std::time::Duration;

use longwire_connection::{CloseCode, CloseFrame};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::warn;

use crate::census::{Census, Source};
use crate::config::HubConfig;
use crate::departed::Departed;
use crate::entry::{ClientHandle, Entry};
use crate::error::HubError;
use crate::id::ClientId;
use crate::members::{Members, Snapshot};
use crate::metrics;
use crate::rooms::Rooms;
use crate::stats::{Counters, HubStats};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Notify, Ordering};

/// The registry of connected clients. Clones are handles to the same registry.
#[derive(Clone, Default)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    made: Instant,
    registry: Mutex<Registry>,
    config: Mutex<HubConfig>,
    pub(crate) rooms: Rooms<ClientHandle>,
    /// The clients by key: a "room" for each key.
    pub(crate) keys: Rooms<ClientHandle>,
    /// The warning due when the hub is used for more than one client, and whether it was given.
    misuse: OnceLock<(&'static str, AtomicBool)>,
    /// Notified when the last client has left.
    pub(crate) emptied: Notify,
    pub(crate) counters: Counters,
    /// The link to the hubs of other nodes.
    #[cfg(feature = "cluster")]
    pub(crate) uplink: crate::uplink::Slot,
    departed: Mutex<Departed>,
    /// The traffic that was already reported.
    #[cfg(feature = "metrics")]
    pub(crate) reported: Mutex<longwire_connection::Stats>,
}

impl Inner {
    /// Returns the time since the hub was made.
    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            registry: Mutex::default(),
            config: Mutex::default(),
            rooms: Rooms::default(),
            keys: Rooms::default(),
            misuse: OnceLock::new(),
            emptied: Notify::new(),
            counters: Counters::default(),
            #[cfg(feature = "cluster")]
            uplink: crate::uplink::Slot::default(),
            departed: Mutex::default(),
            #[cfg(feature = "metrics")]
            reported: Mutex::default(),
        }
    }
}

#[derive(Default)]
struct Registry {
    clients: Members<ClientHandle>,
    census: Census,
    homes: Homes,
    admitted: u64,
    /// The largest number of clients that were connected at once.
    peak: usize,
    /// The close frame for clients, from the beginning of a shutdown on.
    closing: Option<CloseFrame>,
}

impl AsMut<Members<ClientHandle>> for Registry {
    fn as_mut(&mut self) -> &mut Members<ClientHandle> {
        &mut self.clients
    }
}

impl Hub {
    /// Makes a hub without clients.
    pub fn new(config: HubConfig) -> Self {
        let hub = Self::default();
        hub.set_config(config);
        hub
    }

    /// Changes the configuration, from the next broadcast and the next admission on.
    pub fn set_config(&self, config: HubConfig) {
        *self.inner.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Returns the configuration.
    pub fn config(&self) -> HubConfig {
        *self.inner.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a client, whose place is counted as reserved until this returns `Ok`.
    pub(crate) fn register(
        &self,
        make: impl FnOnce(ClientId, Arc<Home>) -> Entry,
    ) -> Result<Arc<Entry>, CloseFrame> {
        let mut registry = self.registry();
        if let Some(frame) = registry.closing.clone() {
            return Err(frame);
        }
        let home = registry.homes.here(self);
        registry.census.occupy();
        registry.admitted += 1;
        let entry = Arc::new(make(ClientId(registry.admitted), home));
        let stale = registry.clients.insert(entry.id, ClientHandle { entry: Arc::clone(&entry) });
        registry.peak = registry.peak.max(registry.clients.len());
        drop(registry);
        drop(stale);
        metrics::opened();
        Ok(entry)
    }

    /// Counts a reserved place for a client from this source, if one is free.
    pub(crate) fn reserve_for(&self, source: Option<Source>) -> Result<(), HubError> {
        let config = self.config();
        let mut registry = self.registry();
        let reserved = match registry.closing {
            Some(_) => Err(HubError::ShuttingDown),
            None => registry.census.reserve(source, &config),
        };
        drop(registry);
        reserved.inspect_err(|error| {
            if !matches!(error, HubError::ShuttingDown) {
                self.count_refusal();
            }
        })
    }

    /// Counts a reserved place for this source, if one more client from it is allowed.
    pub(crate) fn assign(&self, source: Source) -> Result<(), HubError> {
        let config = self.config();
        let assigned = self.registry().census.assign(source, &config);
        assigned.inspect_err(|_| self.count_refusal())
    }

    fn count_refusal(&self) {
        self.inner.counters.refused.add(1);
        metrics::refused();
    }

    /// Returns the close frame for a client that is not admitted.
    pub(crate) fn refusal(&self) -> CloseFrame {
        let closing = self.registry().closing.clone();
        closing.unwrap_or_else(|| CloseFrame::new(CloseCode::TRY_AGAIN_LATER, ""))
    }

    /// Makes a hub for one client only. It logs `warning` when it is first used to reach other clients.
    #[doc(hidden)]
    pub fn for_one_client(config: HubConfig, warning: &'static str) -> Self {
        let hub = Self::new(config);
        // A new hub has no warning yet.
        let _ = hub.inner.misuse.set((warning, AtomicBool::new(false)));
        hub
    }

    /// Logs the warning of [`for_one_client`](Self::for_one_client), once.
    pub(crate) fn warn_without_mount(&self) {
        static TOLD: Once = Once::new();
        if let Some((warning, given)) = self.inner.misuse.get()
            && !given.swap(true, Ordering::Relaxed)
        {
            warn!("{warning}");
            // A developer who has set up no subscriber yet would see nothing and wait for messages.
            if cfg!(debug_assertions) && !tracing::dispatcher::has_been_set() {
                TOLD.call_once(|| eprintln!("longwire: {warning}"));
            }
        }
    }

    /// Returns a runtime in which clients were admitted, if there is one.
    pub(crate) fn any_runtime(&self) -> Option<Handle> {
        self.registry().homes.runtime()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Gives back a place that no client used.
    pub(crate) fn give_back(&self, source: Option<Source>) {
        self.registry().census.release(source);
    }

    /// Returns all clients that are connected now, in the order in which they connected.
    ///
    /// A client that comes or leaves during the call may or may not be included. The call does not keep clients
    /// from doing so.
    pub fn clients(&self) -> Arc<[ClientHandle]> {
        Members::slice(|| self.registry())
    }

    /// Returns the clients that are connected now, without copying the list of them.
    pub(crate) fn snapshot(&self) -> Snapshot<ClientHandle> {
        self.registry().clients.snapshot()
    }

    /// Returns the client with this ID, if it is connected.
    pub fn get(&self, id: ClientId) -> Option<ClientHandle> {
        self.registry().clients.get(id)
    }

    /// Returns the number of connected clients.
    pub fn len(&self) -> usize {
        self.registry().clients.len()
    }

    /// Returns whether no client is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the hub is shutting down and admits no more clients.
    pub fn is_shutting_down(&self) -> bool {
        self.registry().closing.is_some()
    }

    /// Returns the counts since the hub was made.
    pub fn stats(&self) -> HubStats {
        let rooms = self.inner.rooms.len();
        let registry = self.registry();
        let counters = &self.inner.counters;
        HubStats {
            clients: registry.clients.len(),
            peak: registry.peak,
            rooms,
            admitted: registry.admitted,
            refused: counters.refused.value(),
            rate_limited: counters.rate_limited.value(),
            broadcasts: counters.broadcasts.value(),
            broadcast_bytes: counters.broadcast_bytes.value(),
            delivered: counters.delivered.value(),
            dropped: counters.dropped.value(),
            replaced: counters.replaced.value(),
            closed_slow: counters.closed_slow.value(),
        }
    }

    /// Stops admitting clients, and returns those to close. The frame of the first call counts.
    pub(crate) fn stop_admitting(&self, frame: CloseFrame) -> Arc<[ClientHandle]> {
        self.registry().closing.get_or_insert(frame);
        self.clients()
    }

    /// Removes a client from the registry.
    pub(crate) fn remove(&self, entry: &Entry) {
        let mut registry = self.registry();
        let stale = registry.clients.remove(entry.id);
        registry.census.vacate(entry.source());
        let emptied = registry.clients.is_empty();
        drop(registry);
        drop(stale);
        if emptied {
            self.inner.emptied.notify_waiters();
        }
    }

    /// Returns the totals of the clients that have left.
    pub(crate) fn departed(&self) -> MutexGuard<'_, Departed> {
        // No panic can leave it half changed.
        self.inner.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // No panic can leave the registry half changed.
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("clients", &self.len()).finish_non_exhaustive()
    }
}

/// State shared by the clients of one hub that were admitted in the same runtime.
pub(crate) struct Home {
    pub(crate) hub: Hub,
    /// `None` for clients that were admitted outside of any runtime.
    pub(crate) runtime: Option<Handle>,
}

/// The [`Home`]s of a hub's clients.
#[derive(Default)]
struct Homes {
    known: Vec<Weak<Home>>,
}

impl Homes {
    /// Returns the home of clients that are admitted in the current runtime.
    fn here(&mut self, hub: &Hub) -> Arc<Home> {
        let runtime = Handle::try_current().ok();
        let mut found = None;
        self.known.retain(|home| {
            let home = home.upgrade();
            if let Some(home) = &home
                && is_same(home.runtime.as_ref(), runtime.as_ref())
            {
                found = Some(Arc::clone(home));
            }
            home.is_some()
        });
        found.unwrap_or_else(|| {
            let home = Arc::new(Home { hub: hub.clone(), runtime });
            self.known.push(Arc::downgrade(&home));
            home
        })
    }

    /// Returns the runtime of some client, if any has one.
    fn runtime(&self) -> Option<Handle> {
        self.known.iter().find_map(|home| home.upgrade()?.runtime.clone())
    }
}

/// Returns whether two tasks, or clients, are in the same runtime, or both in none.
pub(crate) fn is_same(one: Option<&Handle>, other: Option<&Handle>) -> bool {
    one.map(Handle::id) == other.map(Handle::id)
}
