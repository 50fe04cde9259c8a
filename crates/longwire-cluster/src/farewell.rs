//! The end of a node that leaves: its clients stay, and are to have what was published before. [`crate::cluster`]
//! decides when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::appends::Appends;
use crate::catch_up::Rooms;
use crate::channel::Channel;
use crate::node::Node;

impl Node {
    /// Fetches what the clients of a leaving node have not got of what was published before.
    pub(crate) async fn fetch_last(&self) {
        let Some(rooms) = &self.rooms else { return };
        let names = self.occupied_rooms();
        for name in &names {
            rooms.fall_behind(name);
        }
        for name in &names {
            let channel = Channel::Room(Arc::clone(name));
            loop {
                let changed = self.wait_subscribed();
                if self.hears(&channel) || !self.is_occupied(&channel) {
                    break;
                }
                // The last client may leave without a notification.
                let _ = timeout(LOOK, changed).await;
            }
        }
    }

    /// Counts what a leaving node could not hand over, and reports a gap in rooms with a history whose clients may miss
    /// something of what was published before; with `has_fetched`, in those of which something was not fetched.
    pub(crate) fn give_up(&self, has_fetched: bool) {
        let appends = self.link.appends.as_ref();
        self.link.counters.lost.add(self.link.outbox.take_left() + appends.map_or(0, Appends::left));
        let has_left = appends.is_some_and(Appends::has_left);
        for room in self.occupied_rooms() {
            let channel = Channel::Room(room);
            if has_left || !has_fetched || !self.hears(&channel) {
                self.report_gap(&channel);
            }
        }
    }

    /// Returns the rooms with a history that have clients here.
    fn occupied_rooms(&self) -> Vec<Arc<str>> {
        let names = self.rooms.as_ref().map(Rooms::names).unwrap_or_default();
        names.into_iter().filter(|room| !self.hub.room(room).is_empty()).collect()
    }
}

/// The time after which the clients of a room are looked for again.
const LOOK: Duration = Duration::from_millis(20);
