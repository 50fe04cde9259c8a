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
    /// `true` if an operation other than receiving has failed with the error.
    is_told: bool,
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

    /// Returns the error that the connection is ending with, to the caller of another operation than receiving.
    pub(crate) fn tell(&mut self) -> Option<Error> {
        let known = self.known.as_mut()?;
        known.is_told = true;
        known.error.clone()
    }

    /// Ends without a caller that receives the outcome. Returns the error if no caller has received it before.
    pub(crate) fn abandon(&mut self) -> Option<Error> {
        let is_told = self.known.as_ref().is_some_and(|known| known.is_told);
        self.report().err().filter(|_| !is_told)
    }

    /// Ends, and returns the outcome to report.
    pub(crate) fn report(&mut self) -> Result<(), Error> {
        self.phase = Phase::Ended;
        self.known.as_mut().and_then(|known| known.error.take()).map_or(Ok(()), Err)
    }
}
