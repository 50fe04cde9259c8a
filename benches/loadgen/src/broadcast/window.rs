//! The messages in flight: the wire format of each, the readers still waiting for it, and the time it was sent.

use std::time::{Duration, Instant};

use crate::frames::{Kind, header, payload};

/// The messages that not all readers have received. They are numbered from 0, and each begins with its number.
pub(crate) struct Window {
    /// Message `n` is in slot `n` modulo the number of slots.
    slots: Vec<Slot>,
    readers: u32,
    published: u64,
    /// The oldest message that some reader waits for.
    oldest: u64,
}

struct Slot {
    /// The frame that a reader must receive.
    expected: Vec<u8>,
    /// The number of readers that have not received it.
    missing: u32,
    sent_at: Instant,
}

impl Window {
    /// Creates room for `in_flight` messages of `size` bytes, which [`sizes`] has accepted.
    pub(crate) fn new(size: usize, in_flight: u32, readers: u32) -> Self {
        let slots = (0..in_flight).map(|seed| {
            let mut expected = Vec::new();
            header(&mut expected, Kind::Text, size, None);
            expected.extend(payload(Kind::Text, size, seed));
            Slot { expected, missing: 0, sent_at: Instant::now() }
        });
        Self { slots: slots.collect(), readers, published: 0, oldest: 0 }
    }

    /// Returns the number of messages so far.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.oldest == self.published
    }

    pub(crate) fn is_full(&self) -> bool {
        self.published - self.oldest == self.slots.len() as u64
    }

    /// Makes the next message and returns the masked frame to send. The window must not be full.
    pub(crate) fn publish(&mut self) -> Vec<u8> {
        let (number, readers) = (self.published, self.readers);
        self.published += 1;
        let slot = self.slot(number);
        slot.missing = readers;
        slot.sent_at = Instant::now();
        let (head, size) = head_and_size(&slot.expected);
        slot.expected[head..head + DIGITS].copy_from_slice(digits(number).as_bytes());
        let mut sent = Vec::new();
        header(&mut sent, Kind::Text, size, Some(KEY));
        sent.extend(slot.expected[head..].iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        sent
    }

    /// Returns the frame of a message in flight.
    pub(crate) fn expected(&self, number: u64) -> Option<&[u8]> {
        let there = (self.oldest..self.published).contains(&number);
        there.then(|| &*self.slots[self.index(number)].expected)
    }

    /// Records that one more reader has a message that is in flight, and returns how long that took.
    pub(crate) fn arrived(&mut self, number: u64) -> Duration {
        let slot = self.slot(number);
        slot.missing -= 1;
        let time = slot.sent_at.elapsed();
        while !self.is_empty() && self.slots[self.index(self.oldest)].missing == 0 {
            self.oldest += 1;
        }
        time
    }

    fn slot(&mut self, number: u64) -> &mut Slot {
        let index = self.index(number);
        &mut self.slots[index]
    }

    #[allow(clippy::cast_possible_truncation, reason = "it is less than the number of slots")]
    fn index(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }
}

/// Returns the position and length of the payload in a server's frame.
fn head_and_size(frame: &[u8]) -> (usize, usize) {
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    (head, frame.len() - head)
}

/// Returns the beginning of the message with that number.
pub(crate) fn digits(number: u64) -> String {
    format!("{number:0DIGITS$}")
}

/// Reads the size of a message: it must have room for a number, and is held in memory several times.
pub(crate) fn sizes(text: &str) -> Result<usize, String> {
    let size: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (DIGITS..=1 << 24).contains(&size) {
        Ok(size)
    } else {
        Err(format!("not within {DIGITS}..={}", 1 << 24))
    }
}

/// The number of digits of every number.
pub(crate) const DIGITS: usize = 20;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_flight_until_every_reader_has_it() {
        let mut window = Window::new(30, 2, 2);
        assert!(window.is_empty() && window.expected(0).is_none());
        let sent = window.publish();
        assert_eq!((sent.len(), sent[0], sent[1]), (36, 0x81, 0x80 | 0x1e));
        let first = window.expected(0).unwrap().to_vec();
        assert_eq!((&first[..2], &first[2..22]), (&[0x81, 30][..], &b"00000000000000000000"[..]));
        let unmasked: Vec<_> = sent[6..].iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked, first[2..]);
        window.publish();
        assert!(window.is_full());
        assert_ne!(window.expected(1), Some(&*first));
        // The second reader is one message late.
        for number in [0, 1] {
            window.arrived(number);
        }
        assert!(window.is_full());
        window.arrived(0);
        assert!(!window.is_full() && window.expected(0).is_none() && window.expected(1).is_some());
        window.arrived(1);
        assert!(window.is_empty() && window.published() == 2);
    }

    #[test]
    fn the_number_is_found_behind_every_header() {
        for size in [20, 125, 126, 65_535, 65_536] {
            let mut window = Window::new(size, 1, 1);
            window.publish();
            window.arrived(0);
            window.publish();
            let expected = window.expected(1).unwrap();
            let (head, found) = head_and_size(expected);
            assert_eq!(found, size);
            assert_eq!(&expected[head..head + DIGITS], digits(1).as_bytes(), "{size}");
        }
    }
}
