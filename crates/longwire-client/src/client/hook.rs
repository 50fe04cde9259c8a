//! The function of the application that sees each request before it is sent.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use longwire_handshake::{ClientOptions, WebSocketUri};

/// The function to call before each request.
#[derive(Clone, Default)]
pub(super) struct Hook(Option<Arc<OnRequest>>);

pub(super) type OnRequest = dyn Fn(&WebSocketUri, &mut HeaderMap) + Send + Sync;

impl Hook {
    pub(super) fn new(on_request: Arc<OnRequest>) -> Self {
        Self(Some(on_request))
    }

    /// Returns the options for one request; `None` if there is no function to change them.
    pub(super) fn options(&self, uri: &WebSocketUri, options: &ClientOptions) -> Option<ClientOptions> {
        let hook = self.0.as_ref()?;
        let mut options = options.clone();
        hook(uri, &mut options.headers);
        Some(options)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}
