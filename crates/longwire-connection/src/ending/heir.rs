//! The task that takes over the receiving half of a dropped socket.

use std::pin::Pin;
use std::task::Waker;

use longwire_protocol::CloseFrame;

/// The task, if any, that closes the connection of a dropped socket. It is decided under the connection's lock, so
/// a dropped socket and the end of the task that drives it cannot miss each other.
pub(crate) enum Heir {
    /// A dropped socket is closed in the background.
    Nobody,
    /// A task drives the handler and closes the connection. The waker is that of its last turn.
    Driver(Waker),
    /// The socket was dropped and left this to the driving task.
    Left(Box<Left>),
}

/// The receiving half that a dropped socket leaves to the driving task.
pub(crate) struct Left {
    pub(crate) estate: Box<dyn Estate>,
    /// `true` if a panic dropped it.
    pub(crate) panicked: bool,
}

/// A receiving half that no task holds. The sending half keeps it without knowing its type.
pub(crate) trait Estate: Send {
    /// Starts the closing handshake. The returned future continues it to the end of the transport.
    fn leave(self: Box<Self>, frame: CloseFrame) -> Leaving;
}

/// The closing of a connection that no task holds. Dropping it cuts the connection.
pub(crate) type Leaving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Heir {
    /// Updates the waker of the driving task.
    #[inline]
    pub(crate) fn set_driver(&mut self, waker: &Waker) {
        if let Self::Driver(driver) = self {
            driver.clone_from(waker);
        }
    }

    /// Takes the receiving half that was left, if any. After that there is no heir.
    pub(crate) fn take_left(&mut self) -> Option<Box<Left>> {
        if !matches!(self, Self::Left(_)) {
            return None;
        }
        match std::mem::replace(self, Self::Nobody) {
            Self::Left(left) => Some(left),
            Self::Nobody | Self::Driver(_) => None,
        }
    }
}
