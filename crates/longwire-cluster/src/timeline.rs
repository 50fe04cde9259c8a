//! The part of a room's history that a node has delivered, and the next step for each arrival. No IO.
//!
//! ```text
//!                 arrives, is not the next one; or anything may be missing
//!      Live  ────────────────────────────────────────────────────────▶  Behind
//!   delivers   ◀────────────────────────────────────────────────────   fetches, and parks what arrives
//!                 the history was fetched up to what is parked
//! ```

use std::collections::VecDeque;

use crate::history::{Past, Position, Record};

/// The progress of a node in the history of a room.
pub(crate) struct Timeline {
    /// The position of the last message that was delivered; `None` until the first fetch has told where it begins.
    last: Option<Position>,
    phase: Phase,
    /// The arrivals during a fetch, in order.
    parked: VecDeque<Record>,
    parked_bytes: usize,
    /// Set if not all that has arrived is parked: then another fetch follows.
    is_incomplete: bool,
    /// Set if something may have been missed since the last fetch: then the next arrival is fetched, also if it seems
    /// to be the next message.
    is_doubtful: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Live,
    /// A fetch will begin.
    Behind,
    Fetching,
}

/// The next step for a message that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Deliver(Record),
    /// It was delivered before, or will be.
    Nothing,
    /// Messages before it are missing: they have to be fetched, this one included.
    Missing,
}

/// The consequences of a fetch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Whether messages were lost for good, before those to deliver.
    pub(crate) has_gap: bool,
    pub(crate) deliver: Vec<Record>,
}

impl Timeline {
    /// Begins where the history ends now, which has to be fetched.
    pub(crate) fn new() -> Self {
        Self {
            last: None,
            phase: Phase::Behind,
            parked: VecDeque::new(),
            parked_bytes: 0,
            is_incomplete: false,
            is_doubtful: false,
        }
    }

    /// Returns the position of the last message, if everything that has arrived was delivered.
    pub(crate) fn live(&self) -> Option<Position> {
        self.last.filter(|_| self.phase == Phase::Live)
    }

    /// Returns the position of the last message that was delivered.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Takes a message that has arrived.
    pub(crate) fn arrive(&mut self, record: Record) -> Arrival {
        match self.phase {
            // It will be fetched.
            Phase::Behind => Arrival::Nothing,
            Phase::Fetching => {
                self.park(record);
                Arrival::Nothing
            }
            Phase::Live if self.is_doubtful => {
                self.phase = Phase::Behind;
                Arrival::Missing
            }
            Phase::Live => match self.next(record) {
                Arrival::Missing => {
                    self.phase = Phase::Behind;
                    Arrival::Missing
                }
                other => other,
            },
        }
    }

    fn park(&mut self, record: Record) {
        let bytes = record.payload.len() + OVERHEAD;
        if self.is_incomplete || self.parked_bytes + bytes > PARKED && !self.parked.is_empty() {
            self.is_incomplete = true;
            self.unpark();
        } else {
            self.parked_bytes += bytes;
            self.parked.push_back(record);
        }
    }

    fn unpark(&mut self) {
        self.parked = VecDeque::new();
        self.parked_bytes = 0;
    }

    /// Delivers a message if it is the next one.
    fn next(&mut self, record: Record) -> Arrival {
        let Some(last) = self.last.filter(|last| last.epoch() == record.position.epoch()) else {
            return Arrival::Missing;
        };
        if record.position.offset() <= last.offset() {
            Arrival::Nothing
        } else if record.previous <= last.offset() {
            self.last = Some(record.position);
            Arrival::Deliver(record)
        } else {
            Arrival::Missing
        }
    }

    /// Notes that anything may be missing. Returns whether a fetch has to begin.
    pub(crate) fn fall_behind(&mut self) -> bool {
        match self.phase {
            Phase::Live => {
                self.phase = Phase::Behind;
                true
            }
            // It begins already, unless it was given up.
            Phase::Behind => true,
            Phase::Fetching => {
                self.is_incomplete = true;
                false
            }
        }
    }

