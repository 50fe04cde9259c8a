//! The task that keeps the subscriptions of a node: it follows the moves of clients, subscribes, and gives up.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use longwire_connection::race;
use longwire_hub::ClientId;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{CALL, Guard, Node, RETRY, Since, TURN, call, give_way, within_limit};
use crate::channel::Channel;
use crate::envelope;
use crate::link::Move;

impl Node {
    /// Subscribes to the channels that this node's clients want, until it is aborted.
    pub(crate) async fn keep_subscriptions(self: Arc<Self>) {
        let _guard = Guard::new(&self);
        self.look_at_all().await;
        let mut wait = RETRY;
        loop {
            self.follow_moves().await;
            self.inner().interest.expire(Instant::now());
            let mut is_done = self.give_up_old().await;
            // While the broker is away, its return is waited for.
            is_done &= !self.is_connected() || self.subscribe_new().await;
            wait = if is_done { RETRY } else { (2 * wait).min(CALL) };
            let deadline = self.inner().interest.next_end();
            let retry = (!is_done).then(|| Instant::now() + wait);
            let wake = [deadline, retry].into_iter().flatten().min();
            // Either is followed by a look at everything.
            let changed = race(self.link.moved.notified(), self.retry.notified());
            match wake {
                Some(wake) => drop(timeout_at(wake, changed).await),
                None => changed.await,
            }
        }
    }

    /// Follows the moves of clients since the last time.
    async fn follow_moves(&self) {
        let Some(moves) = self.link.take_moves() else { return self.look_at_all().await };
        for (count, moved) in (1_u64..).zip(moves) {
            match moved {
                Move::Entered(room, client) => self.enter(&room, client),
                Move::Left(room, client) => self.leave_room(&room, client.value()),
                Move::Taken(key) => self.inner().interest.occupy(Channel::Key(key)),
                Move::GivenUp(key) => self.inner().interest.vacate(&Channel::Key(key), Instant::now()),
            }
            if count.is_multiple_of(TURN) {
                yield_now().await;
            }
        }
    }

    fn enter(&self, room: &Arc<str>, client: ClientId) {
        let data = self.data_of(client);
        self.change(|inner| {
            inner.interest.occupy(Channel::Room(Arc::clone(room)));
            inner.presence.entered(room, envelope::Member { id: client.value(), data });
        });
    }

    fn leave_room(&self, room: &Arc<str>, client: u64) {
        self.change(|inner| {
            inner.presence.left(room, client);
            if inner.presence.own(room).next().is_none() && !inner.held.contains_key(room) {
                inner.interest.vacate(&Channel::Room(Arc::clone(room)), Instant::now());
            }
        });
    }

    /// Returns what other nodes are told of a client.
    fn data_of(&self, client: ClientId) -> Bytes {
        let Some(make) = &self.options.member_data else { return Bytes::new() };
        // It may have left meanwhile.
        let Some(client) = self.hub.get(client) else { return Bytes::new() };
        let mut data = call(|| make(&client)).unwrap_or_default();
        data.truncate(MAX_DATA);
        data
    }

    /// Compares what this node knows of its clients with the hub. Moves from now on come after it.
    async fn look_at_all(&self) {
        let mut count = 0_u64;
        let rooms_before = self.inner().presence.own_rooms();
        for room in rooms_before {
            let known: Vec<_> = self.inner().presence.own(&room).collect();
            let state = self.hub.room(&room);
            for client in known.into_iter().filter(|client| !state.contains((*client).into())) {
                self.leave_room(&room, client);
                give_way(&mut count).await;
            }
        }
        for room in self.hub.rooms() {
            for client in self.hub.room(&room).members().iter() {
                self.enter(&room, client.id());
                give_way(&mut count).await;
            }
        }
        let keys: HashSet<_> = self.hub.keys().into_iter().map(Channel::Key).collect();
        let mut inner = self.inner();
        let is_stale = |channel: &&Channel| matches!(channel, Channel::Key(_)) && !keys.contains(*channel);
        let stale: Vec<_> = inner.interest.occupied().filter(is_stale).cloned().collect();
        for channel in stale {
            inner.interest.vacate(&channel, Instant::now());
        }
        for key in keys {
            inner.interest.occupy(key);
        }
    }

