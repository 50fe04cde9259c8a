//! The decision on a client before its handshake completes.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use longwire_connection::Config;
use longwire_handshake::{Accepted, AcceptedError, Rejection, Subprotocol};
use longwire_hub::ClientInfo;

use crate::{Request, ServerConfig};

/// A client whose request has passed every check of the handshake and that waits for the response.
///
/// The hook of [`Server::authorize`](crate::Server::authorize) receives it, may change it, and returns it. It
/// derefs to the [`Request`].
pub struct Admission {
    pub(crate) request: Request,
    pub(crate) accepted: Accepted,
    /// The server's settings.
    pub(crate) config: Arc<ServerConfig>,
    /// Settings for this connection, once the application has asked for them.
    pub(crate) connection: Option<Box<Config>>,
    pub(crate) client: ClientInfo,
}

impl Admission {
    /// Attaches a value to the client, such as its identity or permissions. It is read with [`Request::data`],
    /// `Socket::data` and [`ClientHandle::data`](crate::ClientHandle::data). There can be one value of each type; a
    /// second one takes the place of the first.
    #[must_use]
    pub fn with_data<D: Any + Send + Sync>(self, data: D) -> Self {
        self.request.client_data().replace(data);
        self
    }

    /// Sets the client's key, such as the ID of its user, for `Hub::send_to`: see
    /// [`ClientHandle::set_key`](crate::ClientHandle::set_key). A connection whose key is longer than 1024 bytes is
    /// closed with 1011.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.client = self.client.key(key);
        self
    }

    /// Returns the subprotocols that the client offers, in its order of preference.
    pub fn offered_subprotocols(&self) -> &[Subprotocol] {
        self.accepted.offered_subprotocols()
    }

    /// Returns the subprotocol of the connection, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.accepted.subprotocol().map(Subprotocol::as_str)
    }

    /// Replaces the negotiated subprotocol; `None` selects none.
    ///
    /// # Errors
    ///
    /// [`AcceptedError::NotOffered`] if the client does not offer it (RFC 6455 §4.2.2); nothing is changed. `?`
    /// turns it into a 500.
    pub fn select_subprotocol(&mut self, subprotocol: Option<&Subprotocol>) -> Result<(), AcceptedError> {
        self.accepted.select_subprotocol(subprotocol.cloned())
    }

    /// Adds a header to the response, such as `Set-Cookie`.
    ///
    /// # Errors
    ///
    /// [`AcceptedError::Reserved`] for headers that the handshake writes itself. `?` turns it into a 500.
    pub fn response_header(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), AcceptedError> {
        self.accepted.append_header(name, value)
    }

    /// Returns the settings of this connection: a copy of the server's, which can be changed for this client only.
    ///
    /// Settings that apply after the handshake can be changed here: limits on messages, the rate limit, the memory
    /// budget, keepalive, pongs, the deadline of the closing handshake and the send queue.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use longwire_server::{Server, SlowPolicy};
    /// # async fn example() -> Result<(), longwire_server::Error> {
    /// let server = Server::bind("127.0.0.1:8080").await?.authorize(|mut admission| async move {
    ///     if admission.uri().path() == "/upload" {
    ///         admission.connection_config().limits.max_message = Some(256 << 20);
    ///         admission.client_info().slow_policy = Some(SlowPolicy::DropNewest);
    ///     }
    ///     Ok(admission)
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn connection_config(&mut self) -> &mut Config {
        self.connection.get_or_insert_with(|| Box::new(self.config.connection.clone()))
    }

    /// Returns the hub's settings for this client, which can differ from those for all: its slow-client policy, its
    /// maximum queue and its maximum number of rooms. For the application's data and the key, use
    /// [`with_data`](Self::with_data) and [`with_key`](Self::with_key).
    ///
    /// The server sets the client's address and place, and overrides any set here.
    pub fn client_info(&mut self) -> &mut ClientInfo {
        &mut self.client
    }

    /// Declines compression for this connection, regardless of the client's offer and the server's options.
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

/// A hook that decides on clients.
pub(crate) type Authorize = Arc<
    dyn Fn(Admission) -> Pin<Box<dyn Future<Output = Result<Admission, Rejection>> + Send>> + Send + Sync,
>;
