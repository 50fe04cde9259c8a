//! Who takes over the receiving half of a socket that is dropped.

use std::pin::Pin;
use std::task::Waker;

use longwire_protocol::CloseFrame;

/// The heir of a socket, decided under the connection's lock: a dropped socket and the end of the task that drives it
/// cannot miss each other.
pub(crate) enum Heir {
    /// A dropped socket is closed in the background.
    Nobody,
    /// A task drives the handler: it closes the connection. The waker is that of its last turn.
    Driver(Waker),
    /// The socket was dropped and left this to the driving task.
    Left(Box<Left>),
}

/// What a dropped socket leaves.
pub(crate) struct Left {
    pub(crate) estate: Box<dyn Estate>,
    /// Whether a panic dropped it.
    pub(crate) panicked: bool,
}

/// A receiving half that nobody holds, for the sending half to keep without knowing what it is.
pub(crate) trait Estate: Send {
    /// Starts the closing handshake, which the future continues to the end of the transport.
    fn leave(self: Box<Self>, frame: CloseFrame) -> Leaving;
}

/// The closing of a connection that nobody holds. Dropped, it cuts the connection.
pub(crate) type Leaving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Heir {
    /// Takes note of the waker of the driving task.
    #[inline]
    pub(crate) fn set_driver(&mut self, waker: &Waker) {
        if let Self::Driver(driver) = self {
            driver.clone_from(waker);
        }
    }

    /// Takes what was left; then nobody is the heir.
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