    /// Notes that anything may be missing that cannot be fetched yet.
    pub(crate) fn doubt(&mut self) {
        match self.phase {
            Phase::Live => self.is_doubtful = true,
            Phase::Behind => {}
            Phase::Fetching => self.is_incomplete = true,
        }
    }

    /// Begins a fetch after [`last`](Self::last). Returns `false` if there is nothing to fetch, or another task does.
    pub(crate) fn begin(&mut self) -> bool {
        let is_due = self.phase == Phase::Behind;
        if is_due {
            self.phase = Phase::Fetching;
            self.is_incomplete = false;
            self.is_doubtful = false;
        }
        is_due
    }

    /// Takes what was fetched. If the timeline is not [live](Self::live) afterwards, the fetch goes on after
    /// [`last`](Self::last).
    pub(crate) fn fetched(&mut self, past: Past) -> Fetched {
        let mut fetched = Fetched::default();
        let has_records = !past.records.is_empty();
        match self.last {
            None => self.last = Some(past.last),
            Some(mut last) => {
                fetched.has_gap = !past.is_whole;
                for record in past.records {
                    // Of another history, nothing was delivered.
                    if !last.reaches(record.position) {
                        last = record.position;
                        fetched.deliver.push(record);
                    }
                }
                let is_new_start = fetched.has_gap && fetched.deliver.is_empty();
                self.last = Some(if is_new_start { past.last } else { last });
            }
        }
        // If nothing is to be had, more of it is not, either.
        let is_at_end = !has_records || self.last.is_some_and(|last| last.reaches(past.last));
        if is_at_end {
            while let Some(record) = self.parked.pop_front() {
                match self.next(record) {
                    Arrival::Deliver(record) => fetched.deliver.push(record),
                    Arrival::Nothing => {}
                    Arrival::Missing => {
                        self.is_incomplete = true;
                        break;
                    }
                }
            }
            if !self.is_incomplete {
                self.phase = Phase::Live;
            }
        }
        // What is dropped here is fetched.
        self.unpark();
        self.is_incomplete = false;
        fetched
    }

    /// Notes that a fetch has failed. Returns whether it is tried again.
    pub(crate) fn failed(&mut self, may_retry: bool) -> bool {
        self.unpark();
        let is_wanted = may_retry || self.is_incomplete;
        self.is_incomplete = false;
        if !is_wanted {
            self.phase = Phase::Behind;
        }
        is_wanted
    }
}

/// The bytes of messages that are parked during a fetch. Beyond that, they are fetched as well.
const PARKED: usize = 64 * 1024;

