//! The task that watches over the broker and the other nodes, and what happens when the broker goes and comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longwire_connection::race;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::{CALL, Guard, Node, RETRY, TURN, jittered};
use crate::backplane::BackplaneError;
use crate::channel::Channel;
use crate::cluster::{ClusterEvent, ClusterState};

impl Node {
    /// Watches over the broker and the other nodes, until it is aborted.
    pub(crate) async fn keep_alive(self: Arc<Self>) {
        let _guard = Guard::new(&self);
        let interval = (self.options.lease() / 3).min(PROBE);
        let (mut next_probe, mut wait) = (Instant::now() + interval, RETRY);
        let (mut next_resend, mut resend_wait) = (Instant::now(), RESEND);
        loop {
            let next_tick = self.change(|inner| {
                let now = Instant::now();
                if next_resend <= now && self.link.outbox.has_lost_news() {
                    inner.presence.missed_anything(now);
                    // If the answers are what does not fit, asking more often would not help.
                    next_resend = now + resend_wait;
                    resend_wait = (2 * resend_wait).min(RESEND_AT_LAST);
                } else if next_resend + RESEND_AT_LAST <= now {
                    resend_wait = RESEND;
                }
                inner.presence.tick(Instant::now());
                inner.presence.next_tick()
            });
            let mut wake = next_tick.min(next_probe);
            if self.link.outbox.must_repeat_news() {
                wake = wake.min(next_resend);
            }
            // While the broker is away, it is checked less and less often.
            let asked = async {
                self.check.notified().await;
                true
            };
            let woken = async {
                race(self.sooner.notified(), sleep_until(wake)).await;
                false
            };
            let is_asked = race(asked, woken).await;
            let may_hurry = self.is_back_soon.load(Ordering::Relaxed) || self.is_connected();
            if Instant::now() < next_probe && !(is_asked && may_hurry) {
                continue;
            }
            self.is_back_soon.store(false, Ordering::Relaxed);
            let begun = Instant::now();
            self.link.outbox.ask();
            let answered = match timeout(interval.min(CALL), self.backplane.probe()).await {
                Ok(answered) => answered,
                Err(_) => Err(BackplaneError::new("it does not answer")),
            };
            match answered {
                Ok(()) => {
                    // What was handed over before a loss that was not noted yet may be lost, although the broker
                    // answers. Nor does the answer mean that the broker is back.
                    if self.inbox.losses() == self.losses.load(Ordering::Acquire) {
                        self.link.outbox.confirm();
                        self.restore().await;
                    }
                    wait = RETRY;
                    next_probe = begun + interval;
                }
                Err(error) => {
                    self.lose(error);
                    next_probe = Instant::now() + jittered(wait);
                    wait = (wait * 2).min(interval.clamp(RETRY, CALL));
                }
            }
        }
    }

    /// Notes that the broker is away.
    pub(super) fn lose(&self, error: BackplaneError) {
        let _turning = self.turning();
        let is_news = self.state.send_if_modified(|state| {
            let was_connected = matches!(state, ClusterState::Connected);
            if was_connected {
                *state = ClusterState::Lost { since: Instant::now(), error: error.clone() };
            }
            was_connected
        });
        if is_news {
            warn!(%error, "the broker is away");
            let counters = &self.link.counters;
            counters.outages.add(1);
            counters.lost.add(self.link.outbox.set_away(true));
            self.change(|inner| inner.presence.lost(Instant::now()));
            if let Some(rooms) = &self.rooms {
                // What arrives before they are fetched may not be the next message.
                rooms.doubt_all();
            }
            self.tell(ClusterEvent::Lost(error));
        }
    }

    /// Notes that the broker is there.
    async fn restore(&self) {
        if !self.is_back() {
            return;
        }
        self.miss_all().await;
        {
            let _turning = self.turning();
            // Unless it is away again, which was told.
            if self.is_connected() {
                self.tell(ClusterEvent::Restored);
            }
        }
        self.retry.notify_one();
        self.subscribed.notify_waiters();
    }

    /// Ends the outage, if there is one.
    fn is_back(&self) -> bool {
        let _turning = self.turning();
        if self.is_disconnected.load(Ordering::Relaxed) {
            return false;
        }
        let mut away = None;
        self.state.send_if_modified(|state| {
            if let ClusterState::Lost { since, .. } = state {
                away = Some(since.elapsed());
                *state = ClusterState::Connected;
            }
            away.is_some()
        });
        let Some(away) = away else { return false };
        info!(?away, "the broker is there again");
        self.link.outbox.set_away(false);
        self.change(|inner| {
            inner.presence.restored(Instant::now());
            inner.unsettle();
            // Gaps in these rooms are reported after the node has subscribed to them.
            inner.late.extend(inner.interest.waiting().cloned());
        });
        true
    }

    /// Notes that anything may have been lost on its way here, and asks anew who is where.
    pub(super) async fn miss_anything(&self) {
        self.change(|inner| {
            inner.presence.missed_anything(Instant::now());
            inner.unsettle();
        });
        self.miss_all().await;
    }

    /// Fetches what may be missing in rooms with a history, and reports a gap in everything else.
    async fn miss_all(&self) {
        let Some(rooms) = &self.rooms else { return self.report_all_gaps().await };
        let channels: Vec<_> = {
            let mut inner = self.inner();
            inner.seen.clear();
            inner.since.keys().cloned().collect()
        };
        self.report_gap(&Channel::All);
        for (count, channel) in (1_u64..).zip(&channels) {
            match channel {
                Channel::Room(room) => rooms.fall_behind(room),
                channel => self.report_gap(channel),
            }
            if count.is_multiple_of(TURN) {
                yield_now().await;
            }
        }
    }
}

/// The longest time between two probes. If the broker goes away, the node reports what it has handed over since the last
/// one as lost.
const PROBE: Duration = Duration::from_secs(5);

/// The wait before the others are told again to ask anew, and the longest.
const RESEND: Duration = Duration::from_secs(2);
const RESEND_AT_LAST: Duration = Duration::from_secs(300);
