//! The latest values that wait for a client: one for each key.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use longwire_connection::PreparedMessage;

/// The values that wait for one client.
#[derive(Default)]
pub(crate) struct Latest {
    /// In the order in which their keys began to wait.
    waiting: VecDeque<Value>,
    /// The number of each key's value, counted over all values that have begun to wait.
    numbers: HashMap<Arc<str>, usize>,
    /// The values that have left `waiting`, which is the number of its first.
    gone: usize,
    /// The bytes of these values.
    bytes: usize,
    /// Set while a task moves values to the send queue.
    pub(crate) is_moving: bool,
}

struct Value {
    key: Arc<str>,
    prepared: PreparedMessage,
}

impl Value {
    /// Returns the value's share of the bytes that may wait.
    fn cost(&self) -> usize {
        self.key.len() + self.prepared.server_frame().len() + size_of::<Self>()
    }
}

/// The result of adding a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Replaced,
    /// As many bytes wait as may wait.
    Full,
}

impl Latest {
    pub(crate) fn add(&mut self, key: &Arc<str>, prepared: &PreparedMessage, limit: usize) -> Added {
        let value = Value { key: Arc::clone(key), prepared: prepared.clone() };
        let cost = value.cost();
        if let Some(number) = self.numbers.get(key) {
            let known = &mut self.waiting[number - self.gone];
            let bytes = (self.bytes - known.cost()).saturating_add(cost);
            if bytes > limit && self.numbers.len() > 1 {
                return Added::Full;
            }
            self.bytes = bytes;
            *known = value;
            return Added::Replaced;
        }
        if self.bytes.saturating_add(cost) > limit && !self.waiting.is_empty() {
            return Added::Full;
        }
        self.bytes += cost;
        self.numbers.insert(Arc::clone(key), self.gone + self.waiting.len());
        self.waiting.push_back(value);
        Added::New
    }

    pub(crate) fn first(&self) -> Option<PreparedMessage> {
        self.waiting.front().map(|value| value.prepared.clone())
    }

    pub(crate) fn remove_first(&mut self) {
        if let Some(value) = self.waiting.pop_front() {
            self.bytes -= value.cost();
            self.numbers.remove(&value.key);
            self.gone += 1;
        }
    }

    /// Removes the first value, which was sent; if a newer one has replaced it, that waits behind all others. Returns
    /// whether values wait; otherwise nothing is left to move.
    pub(crate) fn sent(&mut self, prepared: &PreparedMessage) -> bool {
        // Both are alive, so their frames are at one address only if they are the same.
        let of = |prepared: &PreparedMessage| prepared.server_frame().as_ptr();
        let newer = self.waiting.front().filter(|value| of(&value.prepared) != of(prepared));
        let newer = newer.map(|value| (Arc::clone(&value.key), value.prepared.clone()));
        self.remove_first();
        if let Some((key, newer)) = newer {
            self.add(&key, &newer, usize::MAX);
        }
        if self.waiting.is_empty() {
            *self = Self::default();
        }
        self.is_moving
    }

    /// Drops all values; returns their number.
    pub(crate) fn give_up(&mut self) -> usize {
        std::mem::take(self).waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_wait_in_the_order_of_their_keys_and_are_replaced_in_place() {
        let mut latest = Latest::default();
        let keys: Vec<Arc<str>> = ["a", "b", "c"].into_iter().map(Arc::from).collect();
        let value = |text: &str| PreparedMessage::new(text);
        for key in &keys {
            assert_eq!(latest.add(key, &value("old"), usize::MAX), Added::New);
        }
        let (old, new) = (latest.first().unwrap(), value("new"));
        assert_eq!(latest.add(&keys[0], &new, usize::MAX), Added::Replaced);
        latest.is_moving = true;
        assert!(latest.sent(&old), "the value that was sent has been replaced, and the new one waits");
        assert_eq!(latest.waiting.back().unwrap().prepared.message(), "new".into(), "behind the others");
        assert_eq!(latest.numbers.len(), 3);
        let (b, c) = (latest.waiting[0].prepared.clone(), latest.waiting[1].prepared.clone());
        assert!(latest.sent(&b) && latest.sent(&c));
        assert_eq!(latest.first().unwrap().message(), "new".into());
        assert_eq!(latest.add(&keys[1], &value("old"), usize::MAX), Added::New);
        assert_eq!(latest.add(&keys[2], &value("old"), usize::MAX), Added::New);
        assert!(latest.sent(&new));
        assert_eq!(latest.add(&keys[2], &value("newer"), usize::MAX), Added::Replaced);
        assert_eq!(latest.add(&keys[0], &value("again"), usize::MAX), Added::New);
        let mut texts = Vec::new();
        while let Some(first) = latest.first() {
            texts.push(first.message().to_string());
            latest.sent(&first);
        }
        assert_eq!(texts, ["old", "newer", "again"], "each key has its turn");
        assert!(!latest.is_moving && latest.bytes == 0 && latest.numbers.is_empty());
    }

    #[test]
    fn the_bytes_that_wait_are_limited() {
        let mut latest = Latest::default();
        let value = PreparedMessage::new(vec![0; 1000]);
        let key = |n: usize| Arc::from(n.to_string());
        assert_eq!(latest.add(&key(0), &value, 10), Added::New, "one value may always wait");
        assert_eq!(latest.add(&key(1), &value, 2000), Added::Full);
        assert_eq!(latest.add(&key(1), &value, 3000), Added::New);
        let long = PreparedMessage::new(vec![0; 2000]);
        assert_eq!(latest.add(&key(1), &long, 3000), Added::Full, "a longer value of a key that waits");
        assert_eq!(latest.add(&key(1), &value, 3000), Added::Replaced);
        assert_eq!(latest.give_up(), 2);
        assert_eq!(latest.bytes, 0);
        // Keys cost memory, too.
        let tiny = PreparedMessage::new("");
        let added = (0..1000).filter(|&n| latest.add(&key(n), &tiny, 10_000) == Added::New).count();
        assert!(added < 300, "{added}");
    }

    #[test]
    fn the_limit_is_on_the_sum_of_keys_frames_and_what_they_are_kept_in() {
        let (a, b): (Arc<str>, Arc<str>) = ("aa".into(), "bb".into());
        let (value, longer) = (PreparedMessage::new("x"), PreparedMessage::new("x1234567"));
        let cost = 2 + 3 + size_of::<Value>();
        let mut latest = Latest::default();
        assert_eq!(latest.add(&a, &longer, 0), Added::New);
        assert_eq!(latest.add(&a, &value, 0), Added::Replaced, "it is the only one");
        assert_eq!(latest.bytes, cost);
        assert_eq!(latest.add(&b, &value, 2 * cost - 1), Added::Full);
        assert_eq!(latest.add(&b, &value, 2 * cost), Added::New);
        assert_eq!(latest.add(&b, &longer, 2 * cost + 6), Added::Full);
        assert_eq!(latest.add(&b, &longer, 2 * cost + 7), Added::Replaced);
        assert_eq!(latest.bytes, 2 * cost + 7);
        latest.remove_first();
        assert_eq!(latest.bytes, cost + 7);
    }
}
