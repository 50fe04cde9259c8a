//! The time that a client has to leave, once it was closed for being slow.
//!
//! The clients of a hub may be on several runtimes, and a broadcast may come from any of them, or from none. Each may be
//! busy, and may end while the hub goes on.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::entry::Entry;
use crate::{Client, Hub};

/// What the clients of one hub that were admitted in one runtime share.
pub(crate) struct Home {
    pub(crate) hub: Hub,
    /// `None` outside of any.
    runtime: Option<Handle>,
}

/// The homes of a hub's clients.
#[derive(Default)]
pub(crate) struct Homes {
    known: Vec<Weak<Home>>,
}

impl Homes {
    /// The home of clients that are admitted here.
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

    /// The runtime of some client.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.known.iter().find_map(|home| home.upgrade()?.runtime.clone())
    }
}

fn is_same(one: Option<&Handle>, other: Option<&Handle>) -> bool {
    one.map(Handle::id) == other.map(Handle::id)
}

/// Drops a client's connection after this time.
///
/// The time is kept by the client's runtime and by the caller's, as either may be busy. If all that keep it end before, the
/// connection is dropped then.
pub(crate) fn drop_after(client: &Client, limit: Duration) {
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

/// A client that has to leave.
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
