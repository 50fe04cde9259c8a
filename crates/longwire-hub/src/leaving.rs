//! The time that a client has to leave after it was closed for being slow.
//!
//! The clients of a hub may be on several runtimes, and a broadcast may come from any of these runtimes, or from
//! none. Each runtime may be busy, and may end before the hub does.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::entry::Entry;
use crate::{ClientHandle, Hub};

/// State shared by the clients of one hub that were admitted in the same runtime.
pub(crate) struct Home {
    pub(crate) hub: Hub,
    /// `None` for clients that were admitted outside of any runtime.
    runtime: Option<Handle>,
}

/// The [`Home`]s of a hub's clients.
#[derive(Default)]
pub(crate) struct Homes {
    known: Vec<Weak<Home>>,
}

impl Homes {
    /// Returns the home of clients that are admitted in the current runtime.
    pub(crate) fn here(&mut self, hub: &Hub) -> Arc<Home> {
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
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.known.iter().find_map(|home| home.upgrade()?.runtime.clone())
    }
}

fn is_same(one: Option<&Handle>, other: Option<&Handle>) -> bool {
    one.map(Handle::id) == other.map(Handle::id)
}

/// Drops a client's connection after `limit`.
///
/// Both the client's runtime and the caller's keep the time, because either may be busy. If all runtimes that
/// keep it end earlier, the connection is dropped at that point.
pub(crate) fn drop_after(client: &ClientHandle, limit: Duration) {
    let own = client.entry.home.runtime.clone();
    let here = Handle::try_current().ok().filter(|here| !is_same(Some(here), own.as_ref()));
    let runtimes = match (own, here) {
        (None, None) => [client.entry.hub().any_runtime(), None],
        both => both.into(),
    };
    let leaving = Arc::new(Leaving(Arc::downgrade(&client.entry)));
    for runtime in runtimes.into_iter().flatten() {
        let leaving = Arc::clone(&leaving);
        runtime.spawn(async move {
            tokio::time::sleep(limit).await;
            leaving.end();
        });
    }
}

/// A client that must leave. Its connection is dropped with this value.
struct Leaving(Weak<Entry>);

impl Leaving {
    fn end(&self) {
        if let Some(entry) = self.0.upgrade() {
            entry.sender.abort();
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.end();
    }
}
