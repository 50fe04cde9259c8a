//! The progress of a connection toward its end, and the outcome.
//!
//! Small while the connection is open: the outcome is allocated when it is known.

use longwire_protocol::CloseFrame;

use crate::Error;

#[derive(Debug, Default)]
pub(crate) struct Ending {
    phase: Phase,
    known: Option<Box<Known>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Frames are read.
    #[default]
    Open,
    /// The last frames are written before the end is reported.
    Ending,
    /// The end was reported.
    Ended,
}

#[derive(Debug, Default)]
struct Known {
    error: Option<Error>,
    /// The close frame received; code 1005 if it was empty.
    close: Option<CloseFrame>,
}

impl Ending {
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Records the peer's close frame.
    pub(crate) fn note_close(&mut self, frame: CloseFrame) {
        self.known.get_or_insert_default().close = Some(frame);
    }

    /// Returns the peer's close frame, if it has arrived.
    pub(crate) fn close_received(&self) -> Option<&CloseFrame> {
        self.known.as_ref()?.close.as_ref()
    }

    /// Starts the end. A later outcome replaces an earlier one.
    pub(crate) fn begin(&mut self, outcome: Result<(), Error>) {
        self.phase = Phase::Ending;
        self.known.get_or_insert_default().error = outcome.err();
    }

    /// Returns the error that the connection is ending with.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.known.as_ref()?.error.as_ref()
    }

    /// Ends, and returns the outcome to report.
    pub(crate) fn report(&mut self) -> Result<(), Error> {
        self.phase = Phase::Ended;
        self.known.as_mut().and_then(|known| known.error.take()).map_or(Ok(()), Err)
    }
}
