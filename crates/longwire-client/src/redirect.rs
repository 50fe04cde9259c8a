//! Redirects: which answers are one, where they lead, and what must not go along (RFC 9110 §15.4).

use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN};
use http::{StatusCode, response};
use longwire_handshake::{ClientOptions, PeerText, UriError, WebSocketUri};

/// Why a redirect was not followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// It leads to something that is no WebSocket.
    #[error("redirect to {location} cannot be followed")]
    Location {
        /// What the server said.
        location: PeerText,
        /// What is wrong with it.
        source: UriError,
    },
    /// It leads from TLS to a plain connection, which
    /// [`dangerously_follow_to_plain`](crate::Client::dangerously_follow_to_plain) would allow.
    #[error("redirect leads from TLS to the plain connection {location}")]
    Plain {
        /// Where it leads.
        location: Box<WebSocketUri>,
    },
    /// `Location` is repeated.
    #[error("redirect has more than one Location")]
    Repeated,
    /// It would have been one more than is allowed.
    #[error("more than {limit} redirects")]
    TooMany {
        /// How many are allowed.
        limit: usize,
    },
}

/// Returns where an answer leads to; `None` if it is no redirect.
pub(crate) fn target(
    answer: &response::Parts,
    from: &WebSocketUri,
) -> Option<Result<WebSocketUri, RedirectError>> {
    let leads_elsewhere = matches!(
        answer.status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !leads_elsewhere {
        return None;
    }
    let mut locations = answer.headers.get_all(LOCATION).iter();
    let location = locations.next()?;
    if locations.next().is_some() {
        return Some(Err(RedirectError::Repeated));
    }
    let joined = location.to_str().map_err(|_| UriError::Target).and_then(|text| from.join(text));
    Some(joined.map_err(|source| RedirectError::Location { location: PeerText::new(location), source }))
}

/// Removes what was meant for the first origin alone. It stays away, even if a later redirect leads back.
pub(crate) fn leave_origin(options: &mut ClientOptions) {
    // Another server would take the page that `Origin` names for the one that chose to connect to it.
    options.origin = None;
    for name in [AUTHORIZATION, COOKIE, HOST, ORIGIN] {
        options.headers.remove(name);
    }
}
