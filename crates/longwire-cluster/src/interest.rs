//! The channels that a node wants: those with a client of its own, and for a while those that had one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::channel::Channel;

/// The channels that a node wants, and the subscriptions that follow from them.
pub(crate) struct Interest {
    linger: Duration,
    channels: HashMap<Channel, Wanted>,
    /// Channels without a client, in the order in which they are given up.
    ends: BTreeMap<(Instant, u64), Channel>,
    /// Makes the keys of `ends` distinct.
    count: u64,
    to_subscribe: HashSet<Channel>,
    to_unsubscribe: HashSet<Channel>,
}

#[derive(Clone, Copy)]
enum Wanted {
    ByClients,
    /// Until this time, if no client comes.
    Until((Instant, u64)),
}

impl Interest {
    pub(crate) fn new(linger: Duration) -> Self {
        Self {
            linger,
            channels: HashMap::new(),
            ends: BTreeMap::new(),
            count: 0,
            to_subscribe: HashSet::new(),
            to_unsubscribe: HashSet::new(),
        }
    }

    /// Notes that a channel has a client.
    pub(crate) fn occupy(&mut self, channel: Channel) {
        match self.channels.insert(channel.clone(), Wanted::ByClients) {
            Some(Wanted::Until(end)) => drop(self.ends.remove(&end)),
            Some(Wanted::ByClients) => {}
            None => {
                self.to_unsubscribe.remove(&channel);
                self.to_subscribe.insert(channel);
            }
        }
    }

    /// Notes that a channel has no client any more.
    pub(crate) fn vacate(&mut self, channel: &Channel, now: Instant) {
        if let Some(wanted @ Wanted::ByClients) = self.channels.get_mut(channel) {
            self.count += 1;
            // A time that the clock cannot represent never comes.
            let end = (now.checked_add(self.linger).unwrap_or(now + YEAR), self.count);
            *wanted = Wanted::Until(end);
            self.ends.insert(end, channel.clone());
        }
    }

    /// Gives up the channels whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.ends.first_entry()
            && entry.key().0 <= now
        {
            let channel = entry.remove();
            self.channels.remove(&channel);
            self.to_subscribe.remove(&channel);
            self.to_unsubscribe.insert(channel);
        }
    }

    /// Returns the time of the next [`expire`](Self::expire) that has something to do.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|((end, _), _)| *end)
    }

    /// Takes at most `most` of the channels to subscribe to.
    pub(crate) fn take_new(&mut self, most: usize) -> Vec<Channel> {
        take(&mut self.to_subscribe, most)
    }

    /// Takes at most `most` of the channels to give up.
    pub(crate) fn take_old(&mut self, most: usize) -> Vec<Channel> {
        take(&mut self.to_unsubscribe, most)
    }

    /// Puts channels back to which the node could not subscribe, as far as they are still wanted.
    pub(crate) fn retry(&mut self, channels: impl IntoIterator<Item = Channel>) {
        let wanted: Vec<_> = channels.into_iter().filter(|channel| self.wants(channel)).collect();
        self.to_subscribe.extend(wanted);
    }

    /// Puts a channel back that should have been given up, because it has a client again. The node is still subscribed.
    pub(crate) fn keep(&mut self, channel: Channel) {
        self.channels.insert(channel, Wanted::ByClients);
    }

    /// Puts channels back whose subscriptions could not be ended, unless they are wanted again.
    pub(crate) fn retry_end(&mut self, channels: impl IntoIterator<Item = Channel>) {
        let unwanted: Vec<_> = channels.into_iter().filter(|channel| !self.wants(channel)).collect();
        self.to_unsubscribe.extend(unwanted);
    }

    /// Returns the channels that wait to be subscribed to.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Channel> {
        self.to_subscribe.iter()
    }

    /// Returns the channels that are wanted by clients.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = &Channel> {
        self.channels
            .iter()
            .filter(|(_, wanted)| matches!(wanted, Wanted::ByClients))
            .map(|(channel, _)| channel)
    }

    pub(crate) fn wants(&self, channel: &Channel) -> bool {
        self.channels.contains_key(channel)
    }
}

fn take(channels: &mut HashSet<Channel>, most: usize) -> Vec<Channel> {
    let taken: Vec<_> = channels.iter().take(most).cloned().collect();
    for channel in &taken {
        channels.remove(channel);
    }
    taken
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(5);

    fn room(name: &str) -> Channel {
        Channel::Room(name.into())
    }

    #[test]
    fn a_room_that_flaps_stays_subscribed() {
        let start = Instant::now();
        let mut interest = Interest::new(LINGER);
        interest.occupy(room("a"));
        assert_eq!(interest.take_new(10), [room("a")]);
        for second in 1..20 {
            interest.vacate(&room("a"), start + Duration::from_secs(second));
            interest.expire(start + Duration::from_secs(second + 4));
            interest.occupy(room("a"));
            assert_eq!((interest.take_new(10), interest.take_old(10)), (vec![], vec![]));
        }
        interest.vacate(&room("a"), start);
        assert_eq!(interest.next_end(), Some(start + LINGER));
        assert!(interest.wants(&room("a")));
        interest.expire(start + LINGER);
        assert_eq!(interest.take_old(10), [room("a")]);
        assert_eq!((interest.next_end(), interest.channels.len()), (None, 0));
    }

    #[test]
    fn what_comes_back_before_it_was_given_up_is_neither() {
        let now = Instant::now();
        let mut interest = Interest::new(Duration::ZERO);
        interest.occupy(room("a"));
        interest.vacate(&room("a"), now);
        interest.expire(now);
        assert!(interest.take_new(10).is_empty(), "nobody has subscribed, and nobody wants it");
        interest.occupy(room("a"));
        assert!(interest.take_old(10).is_empty());
        assert_eq!(interest.take_new(10), [room("a")]);
    }

    #[test]
    fn failed_subscriptions_are_tried_again_while_they_are_wanted() {
        let now = Instant::now();
        let mut interest = Interest::new(Duration::ZERO);
        interest.occupy(room("a"));
        interest.occupy(room("b"));
        let taken = interest.take_new(10);
        interest.vacate(&room("a"), now);
        interest.expire(now);
        interest.retry(taken);
        assert_eq!(interest.take_new(10), [room("b")]);
        interest.retry_end([room("a"), room("b")]);
        assert_eq!(interest.take_old(10), [room("a")]);
    }

    #[test]
    fn subscriptions_come_in_batches() {
        let mut interest = Interest::new(LINGER);
        (0..10).for_each(|n| interest.occupy(room(&n.to_string())));
        let sizes: Vec<_> = (0..4).map(|_| interest.take_new(4).len()).collect();
        assert_eq!(sizes, [4, 4, 2, 0]);
    }

    #[test]
    fn a_linger_beyond_the_clock_is_for_ever() {
        let mut interest = Interest::new(Duration::MAX);
        interest.occupy(room("a"));
        interest.vacate(&room("a"), Instant::now());
        interest.expire(Instant::now() + Duration::from_secs(1000));
        assert!(interest.wants(&room("a")));
    }
}
