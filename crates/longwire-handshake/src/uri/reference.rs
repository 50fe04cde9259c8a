//! References, such as the target of a redirect (RFC 3986 §5).
//!
//! Owns their resolution, and whether the first URI's credentials apply to the result. The caller decides whether
//! to follow a redirect.

use http::uri::PathAndQuery;

use super::{UriError, WebSocketUri};

impl WebSocketUri {
    /// Resolves a reference, such as a `Location`, against this URI (RFC 3986 §5.2).
    ///
    /// The credentials of this URI are kept if the result has the same [origin](Self::is_same_origin), and dropped
    /// otherwise. Credentials in the reference are ignored: they would let another party choose the caller's
    /// identity.
    ///
    /// # Errors
    ///
    /// [`UriError`] if the result is not a WebSocket URI, for example because it has a fragment or a scheme such as
    /// `file`.
    pub fn join(&self, reference: &str) -> Result<Self, UriError> {
        let scheme = if self.secure { "wss" } else { "ws" };
        let text = if has_scheme(reference) {
            reference.to_owned()
        } else if reference.starts_with("//") {
            format!("{scheme}:{reference}")
        } else {
            format!("{scheme}://{}{}", self.authority(), self.merge(reference))
        };
        let mut uri = Self::parse(&text)?;
        uri.target = without_dots(&uri.target)?;
        uri.credentials = if uri.is_same_origin(self) { self.credentials.clone() } else { None };
        Ok(uri)
    }

    /// Returns whether scheme, host (with its zone) and port are equal, so that a secret for one URI may be sent to
    /// the other.
    ///
    /// `ws` and `wss` are different origins, on any port.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure
            && self.host == other.host
            && self.zone == other.zone
            && self.port == other.port
    }

    /// Replaces this URI's path and query with a reference that has no authority.
    fn merge(&self, reference: &str) -> String {
        let path = self.target.path();
        match reference.as_bytes().first() {
            None => self.target.to_string(),
            Some(b'/') => reference.to_owned(),
            Some(b'?') => format!("{path}{reference}"),
            Some(_) => {
                // "all but the last segment of the base URI's path" (§5.2.3)
                let directory = path.rfind('/').map_or("/", |last| &path[..=last]);
                format!("{directory}{reference}")
            }
        }
    }
}

/// Returns whether a reference begins with a scheme: `scheme ":"`, before any other delimiter (RFC 3986 §3.1,
/// §4.1).
fn has_scheme(reference: &str) -> bool {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    reference.split_once(':').is_some_and(|(before, _)| is_scheme(before))
}

/// Removes the segments `.` and `..` of a path (RFC 3986 §5.2.4).
fn without_dots(target: &PathAndQuery) -> Result<PathAndQuery, UriError> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = target.path().split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    PathAndQuery::from_maybe_shared(format!("/{}{query}", kept.join("/"))).map_err(|_| UriError::Target)
}
