//! Paths and their handlers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use longwire_handshake::{PeerText, Rejection};

use crate::route::{Route, mistake};
use crate::{Error, HandlerResult, Request, Socket};

/// A boxed handler, because the handlers of different paths have different types.
pub(crate) type BoxHandler =
    Arc<dyn Fn(Socket, Request) -> Pin<Box<dyn Future<Output = HandlerResult> + Send>> + Send + Sync>;

/// The paths of a server.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    table: matchit::Router<usize>,
    handlers: Vec<BoxHandler>,
    /// Set if another handler serves the paths that are not listed.
    pub(crate) others: bool,
}

impl Routes {
    pub(crate) fn add(&mut self, path: &str, handler: BoxHandler) -> Result<(), Error> {
        if let Some(reason) = mistake(path) {
            return Err(Error::Route { path: path.to_owned(), reason });
        }
        self.table
            .insert(path, self.handlers.len())
            .map_err(|error| Error::Route { path: path.to_owned(), reason: error.to_string() })?;
        self.handlers.push(handler);
        Ok(())
    }

    /// Finds the handler of a request.
    pub(crate) fn find(&self, request: &mut Request) -> Result<(), Rejection> {
        if self.handlers.is_empty() {
            return Ok(());
        }
        let path = request.uri().path();
        match self.table.at(path) {
            Ok(found) => match Route::new(*found.value, found.params.iter()) {
                Some(route) => {
                    request.set_route(route);
                    Ok(())
                }
                None => Err(Rejection::NotFound { path: PeerText::new(path) }),
            },
            Err(_) if self.others => Ok(()),
            Err(_) => Err(Rejection::NotFound { path: PeerText::new(path) }),
        }
    }

    /// Returns the handler that was found for a request.
    pub(crate) fn handler(&self, request: &Request) -> Option<&BoxHandler> {
        self.handlers.get(request.route()?.index())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("handlers", &self.handlers.len()).finish_non_exhaustive()
    }
}
