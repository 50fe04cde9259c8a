//! Who takes over the receiving half of a socket that is dropped.

use std::task::Waker;

use crate::Transport;
use crate::receiving::reader::Reader;

/// The heir of a socket, decided under the connection's lock: a dropped socket and the end of the task that drives it
/// cannot miss each other.
pub(crate) enum Heir<T: Transport> {
    /// A dropped socket is closed in the background.
    Nobody,
    /// A task drives the handler: it closes the connection. The waker is that of its last turn.
    Driver(Waker),
    /// The socket was dropped and left this to the driving task.
    Left(Box<Left<T>>),
}

/// What a dropped socket leaves.
pub(crate) struct Left<T: Transport> {
    pub(crate) reader: Box<Reader<T>>,
    /// Whether a panic dropped it.
    pub(crate) panicked: bool,
}

impl<T: Transport> Heir<T> {
    /// Takes note of the waker of the driving task.
    #[inline]
    pub(crate) fn set_driver(&mut self, waker: &Waker) {
        if let Self::Driver(driver) = self {
            driver.clone_from(waker);
        }
    }

    /// Takes what was left; the heir stays.
    #[inline]
    pub(crate) fn take_left(&mut self) -> Option<Box<Left<T>>> {
        if !matches!(self, Self::Left(_)) {
            return None;
        }
        match std::mem::replace(self, Self::Nobody) {
            Self::Left(left) => Some(left),
            Self::Nobody | Self::Driver(_) => None,
        }
    }
}
