//! The builder's options for credentials: user and password, tokens, cookies, and headers computed for each request.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use longwire_handshake::{Login, WebSocketUri};

use super::hook::Hook;
use crate::{Client, InvalidOption};

impl Client {
    /// Sends user and password as `Basic` (RFC 7617), instead of the URL's login and any `Authorization` set before.
    pub fn basic_auth(mut self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        let value = Login::new(user.as_ref(), password.as_ref()).and_then(|login| login.basic());
        let set = value.map(|value| self.insert(AUTHORIZATION, value));
        self.note(set.map_err(InvalidOption::from));
        self
    }

    /// Sends a token as `Bearer` (RFC 6750), instead of the URL's credentials and any `Authorization` set before.
    pub fn bearer(mut self, token: impl AsRef<str>) -> Self {
        let token = token.as_ref();
        let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_token68(token));
        let set = value.map(|value| self.insert(AUTHORIZATION, value));
        self.note(set.ok_or(InvalidOption::Bearer));
        self
    }

    /// Sends a cookie, after those set before, all in one header (RFC 6265 §5.4).
    ///
    /// The name must be a token. The value may contain visible ASCII except `"`, `,`, `;` and `\`, and may be enclosed
    /// in quotes as a whole.
    pub fn cookie(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        let is_valid = HeaderName::try_from(name).is_ok() && is_cookie_value(value);
        let pair = match self.options.headers.get(COOKIE) {
            Some(before) => [before.as_bytes(), b"; ", name.as_bytes(), b"=", value.as_bytes()].concat(),
            None => format!("{name}={value}").into_bytes(),
        };
        let set = HeaderValue::try_from(pair).ok().filter(|_| is_valid).map(|pair| {
            // Further `Cookie` headers that the caller set stay separate.
            if let Some(first) = self.options.headers.get_mut(COOKIE) {
                *first = sensitive(pair);
            } else {
                self.insert(COOKIE, pair);
            }
        });
        self.note(set.ok_or_else(|| InvalidOption::Cookie { name: name.to_owned() }));
        self
    }

    /// Sets a function that is called before each request and may change the caller's headers, for example to sign the
    /// request or to insert a token that is renewed.
    ///
    /// The function gets the URL of the request, which after a redirect may belong to another server, and the headers
    /// that go there, without those of the handshake and the URL's credentials. Its changes are checked like
    /// [`header`](Self::header) and are not kept for the next request.
    ///
    /// ```no_run
    /// # use longwire_client::Client;
    /// # fn token() -> http::HeaderValue { http::HeaderValue::from_static("t") }
    /// let client = Client::new("wss://example.com/").on_request(|uri, headers| {
    ///     if uri.host() == "example.com" {
    ///         headers.insert("x-token", token());
    ///     }
    /// });
    /// ```
    pub fn on_request<F>(mut self, hook: F) -> Self
    where
        F: Fn(&WebSocketUri, &mut HeaderMap) + Send + Sync + 'static,
    {
        self.hook = Hook::new(Arc::new(hook));
        self
    }

    fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.options.headers.insert(name, sensitive(value));
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// "token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="" (RFC 9110 §11.2)
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// `cookie-value` of RFC 6265 §4.1.1.
fn is_cookie_value(text: &str) -> bool {
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    quoted.unwrap_or(text).bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}