    /// Returns whether the hub has a client for a channel.
    pub(crate) fn is_occupied(&self, channel: &Channel) -> bool {
        match channel {
            Channel::Room(room) => !self.hub.room(room).is_empty() || self.inner().held.contains_key(room),
            Channel::Key(key) => !self.hub.clients_of(key).is_empty(),
            Channel::All | Channel::Control | Channel::Node(_) => true,
        }
    }

    /// Ends subscriptions that are not wanted any more. Returns whether all of them have ended.
    async fn give_up_old(&self) -> bool {
        loop {
            let channels = self.inner().interest.take_old(SUBSCRIBE);
            if channels.is_empty() {
                return true;
            }
            // A client may have come a moment ago.
            let (kept, given_up): (Vec<_>, Vec<_>) =
                channels.into_iter().partition(|channel| self.is_occupied(channel));
            let missed: Vec<_> = self.change(|inner| {
                // What has arrived since it was given up was not delivered.
                let missed =
                    kept.iter().filter(|channel| inner.since.contains_key(*channel)).cloned().collect();
                for channel in kept {
                    // Of one that was never subscribed to, nothing is known.
                    let is_subscribed = inner.since.contains_key(&channel);
                    if is_subscribed { inner.interest.keep(channel) } else { inner.interest.occupy(channel) }
                }
                inner.seen.forget(&given_up);
                for channel in &given_up {
                    inner.since.remove(channel);
                    inner.late.remove(channel);
                    if let Some(room) = channel.room() {
                        inner.presence.unsubscribed(room);
                    }
                }
                missed
            });
            for channel in missed {
                // With a history, what has arrived was delivered.
                if self.rooms.is_none() || channel.room().is_none() {
                    self.report_gap(&channel);
                }
            }
            if let Some(rooms) = &self.rooms {
                given_up.iter().filter_map(Channel::room).for_each(|room| rooms.end(room));
            }
            if given_up.is_empty() {
                continue;
            }
            let ended = within_limit(self.backplane.unsubscribe(&given_up)).await;
            // What was published between this and the next subscription has not arrived.
            let again: Vec<_> =
                given_up.iter().filter(|channel| self.is_occupied(channel)).cloned().collect();
            self.inner().late.extend(again);
            if let Err(error) = ended {
                debug!(%error, "subscriptions could not be ended");
                self.inner().interest.retry_end(given_up);
                return false;
            }
        }
    }

    /// Returns whether everything that is wanted is subscribed to.
    async fn subscribe_new(&self) -> bool {
        let mut most = SUBSCRIBE;
        let mut refused = Vec::new();
        loop {
            let channels = self.inner().interest.take_new(most);
            if channels.is_empty() {
                break;
            }
            let after = self.inbox.last();
            if let Err(error) = within_limit(self.backplane.subscribe(&channels)).await {
                debug!(%error, count = channels.len(), "subscribing failed");
                self.inner().late.extend(channels.iter().cloned());
                // It may be one of them, or the broker.
                self.check.notify_one();
                if channels.len() == 1 {
                    refused.extend(channels);
                } else {
                    most = channels.len().div_ceil(2);
                    self.inner().interest.retry(channels);
                }
                if refused.len() >= REFUSED || !self.is_connected() {
                    break;
                }
                continue;
            }
            most = (2 * most).min(SUBSCRIBE);
            let since = Since { at: Instant::now(), after };
            if let Some(rooms) = &self.rooms {
                channels.iter().filter_map(Channel::room).for_each(|room| rooms.begin(room));
            }
            let late = self.change(|inner| {
                let late: Vec<_> =
                    channels.iter().filter(|channel| inner.late.remove(*channel)).cloned().collect();
                for channel in channels {
                    if let Some(room) = channel.room() {
                        inner.presence.subscribed(room);
                    }
                    inner.since.insert(channel, since);
                }
                late
            });
            for channel in late {
                let has_missed = match (&self.rooms, channel.room()) {
                    // Who joins by position begins now.
                    (Some(_), Some(room)) => !self.hub.room(room).is_empty(),
                    _ => true,
                };
                if has_missed {
                    self.report_gap(&channel);
                }
            }
            self.subscribed.notify_waiters();
        }
        let is_done = refused.is_empty() && self.inner().interest.waiting().next().is_none();
        self.inner().interest.retry(refused);
        is_done
    }
}

/// The subscriptions that are asked for at once.
const SUBSCRIBE: usize = 1024;

/// The channels that the broker may refuse before the others wait for the next attempt.
const REFUSED: usize = 16;

/// The bytes of a member's data that are used.
const MAX_DATA: usize = 4096;
