//! The news that a subscriber receives: in order, once, and without unexplained gaps.

use crate::ledger::Numbers;

/// The news that were received.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) last: Numbers,
    /// The number of messages that are missing between those received.
    pub(crate) missing: u64,
}

impl News {
    /// Takes a message of the server.
    ///
    /// # Panics
    ///
    /// If it is not the next one of its source in its room, or a later one.
    pub(crate) fn take(&mut self, text: &str) {
        let mut words = text.split(' ');
        if words.next() != Some("news") {
            return;
        }
        let mut word = || words.next().expect("news have as many words").to_owned();
        let (room, source, number) = (word(), word(), word().parse::<u64>().expect("a number"));
        match self.last.insert((source, room), number) {
            None => {}
            Some(before) => {
                assert!(number > before, "{text:.80}: after number {before}");
                self.missing += number - before - 1;
            }
        }
    }
}
