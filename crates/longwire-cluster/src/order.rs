//! The numbers of messages, by which a receiver sees that one is missing.

use std::collections::HashMap;

use crate::channel::{Channel, NodeId};

/// The numbers that a node gives its messages.
#[derive(Default)]
pub(crate) struct Numbers {
    last: u64,
    on: HashMap<Channel, u64>,
    /// Channels that were not used since `on` was full the last time. Those in use stay.
    older: HashMap<Channel, u64>,
}

impl Numbers {
    /// Returns the number of the next message on a channel, and that of the previous one; 0 if that is not known.
    pub(crate) fn next(&mut self, channel: &Channel) -> (u64, u64) {
        self.last += 1;
        if let Some(previous) = self.on.get_mut(channel) {
            return (self.last, std::mem::replace(previous, self.last));
        }
        if self.on.len() >= MOST {
            self.older = std::mem::take(&mut self.on);
        }
        let previous = self.older.remove(channel).unwrap_or_default();
        self.on.insert(channel.clone(), self.last);
        (self.last, previous)
    }

    /// Returns the number of the last message.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

/// The channels whose last number a node remembers: at least this many, and at most twice as many.
const MOST: usize = 64 * 1024;

/// The numbers of the messages that have arrived, for each channel and sender.
#[derive(Default)]
pub(crate) struct Seen {
    on: HashMap<Channel, HashMap<NodeId, u64>>,
}

impl Seen {
    /// Notes a message. Returns whether one before it may be missing.
    pub(crate) fn note(&mut self, channel: &Channel, from: NodeId, seq: u64, previous: u64) -> bool {
        let by_node = match self.on.get_mut(channel) {
            Some(by_node) => by_node,
            None => self.on.entry(channel.clone()).or_default(),
        };
        let before = by_node.insert(from, seq);
        // A sender that has forgotten the channel has sent much else since: nobody knows.
        before.is_some_and(|before| before < previous || previous == 0)
    }

    /// Notes that a sender has told of losses up to this number.
    pub(crate) fn note_lost(&mut self, channel: &Channel, from: NodeId, seq: u64) {
        if let Some(by_node) = self.on.get_mut(channel) {
            by_node.entry(from).and_modify(|last| *last = seq.max(*last));
        }
    }

    /// Returns whether a message comes too late: a later one of its sender has arrived. A broker's client that has
    /// connected anew may have left messages on the connection before.
    pub(crate) fn is_late(&self, channel: &Channel, from: NodeId, seq: u64) -> bool {
        let last = self.on.get(channel).and_then(|by_node| by_node.get(&from));
        last.is_some_and(|last| seq <= *last)
    }

    /// Forgets channels, to which the node has no subscription any more.
    pub(crate) fn forget(&mut self, channels: &[Channel]) {
        for channel in channels {
            self.on.remove(channel);
        }
    }

    /// Forgets a sender that has left.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        for by_node in self.on.values_mut() {
            by_node.remove(&node);
        }
    }

    /// Forgets everything, because anything may be missing and that was told.
    pub(crate) fn clear(&mut self) {
        self.on.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_message_is_seen_with_the_next_one() {
        let (a, b) = (Channel::Room("a".into()), Channel::Room("b".into()));
        let (mut numbers, mut seen) = (Numbers::default(), Seen::default());
        let mut publish = |channel| numbers.next(channel);
        let mut arrive = |channel, (seq, previous)| seen.note(channel, NodeId(1), seq, previous);
        let missed = publish(&a);
        assert_eq!(missed.1, 0);
        assert!(!arrive(&a, publish(&a)), "the first one that arrives has nothing before it");
        assert!(!arrive(&b, publish(&b)));
        assert!(!arrive(&a, publish(&a)), "numbers of other channels lie between");
        publish(&a);
        assert!(!arrive(&b, publish(&b)));
        assert!(arrive(&a, publish(&a)));
        assert!(!arrive(&a, publish(&a)), "it is told once");
    }

    #[test]
    fn a_message_after_a_later_one_is_late() {
        let (a, b) = (Channel::Room("a".into()), Channel::Room("b".into()));
        let mut seen = Seen::default();
        assert!(!seen.is_late(&a, NodeId(1), 5));
        seen.note(&a, NodeId(1), 5, 0);
        assert!(seen.is_late(&a, NodeId(1), 4) && seen.is_late(&a, NodeId(1), 5));
        assert!(!seen.is_late(&a, NodeId(1), 6));
        assert!(!seen.is_late(&a, NodeId(2), 4) && !seen.is_late(&b, NodeId(1), 4));
    }

    #[test]
    fn channels_in_use_are_remembered() {
        let mut numbers = Numbers::default();
        let mut seen = Seen::default();
        let [used, idle] = ["used", "idle"].map(|name| Channel::Room(name.into()));
        let mut check = |numbers: &mut Numbers, channel: &Channel| {
            let (seq, previous) = numbers.next(channel);
            seen.note(channel, NodeId(1), seq, previous)
        };
        assert!(!check(&mut numbers, &used) && !check(&mut numbers, &idle));
        for n in 0..4 * MOST {
            numbers.next(&Channel::Room(n.to_string().into()));
            if n % 1000 == 0 {
                assert!(!check(&mut numbers, &used));
            }
            assert!(numbers.on.len() + numbers.older.len() <= 2 * MOST);
        }
        assert!(check(&mut numbers, &idle), "nobody knows");
        assert!(!check(&mut numbers, &idle));
    }

    #[test]
    fn losses_that_were_told_are_not_seen_again() {
        let (mut numbers, mut seen) = (Numbers::default(), Seen::default());
        let room = Channel::Room("a".into());
        let (seq, previous) = numbers.next(&room);
        assert!(!seen.note(&room, NodeId(1), seq, previous));
        numbers.next(&room);
        seen.note_lost(&room, NodeId(1), numbers.last());
        let (seq, previous) = numbers.next(&room);
        assert!(!seen.note(&room, NodeId(1), seq, previous));
    }
}
