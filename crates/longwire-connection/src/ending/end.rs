//! How far a connection is on its way to its end, and what that end is.
//!
//! Small while the connection is open: what is known of the end is allocated with it.

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
    /// The last frames are written; then this is the end.
    Ending,
    /// The end was reported.
    Ended,
}

#[derive(Debug, Default)]
struct Known {
    error: Option<Error>,
    /// The close frame that came; its content may be nothing.
    #[allow(clippy::option_option, reason = "no close frame and an empty one are two things")]
    close: Option<Option<CloseFrame>>,
}

impl Ending {
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Takes note of the peer's close frame.
    pub(crate) fn note_close(&mut self, frame: Option<CloseFrame>) {
        self.known.get_or_insert_default().close = Some(frame);
    }

    /// The peer's close frame, if it came.
    #[allow(clippy::option_option, reason = "no close frame and an empty one are two things")]
    pub(crate) fn close_received(&self) -> Option<Option<&CloseFrame>> {
        self.known.as_ref()?.close.as_ref().map(Option::as_ref)
    }

    /// Starts the end; what started it before is replaced.
    pub(crate) fn begin(&mut self, outcome: Result<(), Error>) {
        self.phase = Phase::Ending;
        self.known.get_or_insert_default().error = outcome.err();
    }

    /// The error that the connection is ending with.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.known.as_ref()?.error.as_ref()
    }

    /// Ends, and gives what there is to report.
    pub(crate) fn report(&mut self) -> Result<(), Error> {
        self.phase = Phase::Ended;
        self.known.as_mut().and_then(|known| known.error.take()).map_or(Ok(()), Err)
    }
}
