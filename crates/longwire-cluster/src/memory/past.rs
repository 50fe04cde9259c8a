//! The history that the broker within the process keeps.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use crate::appends::Append;
use crate::channel::NodeId;
use crate::history::{History, PAGE_BYTES, Past, Position, Record};

/// The history of all rooms. Offsets are counted over all of them.
pub(super) struct Pasts {
    bounds: History,
    epoch: u64,
    last: u64,
    rooms: HashMap<Arc<str>, RoomPast>,
    /// What is known of rooms without messages: all that were dropped had at most this offset.
    dropped: u64,
    /// The numbers of the last messages of each node in each room.
    numbers: HashMap<NodeId, HashMap<Arc<str>, u64>>,
    /// The number of messages after which rooms are looked through for old messages.
    until_sweep: usize,
}

#[derive(Default)]
struct RoomPast {
    records: VecDeque<(Instant, Record)>,
    /// The offset of the last message that was dropped.
    dropped: u64,
}

impl Pasts {
    pub(super) fn new(bounds: History) -> Self {
        Self {
            bounds,
            epoch: getrandom::u64().expect("the operating system has random bytes"),
            last: 0,
            rooms: HashMap::new(),
            dropped: 0,
            numbers: HashMap::new(),
            until_sweep: SWEEP,
        }
    }

    pub(super) fn bounds(&self) -> History {
        self.bounds
    }

    pub(super) fn forget_node(&mut self, node: NodeId) {
        self.numbers.remove(&node);
    }

    /// Appends a message. `None` if it was appended before.
    pub(super) fn append(&mut self, from: NodeId, append: &Append) -> Option<Record> {
        self.sweep();
        let number = self.numbers.entry(from).or_default().entry(Arc::clone(&append.room)).or_default();
        if append.number <= *number {
            return None;
        }
        *number = append.number;
        self.last += 1;
        let room = self
            .rooms
            .entry(Arc::clone(&append.room))
            .or_insert_with(|| RoomPast { records: VecDeque::new(), dropped: self.dropped });
        room.expire(self.bounds);
        // If it is 0, nobody who is subscribed has missed one.
        let previous = room.last().unwrap_or_default();
        let position = Position::new(self.epoch, self.last);
        let record = Record { position, previous, payload: append.payload.clone() };
        room.records.push_back((Instant::now(), record.clone()));
        if room.records.len() > self.bounds.messages {
            room.drop_first();
        }
        Some(record)
    }

    pub(super) fn read(&mut self, name: &str, after: Option<Position>, most: usize) -> Past {
        let room = self.rooms.get_mut(name);
        let (last, dropped, records) = match room {
            Some(room) => {
                room.expire(self.bounds);
                (room.last().unwrap_or(room.dropped), room.dropped, Some(&room.records))
            }
            None => (self.last, self.dropped, None),
        };
        let at = |offset| Position::new(self.epoch, offset);
        let Some(after) = after else {
            return Past { last: at(last), is_whole: true, records: Vec::new() };
        };
        let is_known = after.epoch() == self.epoch;
        let is_whole = is_known && (dropped..=self.last).contains(&after.offset());
        let after = if is_known { after.offset() } else { 0 };
        let later = records.into_iter().flatten().map(|(_, record)| record);
        let later = later.filter(|record| record.position.offset() > after);
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let is_first = bytes == 0;
            bytes += record.payload.len().max(1);
            is_first || bytes <= PAGE_BYTES
        };
        let records: Vec<_> = later.take(most).take_while(fits).cloned().collect();
        // Without messages of its own, the room's last position is any that is not before what was asked for.
        let last = if is_whole && records.is_empty() { after } else { last };
        Past { last: at(last), is_whole, records }
    }

    /// Drops rooms whose messages are all old, now and then.
    fn sweep(&mut self) {
        self.until_sweep -= 1;
        if self.until_sweep > 0 {
            return;
        }
        for room in self.rooms.values_mut() {
            room.expire(self.bounds);
        }
        self.rooms.retain(|_, room| {
            if room.records.is_empty() {
                self.dropped = self.dropped.max(room.dropped);
            }
            !room.records.is_empty()
        });
        let rooms = &self.rooms;
        for numbers in self.numbers.values_mut() {
            numbers.retain(|room, _| rooms.contains_key(room));
        }
        self.until_sweep = SWEEP.max(self.rooms.len());
    }
}

impl RoomPast {
    fn last(&self) -> Option<u64> {
        self.records.back().map(|(_, record)| record.position.offset())
    }

    fn drop_first(&mut self) {
        if let Some((_, record)) = self.records.pop_front() {
            self.dropped = record.position.offset();
        }
    }

    fn expire(&mut self, bounds: History) {
        while let Some((at, _)) = self.records.front()
            && at.elapsed() > bounds.age
        {
            self.drop_first();
        }
    }
}

/// The messages after which old rooms are dropped.
const SWEEP: usize = if cfg!(test) { 8 } else { 4096 };

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::advance;

    use super::*;

    fn append(pasts: &mut Pasts, room: &str, number: u64) -> Option<u64> {
        let append = Append { room: room.into(), number, payload: Bytes::new() };
        pasts.append(NodeId(1), &append).map(|record| record.position.offset())
    }

    /// Returns the offsets of what is there after an offset; `None` if it is not whole.
    fn after(pasts: &mut Pasts, room: &str, offset: u64) -> Option<Vec<u64>> {
        let position = Position::new(pasts.epoch, offset);
        let past = pasts.read(room, Some(position), 100);
        past.is_whole.then(|| past.records.iter().map(|record| record.position.offset()).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_by_number_and_age() {
        let bounds = History::default().with_messages(3).with_age(Duration::from_secs(10));
        let mut pasts = Pasts::new(bounds);
        assert_eq!(after(&mut pasts, "a", 0), Some(vec![]));
        for number in 1..=5 {
            assert_eq!(append(&mut pasts, "a", number), Some(number));
            assert_eq!(append(&mut pasts, "a", number), None, "again");
        }
        assert_eq!(after(&mut pasts, "a", 1), None);
        assert_eq!(after(&mut pasts, "a", 2), Some(vec![3, 4, 5]));
        assert_eq!(after(&mut pasts, "a", 6), None, "it is not there yet");
        assert_eq!(pasts.read("a", None, 0).last.offset(), 5);
        assert_eq!(append(&mut pasts, "b", 6), Some(6));
        advance(Duration::from_secs(11)).await;
        assert_eq!(after(&mut pasts, "a", 4), None);
        assert_eq!(after(&mut pasts, "a", 5), Some(vec![]), "nothing was missed");
        for number in 7..=40 {
            append(&mut pasts, "c", number);
        }
        assert_eq!(pasts.rooms.len(), 1, "those with old messages only are dropped");
        assert_eq!(after(&mut pasts, "a", 5), None, "nobody knows any more");
        assert_eq!(after(&mut pasts, "a", 6), Some(vec![]));
    }
}
