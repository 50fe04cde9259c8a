//! References: where a redirect leads (RFC 3986 §5).
//!
//! Owns their resolution, and what of the first URI's credentials follows them. Whether to follow is the caller's choice.

use http::uri::PathAndQuery;

use super::{UriError, WebSocketUri};

impl WebSocketUri {
    /// Resolves a reference, such as a `Location`, against this URI (RFC 3986 §5.2).
    ///
    /// The credentials of this URI stay where the [origin](Self::is_same_origin) does, and are gone elsewhere. Those of the reference are
    /// never taken: they would be another's choice of who the caller is.
    ///
    /// # Errors
    ///
    /// [`UriError`] if the result names no WebSocket, as a fragment or a scheme such as `file` does.
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

    /// Returns whether scheme, host (with its zone) and port are the same, so that what may be said to the one may be said to the other.
    ///
    /// `ws` and `wss` are two, on whatever port.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure
            && self.host == other.host
            && self.zone == other.zone
            && self.port == other.port
    }

    /// Puts a reference without authority in the place of this URI's path and query.
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

/// Whether a reference begins with a scheme: `scheme ":"`, before any other delimiter (RFC 3986 §3.1, §4.1).
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