/// The memory that a message takes beyond its payload.
const OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn at(offset: u64) -> Position {
        Position::new(1, offset)
    }

    fn record(offset: u64, previous: u64) -> Record {
        Record { position: at(offset), previous, payload: Bytes::new() }
    }

    fn past(last: u64, records: &[u64]) -> Past {
        let records = records.iter().map(|offset| record(*offset, 0)).collect();
        Past { last: at(last), is_whole: true, records }
    }

    /// Returns a timeline that is live at a position.
    fn live_at(offset: u64) -> Timeline {
        let mut timeline = Timeline::new();
        assert!(timeline.begin());
        assert_eq!(timeline.fetched(past(offset, &[])), Fetched::default());
        assert_eq!(timeline.live(), Some(at(offset)));
        timeline
    }

    fn offsets(fetched: &Fetched) -> Vec<u64> {
        fetched.deliver.iter().map(|record| record.position.offset()).collect()
    }

    #[test]
    fn the_next_message_is_delivered_once() {
        let mut timeline = live_at(5);
        assert_eq!(timeline.arrive(record(7, 5)), Arrival::Deliver(record(7, 5)));
        assert_eq!(timeline.arrive(record(7, 5)), Arrival::Nothing);
        assert_eq!(timeline.arrive(record(6, 5)), Arrival::Nothing);
        // Its predecessor is too old to be known.
        assert_eq!(timeline.arrive(record(9, 0)), Arrival::Deliver(record(9, 0)));
    }

    #[test]
    fn missing_messages_are_fetched_before_what_follows() {
        let mut timeline = live_at(5);
        assert_eq!(timeline.arrive(record(8, 7)), Arrival::Missing);
        assert_eq!(timeline.arrive(record(9, 8)), Arrival::Nothing);
        assert_eq!((timeline.begin(), timeline.begin()), (true, false));
        assert_eq!(timeline.arrive(record(10, 9)), Arrival::Nothing);
        assert_eq!(timeline.live(), None);
        // A part, and then the rest, during which another one arrives.
        assert_eq!(offsets(&timeline.fetched(past(9, &[6, 7]))), [6, 7]);
        assert_eq!((timeline.live(), timeline.last()), (None, Some(at(7))));
        assert_eq!(timeline.arrive(record(11, 10)), Arrival::Nothing);
        assert_eq!(offsets(&timeline.fetched(past(10, &[8, 9, 10]))), [8, 9, 10, 11]);
        assert_eq!(timeline.live(), Some(at(11)));
    }

    #[test]
    fn what_is_gone_is_a_gap_and_a_new_start() {
        for (epoch, last) in [(1, 50), (1, 3), (2, 3)] {
            let mut timeline = live_at(5);
            assert!(timeline.fall_behind());
            assert!(timeline.begin());
            let lost = Past { last: Position::new(epoch, last), is_whole: false, records: vec![] };
            assert_eq!(timeline.fetched(lost), Fetched { has_gap: true, deliver: vec![] });
            assert_eq!(timeline.live(), Some(Position::new(epoch, last)));
        }
        // What is kept follows, in another history from its beginning on.
        for (epoch, kept) in [(1, 40), (2, 1)] {
            let mut timeline = live_at(5);
            assert!(timeline.fall_behind());
            assert!(timeline.begin());
            let at = |offset| Position::new(epoch, offset);
            let record = |offset| Record { position: at(offset), ..record(offset, 0) };
            let page = |is_whole, first| Past {
                last: at(50),
                is_whole,
                records: (first..=50).take(6).map(record).collect(),
            };
            let first = timeline.fetched(page(false, kept));
            assert_eq!((first.has_gap, offsets(&first)), (true, (kept..kept + 6).collect()));
            assert_eq!(timeline.live(), None);
            while timeline.live().is_none() {
                let next = timeline.last().expect("it was fetched").offset() + 1;
                let next = timeline.fetched(page(true, next));
                assert!(!next.has_gap && !next.deliver.is_empty());
            }
            assert_eq!(timeline.live(), Some(at(50)));
        }
        // A message of another history is noticed at once.
        let mut timeline = live_at(5);
        let other = Record { position: Position::new(2, 1), previous: 0, payload: Bytes::new() };
        assert_eq!(timeline.arrive(other), Arrival::Missing);
    }

    #[test]
    fn a_loss_during_a_fetch_is_fetched_again() {
        let mut timeline = live_at(5);
        assert!(timeline.fall_behind());
        timeline.begin();
        assert!(!timeline.fall_behind(), "one goes on");
        assert_eq!(offsets(&timeline.fetched(past(6, &[6]))), [6]);
        assert_eq!(timeline.live(), None);
        timeline.fetched(past(6, &[]));
        assert_eq!(timeline.live(), Some(at(6)));
        // One that has failed is given up, unless somebody wants it.
        assert!(timeline.fall_behind());
        timeline.begin();
        assert!(timeline.failed(true));
        timeline.fall_behind();
        assert!(timeline.failed(false));
        assert!(!timeline.failed(false));
        assert!(timeline.fall_behind(), "it begins anew");
        assert!(timeline.begin());
    }

    #[test]
    fn what_arrives_after_an_outage_is_fetched_although_it_seems_to_be_the_next_one() {
        // What came before it is too old to be known.
        let arrives = |timeline: &mut Timeline| timeline.arrive(record(9, 0));
        let mut timeline = live_at(5);
        timeline.doubt();
        assert_eq!(timeline.live(), Some(at(5)), "clients may join");
        assert_eq!(arrives(&mut timeline), Arrival::Missing);
        assert!(timeline.begin());
        let lost = Past { is_whole: false, ..past(9, &[9]) };
        assert!(timeline.fetched(lost).has_gap);
        // A fetch on its way does not count, another one that begins later does.
        assert!(timeline.fall_behind() && timeline.begin());
        timeline.doubt();
        timeline.fetched(past(9, &[]));
        assert_eq!(timeline.live(), None);
        timeline.fetched(past(9, &[]));
        assert_eq!(timeline.live(), Some(at(9)));
        assert_eq!(timeline.arrive(record(10, 0)), Arrival::Deliver(record(10, 0)));
    }

    #[test]
    fn what_is_parked_is_bounded() {
        let mut timeline = live_at(0);
        timeline.fall_behind();
        timeline.begin();
        let large = |offset| Record { payload: vec![0; PARKED / 2].into(), ..record(offset, offset - 1) };
        for offset in 1..=5 {
            assert_eq!(timeline.arrive(large(offset)), Arrival::Nothing);
            assert!(timeline.parked_bytes <= PARKED);
        }
        assert_eq!(offsets(&timeline.fetched(past(1, &[1]))), [1]);
        assert_eq!(timeline.live(), None, "the others have to be fetched");
        assert_eq!(offsets(&timeline.fetched(past(5, &[2, 3, 4, 5]))), [2, 3, 4, 5]);
        assert_eq!(timeline.live(), Some(at(5)));
    }

    proptest! {
        /// A broker publishes; what it sends is lost, repeated or noticed in any way; fetches come at any time.
        #[test]
        fn everything_is_delivered_once_and_in_order(steps in proptest::collection::vec(0..10_u8, 1..200)) {
            let mut timeline = live_at(0);
            let (mut top, mut delivered, mut arrived) = (0_u64, Vec::new(), 0_u64);
            let page = |timeline: &Timeline, top: u64, most: usize| {
                let last = timeline.last().expect("it was fetched").offset();
                let records: Vec<_> = (last + 1..=top).take(most).collect();
                past(top, &records)
            };
            let mut fetch = None;
            let ends = [5, 6, 8, 8, 8];
            for step in steps.into_iter().chain(std::iter::repeat_n(ends, 100).flatten()) {
                match step {
                    // It is published, and arrives.
                    0..=2 => {
                        top += 1;
                        if let Arrival::Deliver(record) = timeline.arrive(record(top, top - 1)) {
                            delivered.push(record.position.offset());
                        }
                        arrived = top;
                    }
                    // It is published, and lost.
                    3 => top += 1,
                    // It arrives again.
                    4 if arrived > 0 => {
                        if let Arrival::Deliver(record) = timeline.arrive(record(arrived, arrived - 1)) {
                            delivered.push(record.position.offset());
                        }
                    }
                    5 => drop(timeline.fall_behind()),
                    9 => timeline.doubt(),
                    6 if timeline.begin() => fetch = None,
                    // The answer of the broker is on its way.
                    7 if timeline.phase == Phase::Fetching => fetch = Some(page(&timeline, top, 3)),
                    8 if timeline.phase == Phase::Fetching => {
                        let past = fetch.take().unwrap_or_else(|| page(&timeline, top, 3));
                        let fetched = timeline.fetched(past);
                        prop_assert!(!fetched.has_gap);
                        delivered.extend(offsets(&fetched));
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(delivered, (1..=top).collect::<Vec<_>>());
        }
    }
}
