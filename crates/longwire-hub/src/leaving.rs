//! The time that a client has to leave after it was closed for being slow.
//!
//! The clients of a hub may be on several runtimes, and a broadcast may come from any of these runtimes, or from
//! none. Each runtime may be busy, and may end before the hub does.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::entry::{ClientHandle, Entry};
use crate::registry::is_same;

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
