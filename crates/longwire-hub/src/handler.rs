//! Results of handlers, and how their end is logged.

use std::pin::Pin;
use std::task::{Context, Poll};

use longwire_connection::causes::WithCauses;
use longwire_connection::{BoxError, CloseCode, Error};
use pin_project_lite::pin_project;
use tracing::{debug, warn};

use crate::entry::ClientHandle;
use crate::error::RunError;

/// The result of a handler: `?` converts any error to [`BoxError`].
///
/// The connection is closed with 1000 after `Ok` and with 1011 after `Err`, unless it was closed before. Errors
/// are logged with `tracing`: errors that end a connection at level debug, others as warnings.
pub type HandlerResult = Result<(), BoxError>;

/// The return types of handlers: [`HandlerResult`], `()` for a handler that cannot fail, and `!`.
#[diagnostic::on_unimplemented(
    message = "a handler returns `Result<(), BoxError>` or `()`, not `{Self}`",
    label = "returns `{Self}`",
    note = "end the handler with `Ok(())`; in it, `?` converts any error",
    note = "a function that returns another `Result`, such as anyhow's or `Result<(), longwire::Error>`, is called \
            with `Ok(function(ws).await?)`"
)]
pub trait HandlerOutput {
    /// Converts the output.
    fn into_result(self) -> HandlerResult;
}

impl HandlerOutput for HandlerResult {
    #[inline]
    fn into_result(self) -> HandlerResult {
        self
    }
}

impl HandlerOutput for () {
    #[inline]
    fn into_result(self) -> HandlerResult {
        Ok(())
    }
}

/// A handler that never returns, such as one that is a loop without an end.
#[allow(private_interfaces, reason = "the type is `!`, which is not private")]
impl HandlerOutput for Never {
    fn into_result(self) -> HandlerResult {
        self
    }
}

/// The type `!`, which can be written only as the output of a function.
type Never = <fn() -> ! as Function>::Output;

trait Function {
    type Output;
}

impl<T> Function for fn() -> T {
    type Output = T;
}

pin_project! {
    /// The future of a handler, with its output as a result. An `async` block would store the handler twice.
    pub struct Handling<F> {
        #[pin]
        future: F,
    }
}

impl<F> Handling<F> {
    /// Wraps the future of a handler.
    pub fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future<Output: HandlerOutput>> Future for Handling<F> {
    type Output = HandlerResult;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HandlerResult> {
        self.project().future.poll(cx).map(HandlerOutput::into_result)
    }
}

impl RunError<BoxError> {
    /// Returns whether the handler ended because its connection did: [`Error::is_disconnect`] is true for its error.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Handler(error) => error.downcast_ref::<Error>().is_some_and(Error::is_disconnect),
            Self::Refused(_) | Self::Aborted => false,
        }
    }

    /// Formats the error with all its causes.
    fn with_causes(&self) -> String {
        match self {
            Self::Handler(error) => WithCauses(&**error).to_string(),
            other => other.to_string(),
        }
    }
}

impl ClientHandle {
    /// Logs with `tracing` that this client has connected, as servers and mounts do, at level debug.
    pub fn log_start(&self) {
        debug!(id = self.id().value(), peer_addr = self.peer_addr().map(display), "a client connected");
    }

    /// Returns the error of this client's connection with which its handler ended, if it did: the handler's error or
    /// one of its causes.
    ///
    /// A cause may be the error of another connection. If that ended the handler, this client was closed with 1011.
    #[doc(hidden)]
    pub fn disconnect<'e>(&self, ended: &'e RunError<BoxError>) -> Option<&'e Error> {
        let RunError::Handler(error) = ended else {
            return None;
        };
        let failed_first =
            self.sender().close_sent().is_some_and(|frame| frame.code == CloseCode::INTERNAL_ERROR);
        let first: &(dyn std::error::Error + 'static) = &**error;
        let chain = std::iter::successors(Some(first), |error| error.source());
        let mut errors = chain.take(if failed_first { 1 } else { usize::MAX });
        errors.find_map(|error| error.downcast_ref::<Error>()).filter(|error| error.is_disconnect())
    }

    /// Logs the end of this client's handler with `tracing`, as servers and mounts do: at level debug if the client
    /// has left or was dropped by a shutdown, as a warning if the handler failed.
    pub fn log_end(&self, ended: Result<(), RunError<BoxError>>) {
        let (id, peer_addr) = (self.id().value(), self.peer_addr());
        match ended {
            Ok(()) => debug!(id, peer_addr = peer_addr.map(display), "a client disconnected"),
            Err(error) if matches!(error, RunError::Aborted) || self.disconnect(&error).is_some() => {
                debug!(id, peer_addr = peer_addr.map(display), error = %error.with_causes(), "a client disconnected");
            }
            Err(error) => {
                warn!(id, peer_addr = peer_addr.map(display), error = %error.with_causes(), "a handler failed");
            }
        }
    }
}
