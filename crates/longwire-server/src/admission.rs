//! Deciding on a client before its handshake is completed.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use longwire_connection::Config;
use longwire_handshake::{Accepted, AcceptedError, Rejection, Subprotocol};
use longwire_hub::ClientInfo;

use crate::Request;
use crate::gate::Gate;

/// A client whose request has passed every check of the handshake, and that waits for the answer.
///
/// What the hook of [`Server::authorize`](crate::Server::authorize) gets, changes and returns. It derefs to the [`Request`].
pub struct Admission {
    pub(crate) request: Request,
    pub(crate) accepted: Accepted,
    pub(crate) gate: Arc<Gate>,
    pub(crate) connection: Option<Box<Config>>,
    pub(crate) client: ClientInfo,
}

impl Admission {
    /// Hands a value to the handler, which finds it with [`Request::data`]: who the client is, what it may do. A second one
    /// replaces the first.
    #[must_use]
    pub fn with_data<D: Any + Send + Sync>(mut self, data: D) -> Self {
        self.request.set_data(Box::new(data));
        self
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn offered_subprotocols(&self) -> &[Subprotocol] {
        self.accepted.offered_subprotocols()
    }

    /// The subprotocol that is going to be spoken.
    pub fn subprotocol(&self) -> Option<&str> {
        self.accepted.subprotocol().map(Subprotocol::as_str)
    }

    /// Selects a subprotocol in place of the one that was negotiated, or none.
    ///
    /// # Errors
    ///
    /// [`AcceptedError::NotOffered`] if the client does not offer it (RFC 6455 §4.2.2): nothing is changed. `?` makes a 500
    /// of it.
    pub fn select_subprotocol(&mut self, subprotocol: Option<&Subprotocol>) -> Result<(), AcceptedError> {
        self.accepted.select_subprotocol(subprotocol.cloned())
    }

    /// Adds a header to the answer, such as `Set-Cookie`.
    ///
    /// # Errors
    ///
    /// [`AcceptedError::Reserved`] for those that the handshake writes itself. `?` makes a 500 of it.
    pub fn response_header(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), AcceptedError> {
        self.accepted.append_header(name, value)
    }

    /// How this connection will behave: the server's settings, to be changed for this client alone.
    ///
    /// What comes after the handshake can be changed here: limits on messages, the rate limit, the budget of memory,
    /// keepalive, pongs, the deadline of the closing handshake and the send queue.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use longwire_server::{Server, SlowPolicy};
    /// # async fn example() -> Result<(), longwire_server::Error> {
    /// let server = Server::bind("127.0.0.1:8080").await?.authorize(|mut admission| async move {
    ///     if admission.uri().path() == "/upload" {
    ///         admission.connection().limits.max_message = Some(256 << 20);
    ///         admission.client_info().slow_policy = Some(SlowPolicy::DropNewest);
    ///     }
    ///     Ok(admission)
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn connection(&mut self) -> &mut Config {
        self.connection.get_or_insert_with(|| Box::new(self.gate.config.connection.clone()))
    }

    /// What the hub will know of this client, and where it treats it otherwise than all: what happens if it does not keep
    /// up, how much may wait for it, how many rooms it may be in, and what the application keeps for it.
    ///
    /// Its address and its place are set by the server, whatever is set here.
    pub fn client_info(&mut self) -> &mut ClientInfo {
        &mut self.client
    }

    /// Has this connection do without compression, whatever the client offers and the server accepts.
    #[cfg(feature = "deflate")]
    pub fn decline_deflate(&mut self) {
        self.accepted.decline_deflate();
    }
}

impl Deref for Admission {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Decides on clients.
pub(crate) type Authorize = Arc<
    dyn Fn(Admission) -> Pin<Box<dyn Future<Output = Result<Admission, Rejection>> + Send>> + Send + Sync,
>;
