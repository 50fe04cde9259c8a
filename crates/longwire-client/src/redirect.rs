//! Redirects: their recognition, their target, and options that the new server must not see (RFC 9110 §15.4).

use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN};
use http::{StatusCode, response};
use longwire_handshake::{ClientOptions, PeerText, UriError, WebSocketUri};

use crate::trace::Logged;

/// The reason why a redirect was not followed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// The target is not a WebSocket URL.
    #[error("redirect to {location} cannot be followed: {error}")]
    Location {
        /// The value of `Location` up to its query, without a user and password.
        location: PeerText,
        /// The error in it.
        error: UriError,
    },
    /// The redirect leads from TLS to a plain connection, which
    /// [`dangerously_follow_to_plain`](crate::Client::dangerously_follow_to_plain) would allow.
    #[error("redirect from a TLS connection to the unencrypted {}", Logged(.location))]
    Plain {
        /// The target of the redirect.
        location: Box<WebSocketUri>,
    },
    /// `Location` is repeated.
    #[error("redirect has more than one Location header")]
    Repeated,
    /// The redirect would exceed the allowed number.
    #[error("more than {limit} redirects")]
    TooMany {
        /// The allowed number of redirects.
        limit: usize,
    },
}

longwire_connection::debug_with_causes!(RedirectError);

/// Returns the target of a redirect; `None` if the response is not a redirect.
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
    let location = || PeerText::new(without_secrets(location.as_bytes()));
    Some(joined.map_err(|error| RedirectError::Location { location: location(), error }))
}

/// Removes the query and the user and password of a URL, which may be secret.
fn without_secrets(location: &[u8]) -> Vec<u8> {
    let is_end = |byte: &u8| matches!(byte, b'?' | b'#');
    let shown = &location[..location.iter().position(is_end).unwrap_or(location.len())];
    let Some(authority) = shown.windows(2).position(|pair| pair == b"//").map(|at| at + 2) else {
        return shown.to_vec();
    };
    let (scheme, rest) = shown.split_at(authority);
    let host = rest
        .split(|&byte| byte == b'/')
        .next()
        .and_then(|authority| authority.iter().rposition(|&byte| byte == b'@'));
    [scheme, &rest[host.map_or(0, |at| at + 1)..]].concat()
}

/// Removes the options that are meant only for the first origin. They stay removed, even if a redirect leads back.
pub(crate) fn leave_origin(options: &mut ClientOptions) {
    // Otherwise the new server would assume that the page named in `Origin` chose to connect to it.
    options.origin = None;
    for name in [AUTHORIZATION, COOKIE, HOST, ORIGIN] {
        options.headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_location_are_not_shown() {
        for (location, shown) in [
            ("wss://user:pw@h/feed?token=S#x", "wss://h/feed"),
            ("ws://a@b@h/x", "ws://h/x"),
            ("//user@h/", "//h/"),
            ("/feed?token=S", "/feed"),
            ("/@x", "/@x"),
            ("", ""),
        ] {
            let shown_now = without_secrets(location.as_bytes());
            assert_eq!(String::from_utf8_lossy(&shown_now), shown, "{location}");
        }
    }
}
