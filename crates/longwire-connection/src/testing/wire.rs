//! One direction of a link: the bytes in flight, and the record of all earlier bytes.
//!
//! Owns capacity, visibility, arrival times and the FIN. [`super::link`] owns the reading and writing ends and
//! their faults.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A bounded queue of bytes that keeps the bytes removed from it as the record of the wire.
///
/// ```text
/// bytes   0 ............ delivered ............ released ............ bytes.len()
///           was read          may be read           waits for a flush
///                       |------------ at most `capacity` -----------|
/// ```
#[derive(Debug)]
pub(super) struct Wire {
    bytes: Vec<u8>,
    /// At most `released`.
    delivered: usize,
    /// At most `bytes.len()`.
    released: usize,
    /// At least 1.
    capacity: usize,
    /// Sorted by `start`, which is at least `delivered`. Only the first is checked, so that bytes sent later never
    /// overtake, even if the latency was lowered in between.
    arrivals: VecDeque<Arrival>,
    finished: bool,
    write_sizes: Vec<usize>,
}

/// The time `at` before which the bytes from `start` (or the FIN, if no bytes follow) cannot be read.
#[derive(Debug)]
struct Arrival {
    start: usize,
    at: Instant,
}

/// The result of looking for bytes to read.
pub(super) enum Readable<'a> {
    /// At least one byte.
    Bytes(&'a [u8]),
    /// Something is in flight and arrives at this time.
    At(Instant),
    /// The FIN.
    End,
    Nothing,
}

impl Wire {
    pub(super) fn new(capacity: usize) -> Self {
        let mut wire = Self {
            bytes: Vec::new(),
            delivered: 0,
            released: 0,
            capacity: 1,
            arrivals: VecDeque::new(),
            finished: false,
            write_sizes: Vec::new(),
        };
        wire.set_capacity(capacity);
        wire
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        assert!(capacity > 0, "a pipe without capacity can never carry a byte");
        self.capacity = capacity;
    }

    pub(super) fn recorded(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn write_sizes(&self) -> &[usize] {
        &self.write_sizes
    }

    pub(super) fn unread(&self) -> usize {
        self.bytes.len() - self.delivered
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Returns the number of bytes that can be written now. A lowered capacity counts as no space.
    pub(super) fn space(&self) -> usize {
        self.capacity.saturating_sub(self.unread())
    }

    /// Accepts the first `len` bytes of `parts` as one write. The caller has checked that they fit.
    pub(super) fn write(&mut self, parts: &[&[u8]], len: usize) {
        let mut left = len;
        for part in parts {
            let take = left.min(part.len());
            self.bytes.extend_from_slice(&part[..take]);
            left -= take;
        }
        self.write_sizes.push(len - left);
    }

    /// Makes everything written readable, after `latency` if there is one. Returns whether anything changed.
    pub(super) fn release(&mut self, latency: Option<Duration>) -> bool {
        if self.released == self.bytes.len() {
            return false;
        }
        self.arrive(self.released, latency);
        self.released = self.bytes.len();
        true
    }

    /// Puts the FIN after the released bytes; unreleased bytes are lost.
    pub(super) fn finish(&mut self, latency: Option<Duration>) {
        if !self.finished {
            self.arrive(self.released, latency);
            self.finished = true;
        }
    }

    fn arrive(&mut self, start: usize, latency: Option<Duration>) {
        if let Some(latency) = latency {
            self.arrivals.push_back(Arrival { start, at: Instant::now() + latency });
        }
    }

    pub(super) fn readable(&mut self) -> Readable<'_> {
        // The clock is read only if there is latency, so everything else works without a runtime.
        if !self.arrivals.is_empty() {
            let now = Instant::now();
            while self.arrivals.front().is_some_and(|arrival| arrival.at <= now) {
                self.arrivals.pop_front();
            }
        }
        let arrived = self.arrivals.front().map_or(self.released, |arrival| arrival.start);
        if arrived > self.delivered {
            Readable::Bytes(&self.bytes[self.delivered..arrived])
        } else if let Some(arrival) = self.arrivals.front() {
            Readable::At(arrival.at)
        } else if self.finished {
            Readable::End
        } else {
            Readable::Nothing
        }
    }

    /// Removes `len` of the bytes that [`readable`](Self::readable) has returned.
    pub(super) fn consume(&mut self, len: usize) {
        self.delivered += len;
        debug_assert!(self.delivered <= self.released, "consumed bytes that were not readable");
    }
}
