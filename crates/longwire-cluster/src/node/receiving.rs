//! The task that delivers what arrives.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use longwire_hub::{Published, Target};
use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Guard, Node, call};
use crate::backplane::Item;
use crate::channel::{Channel, NodeId};
use crate::envelope::{Body, Envelope, Post};

impl Node {
    /// Receives what arrives, until it is aborted.
    pub(crate) async fn receive_all(self: Arc<Self>) {
        let _guard = Guard::new(&self);
        let mut work = 0;
        loop {
            let done = match self.inbox.take().await {
                Item::Message { channel, payload, number } => self.receive(&channel, payload, number).await,
                Item::Record { room, record } => self.receive_record(&room, record),
                Item::Behind(room) => {
                    if let Some(rooms) = &self.rooms {
                        rooms.fall_behind(&room);
                    }
                    1
                }
                Item::Dropped(Some(channel)) => self.miss(&channel).await,
                Item::Dropped(None) => {
                    self.miss_anything().await;
                    1
                }
                Item::Lost(error) => {
                    self.is_disconnected.store(true, Ordering::Relaxed);
                    self.lose(error);
                    // Release: whoever sees it sees that what was handed over before is lost.
                    self.losses.fetch_add(1, Ordering::Release);
                    1
                }
                Item::Restored => {
                    self.is_disconnected.store(false, Ordering::Relaxed);
                    if self.is_connected() {
                        // It was back before anybody noticed that it was away.
                        self.miss_anything().await;
                    }
                    self.is_back_soon.store(true, Ordering::Relaxed);
                    self.check.notify_one();
                    1
                }
            };
            work += done.max(LEAST);
            if work >= WORK {
                // Other tasks of this thread have their turn.
                work = 0;
                yield_now().await;
            }
        }
    }

    /// Returns the work that it was, in messages to clients.
    async fn receive(&self, channel: &Channel, payload: Bytes, number: u64) -> usize {
        let len = payload.len() as u64;
        let Envelope { from, body } = match Envelope::decode(payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.link.counters.malformed.add(1);
                debug!(%error, ?channel, "something that is no envelope has arrived");
                return 1;
            }
        };
        let is_old = || self.inner().since.get(channel).is_some_and(|since| number <= since.after);
        if from == self.id || is_old() {
            return 1;
        }
        if matches!(body, Body::Message(_) | Body::Bundle(_)) {
            self.link.counters.received_bytes.add(len);
        }
        let Body::Bundle(bodies) = body else { return self.receive_body(channel, from, body).await };
        let mut work = 0;
        for body in bodies {
            work += self.receive_body(channel, from, body).await.max(LEAST);
            if work >= WORK {
                work = 0;
                yield_now().await;
                if is_old() {
                    // The channel was given up and subscribed to again meanwhile.
                    return 1;
                }
            }
        }
        1 + work
    }

    /// Returns the work that it was, in messages to clients.
    async fn receive_body(&self, channel: &Channel, from: NodeId, body: Body) -> usize {
        match body {
            Body::Message(post) => {
                self.link.counters.received.add(1);
                1 + self.deliver(channel, from, &post)
            }
            Body::Lost { .. } if *channel == Channel::All => {
                self.report_all_gaps().await;
                WORK
            }
            Body::Lost { seq } => {
                self.miss_from(channel, from, seq);
                1
            }
            body => {
                let has_lost_rooms = self.change(|inner| {
                    inner.presence.receive(from, channel, body, Instant::now());
                    inner.presence.take_lost_rooms()
                });
                if has_lost_rooms {
                    self.report_room_gaps().await;
                    return WORK;
                }
                1
            }
        }
    }

    /// Returns the number of clients.
    fn deliver(&self, channel: &Channel, from: NodeId, post: &Post) -> usize {
        let target = match channel {
            Channel::All => Target::All,
            Channel::Room(room) => Target::Room(room),
            Channel::Key(key) => Target::Key(key),
            Channel::Control | Channel::Node(_) => return 0,
        };
        let mut inner = self.inner();
        inner.presence.heard(from);
        if !inner.interest.wants(channel) {
            return 0;
        }
        if inner.seen.is_late(channel, from, post.seq) {
            // It counts as missing.
            return 0;
        }
        let has_gap = inner.seen.note(channel, from, post.seq, post.previous);
        drop(inner);
        if has_gap {
            self.report_gap(channel);
        }
        let published = Published::new(target, &post.message);
        let published = match &post.latest {
            Some(key) => published.latest(key),
            None => published,
        };
        self.deliver_here(channel, published)
    }

    /// Delivers a message to the clients of this node, and returns their number. If a client's transport panics, those
    /// after it do not get the message, which is a gap.
    pub(crate) fn deliver_here(&self, channel: &Channel, published: Published<'_>) -> usize {
        let delivered = call(|| self.hub.deliver_incoming(published).accepted);
        delivered.unwrap_or_else(|| {
            warn!(?channel, "the transport of a client has panicked: others miss a message");
            self.report_gap_to(channel, &[]);
            0
        })
    }

    /// Notes that another node has lost messages, which it told.
    fn miss_from(&self, channel: &Channel, from: NodeId, seq: u64) {
        let mut inner = self.inner();
        if inner.interest.wants(channel) {
            inner.seen.note_lost(channel, from, seq);
            drop(inner);
            self.report_gap(channel);
        }
    }

    /// Notes that messages of a channel did not arrive. Returns the work that it was.
    async fn miss(&self, channel: &Channel) -> usize {
        let now = Instant::now();
        let is_wanted = self.change(|inner| {
            inner.seen.forget(std::slice::from_ref(channel));
            match channel {
                Channel::Room(room) => inner.presence.missed(room),
                Channel::Control | Channel::Node(_) => inner.presence.missed_anything(now),
                Channel::All | Channel::Key(_) => {}
            }
            inner.interest.wants(channel)
        });
        if is_wanted && *channel == Channel::All {
            // Word of losses on any channel may have been among them.
            self.report_all_gaps().await;
            return WORK;
        }
        match (&self.rooms, channel.room()) {
            // Only news of nodes are sent by themselves.
            (Some(rooms), Some(room)) => rooms.fall_behind(room),
            _ if is_wanted => self.report_gap(channel),
            _ => {}
        }
        1
    }
}

/// The messages to clients after which other tasks have their turn.
const WORK: usize = 4096;

/// The work that something counts as at least: clients take what they have got between two turns, so that a burst in a
/// small room does not fill their queues.
const LEAST: usize = 16;
