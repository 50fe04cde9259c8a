//! The history of rooms: its bounds, and the positions of messages in it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

/// The bounds of the history that the broker keeps of each room: see
/// [`ClusterOptions::with_history`](crate::ClusterOptions::with_history).
///
/// All nodes of a cluster must have the same bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// The number of messages that are kept of each room. Between 1 and 100 000 are used. Default 1000.
    pub messages: usize,
    /// The time for which a message is kept. Between a second and 30 days are used. Default 5 min.
    pub age: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { messages: 1000, age: Duration::from_secs(5 * 60) }
    }
}

impl History {
    /// Sets [`messages`](Self::messages).
    #[must_use]
    pub fn with_messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Sets [`age`](Self::age).
    #[must_use]
    pub fn with_age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Returns the bounds that are used.
    pub(crate) fn clamped(self) -> Self {
        Self {
            messages: self.messages.clamp(1, MAX_MESSAGES),
            age: self.age.clamp(Duration::from_secs(1), MAX_AGE),
        }
    }

    /// Returns the time for which the broker recognizes a message that is appended again.
    pub(crate) fn repetition(&self) -> Duration {
        REPETITION.min(self.age)
    }
}

/// The position of a message in the history of its room.
///
/// Clients get it as text, and give it back to resume after this message:
/// [`Cluster::join_since`](crate::Cluster::join_since). The text is 16 hexadecimal digits, a hyphen, and a hexadecimal
/// number, all in lower case; it needs no escaping in a URL. A client should not look into it.
///
/// # Examples
///
/// ```
/// use longwire_cluster::Position;
///
/// # fn main() -> Result<(), longwire_cluster::PositionError> {
/// let position: Position = "00c0ffee00c0ffee-2a".parse()?;
/// assert_eq!(position.to_string(), "00c0ffee00c0ffee-2a");
/// assert!("42".parse::<Position>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    epoch: u64,
    offset: u64,
}

impl Position {
    /// Makes a position, for an implementation of [`Backplane`](crate::Backplane).
    ///
    /// The epoch tells histories apart: when the broker loses a history, the next one has another. Within an epoch, a
    /// later message of the room has a larger offset, at least 1.
    pub fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch, offset }
    }

    /// Returns the epoch.
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// Returns the offset.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Returns whether this is the position of `other`, or a later one of the same history.
    pub(crate) fn reaches(self, other: Self) -> bool {
        self.epoch == other.epoch && self.offset >= other.offset
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    /// Reads what [`Display`](fmt::Display) has written, and nothing else.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, offset) = text.split_once('-').ok_or(PositionError)?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| PositionError);
        let position = Self { epoch: number(epoch)?, offset: number(offset)? };
        // Other spellings of the same numbers are refused.
        if position.to_string() == text { Ok(position) } else { Err(PositionError) }
    }
}

/// The error of a text that is no [`Position`].
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is 16 hexadecimal digits, a hyphen and a hexadecimal number, in lower case")]
pub struct PositionError;

/// As [`Display`](fmt::Display).
impl fmt::Debug for PositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message in the history of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The position of the message.
    pub position: Position,
    /// The offset of a message before it, such that the history has none in between. In a [`Past`], only that of the
    /// first record counts: if it is smaller than the offset asked for, the history has lost messages. 0 if unknown.
    pub previous: u64,
    /// The payload.
    pub payload: Bytes,
}

/// The messages of a room after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The position of the room's last message at the time of the call, or the one asked for if there is none after it.
    /// One before the position asked for says that the history has lost messages, if it is not whole. For a room
    /// without messages, a position before all that follow.
    pub last: Position,
    /// Whether the history still has every message after the position asked for.
    pub is_whole: bool,
    /// These messages in their order, or the first of them. If they are not whole, those that are kept, from the first
    /// one on if the position is of another history.
    pub records: Vec<Record>,
}

impl Past {
    /// Returns whether the history has lost a message that it had: the one at a position up to which it was delivered,
    /// and which was asked for.
    pub(crate) fn has_lost(&self, delivered: Position) -> bool {
        let is_before = |offset| offset < delivered.offset();
        let is_behind = is_before(self.last.offset());
        // Others may have come since.
        let went_on = self.records.first().is_some_and(|next| next.previous > 0 && is_before(next.previous));
        !self.is_whole && self.last.epoch() == delivered.epoch() && (is_behind || went_on)
    }
}

/// The bytes of messages that are fetched at once, unless one has more. The queue of a client takes a few times as much
/// before it is too slow.
pub(crate) const PAGE_BYTES: usize = 64 * 1024;

const MAX_MESSAGES: usize = 100_000;
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The longest time for which repetitions are recognized. The broker remembers each message for as long.
const REPETITION: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_are_read_as_they_were_written(epoch: u64, offset: u64) {
            let position = Position { epoch, offset };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn a_text_has_one_spelling(text in "[0-9a-fA-F+-]{0,34}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "-",
            "1-1",
            "0000000000000001",
            "0000000000000001-",
            "0000000000000001-01",
            "0000000000000001-1 ",
            "0000000000000001-A",
            "000000000000000A-1",
            "+000000000000001-1",
            "0000000000000001-+1",
            "00000000000000001-1",
            "0000000000000001-1-1",
            "0000000000000001-10000000000000000",
            "000000000000000é-1",
        ] {
            assert_eq!(text.parse::<Position>(), Err(PositionError), "{text}");
        }
    }

    #[test]
    fn a_history_has_lost_what_it_once_had() {
        let at = |offset| Position::new(1, offset);
        let past = |last: u64, is_whole, previous: Option<u64>| {
            let next = |previous| Record { position: at(last), previous, payload: Bytes::new() };
            Past { last: at(last), is_whole, records: previous.map(next).into_iter().collect() }
        };
        // Asked after 10.
        for (past, has_lost) in [
            (past(7, false, None), true),
            (past(900, false, Some(7)), true),
            (past(30, false, Some(20)), false),
            (past(30, false, Some(10)), false),
            (past(30, false, Some(0)), false),
            (past(30, false, None), false),
            (past(10, true, None), false),
        ] {
            assert_eq!(past.has_lost(at(10)), has_lost, "{past:?}");
            assert!(!past.has_lost(Position::new(2, 10)));
        }
    }

    #[test]
    fn bounds_are_bounded() {
        let bounds = |messages, age| {
            let History { messages, age } =
                History::default().with_messages(messages).with_age(age).clamped();
            (messages, age.as_secs())
        };
        assert_eq!(bounds(0, Duration::ZERO), (1, 1));
        assert_eq!(bounds(7, Duration::from_secs(8)), (7, 8));
        assert_eq!(bounds(usize::MAX, Duration::MAX), (100_000, 30 * 86_400));
        assert_eq!(History::default().repetition(), Duration::from_secs(120));
        assert_eq!(History::default().with_age(Duration::from_secs(8)).repetition().as_secs(), 8);
    }
}
