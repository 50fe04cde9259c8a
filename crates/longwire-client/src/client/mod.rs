//! The builder of a connection: the request, its deadline and its limits.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, ORIGIN};
use http::{HeaderName, HeaderValue, Response};
use longwire_connection::WebSocket;
use longwire_handshake::{ClientHandshake, ClientOptions, HeadLimits, Subprotocol, WebSocketUri};

use tracing::{Instrument as _, debug};

use self::hook::Hook;
use crate::connector::Connector;
use crate::deadline::Deadline;
use crate::trace::{self, Logged};
use crate::{ClientStream, Config, Error, InvalidOption, RedirectError, handshake, random, redirect};

mod connector;
mod hook;
mod identity;

/// A client: a URL and the options of its request. It can connect any number of times.
///
/// Every option is checked before anything is sent: [`connect`](Self::connect) fails with the first that is invalid.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use longwire_client::{Client, Error};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new("ws://user:secret@example.com:8080/chat?room=1")
///     .header("x-request-id", "42")
///     .origin("https://example.com")
///     .subprotocol("chat.v2")
///     .subprotocol("chat.v1")
///     .handshake_timeout(Duration::from_secs(3));
///
/// match client.connect().await {
///     Ok((mut ws, response)) => {
///         println!("{:?} over {:?}", ws.subprotocol(), response.headers().get("server"));
///         ws.close(1000, "").await?;
///     }
///     Err(Error::UnexpectedResponse { response, .. }) => {
///         println!("{}: {}", response.status(), String::from_utf8_lossy(response.body()));
///     }
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a client does nothing until it connects"]
pub struct Client {
    url: String,
    options: ClientOptions,
    hook: Hook,
    /// The first invalid option.
    fault: Option<InvalidOption>,
    handshake_timeout: Duration,
    head_limits: HeadLimits,
    max_refusal_body: usize,
    config: Config,
    redirects: usize,
    /// Allows redirects from TLS to a plain connection.
    follows_to_plain: bool,
    connector: Connector,
}

impl Client {
    /// Creates a client for a `ws`, `wss`, `http` or `https` URL or, on Unix, for a URL such as
    /// `ws+unix:/run/socket:/chat`: the path of a socket, up to the next colon, then the path and
    /// query to request.
    ///
    /// The URL's user and password are percent-decoded and sent as `Basic`, unless an `Authorization` header is set.
    /// An IPv6 address may have a zone, as in `ws://[fe80::1%25eth0]/`.
    pub fn new(url: impl Into<String>) -> Self {
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut client = Self {
            url: url.into(),
            options: offered(),
            hook: Hook::default(),
            fault: None,
            handshake_timeout: Duration::from_secs(10),
            head_limits: HeadLimits::default(),
            max_refusal_body: 64 * 1024,
            config: Config::default(),
            redirects: 0,
            follows_to_plain: false,
            connector: Connector::default(),
        };
        #[cfg(unix)]
        match crate::unix::parse(&client.url) {
            None => {}
            Some(Ok((path, url))) => {
                client.url = url;
                client = client.unix_socket(path);
            }
            Some(Err(fault)) => client.note(Err(fault)),
        }
        client
    }

    /// Adds a header to the request.
    ///
    /// `Host` and `Authorization` replace the values from the URL. Headers that the handshake itself writes, such as
    /// `Connection` and `Sec-WebSocket-Key`, are refused, and so is a second `Host`, `Authorization` or `Origin`.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let added = name.try_into().map_err(|_| InvalidOption::HeaderName).and_then(|name| {
            let mut value = header_value(&name, value)?;
            // Keeps the value out of a request's `Debug` output.
            value.set_sensitive(name == AUTHORIZATION || name == COOKIE);
            let appended = self.options.headers.try_append(name, value);
            appended.map(drop).map_err(|_| InvalidOption::TooManyHeaders)
        });
        self.note(added);
        self
    }

    /// Sets the `Origin` header, which browsers send and other programs need not. Default: none.
    pub fn origin<V: TryInto<HeaderValue>>(mut self, origin: V) -> Self {
        let set = header_value(&ORIGIN, origin).map(|origin| self.options.origin = Some(origin));
        self.note(set);
        self
    }

    /// Offers a subprotocol, after those offered before. Default: none.
    ///
    /// The server selects one of them or none: see [`WebSocket::subprotocol`].
    pub fn subprotocol<P>(mut self, name: P) -> Self
    where
        P: TryInto<Subprotocol>,
        P::Error: Into<InvalidOption>,
    {
        let name = name.try_into().map_err(Into::into);
        let added = name.map(|name| self.options.subprotocols.push(name));
        self.note(added);
        self
    }

    /// Offers compression with these options (RFC 7692), or, with `None`, does not offer it. Default: offered with
    /// [`DeflateOptions::default`](longwire_handshake::deflate::DeflateOptions).
    ///
    /// If the server declines, nothing is compressed.
    #[cfg(feature = "deflate")]
    pub fn deflate(
        mut self,
        options: impl Into<Option<longwire_handshake::deflate::DeflateOptions>>,
    ) -> Self {
        self.options.deflate = options.into();
        self
    }

    /// Sets the time limit of [`connect`](Self::connect), from resolving the name to the last byte of the response.
    /// Default: 10 s.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Sets the limits on the head of the response. Default: 16 KiB and 100 fields.
    pub fn head_limits(mut self, limits: HeadLimits) -> Self {
        self.head_limits = limits;
        self
    }

    /// Sets the maximum number of bytes of the body to keep if the server refuses. Default: 64 KiB.
    pub fn max_refusal_body(mut self, limit: usize) -> Self {
        self.max_refusal_body = limit;
        self
    }

    /// Follows up to `max` redirects: 301, 302, 303, 307 and 308 with a `Location`. Default: 0; a redirect is then a
    /// refusal.
    ///
    /// If a redirect leads to another scheme, host or port, the following are not sent there, nor to any later
    /// server:
    ///
    /// - `Authorization`, `Cookie`, and the URL's user and password;
    /// - the client certificate;
    /// - `Origin`, and a `Host` that the caller set.
    ///
    /// Other headers are sent, and so are the offered subprotocols, without which the connection would not be the
    /// requested one: neither should contain a secret. Credentials in a `Location` are never sent. A redirect from
    /// TLS to a plain connection is an error, [`RedirectError::Plain`], unless
    /// [allowed](Self::dangerously_follow_to_plain). One deadline covers all requests.
    pub fn redirects(mut self, max: usize) -> Self {
        self.redirects = max;
        self
    }

    /// Also follows [redirects](Self::redirects) from `wss` to `ws`. Default: they are an error.
    ///
    /// Anyone on the path can then read and change the connection, although the URL requires TLS.
    pub fn dangerously_follow_to_plain(mut self) -> Self {
        self.follows_to_plain = true;
        self
    }

    /// Sets the configuration of the open connection: message limits, keepalive and more. Default:
    /// [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Dials the URL's host and completes the handshake. Returns the connection and the server's response.
    ///
    /// The response's [`extensions`](Response::extensions) contain the [`WebSocketUri`] of the server that sent it,
    /// which redirects may have changed. The host's addresses are raced (RFC 8305); a `wss` or `https` URL is reached
    /// over TLS. One deadline covers the whole attempt.
    ///
    /// # Errors
    ///
    /// [`Error::Uri`] before anything is sent; [`Error::Option`], [`Error::Options`] or [`Error::TlsUnsupported`]
    /// before the request that they concern is sent, which may be the one after a redirect;
    /// [`Error::UnexpectedResponse`] with the response if the server refuses; [`Error::Redirect`] if a redirect cannot
    /// be followed; otherwise the error that ended the attempt.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the attempt ends and its connection is closed.
    pub async fn connect(&self) -> Result<(WebSocket<ClientStream>, Response<()>), Error> {
        self.attempt(None).await
    }

    /// Connects, as the attempt with this number of a reconnecting client if there is one.
    pub(crate) async fn attempt(
        &self,
        number: Option<u32>,
    ) -> Result<(WebSocket<ClientStream>, Response<()>), Error> {
        let uri = self.uri()?;
        let span = trace::attempt_span(&uri, number);
        self.connect_to(uri).instrument(span).await
    }

    async fn connect_to(
        &self,
        mut uri: WebSocketUri,
    ) -> Result<(WebSocket<ClientStream>, Response<()>), Error> {
        let mut options = Cow::Borrowed(&self.options);
        let mut connector = Cow::Borrowed(&self.connector);
        let deadline = Deadline::after(self.handshake_timeout);
        let settings = self.settings(&deadline);
        for hop in 0.. {
            if uri.is_secure() && !cfg!(feature = "tls") {
                return Err(Error::TlsUnsupported);
            }
            let handshake = self.handshake(&uri, &options)?;
            let mut io = deadline.run(&uri, connector.open(&uri, &deadline)).await?;
            let head = handshake::ask(&mut io, &uri, &handshake, settings).await?;
            let target = if self.redirects == 0 { None } else { redirect::target(&head.parts, &uri) };
            let Some(target) = target.transpose()? else {
                return handshake::conclude(io, head, uri, &handshake, settings).await;
            };
            if hop == self.redirects {
                break;
            }
            if uri.is_secure() && !target.is_secure() && !self.follows_to_plain {
                return Err(RedirectError::Plain { location: Box::new(target) }.into());
            }
            debug!(status = head.parts.status.as_u16(), to = %Logged(&target), "following a redirect");
            if !target.is_same_origin(&uri) {
                redirect::leave_origin(options.to_mut());
                connector.to_mut().leave_origin();
            }
            uri = target;
        }
        Err(RedirectError::TooMany { limit: self.redirects }.into())
    }

    /// Completes the handshake over a stream that the caller has connected to the URL's host by other means.
    ///
    /// The URL determines the request; its scheme may be any of the four.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect), except for the errors of dialing.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the stream is dropped with it.
    pub async fn handshake_over<T: longwire_connection::Transport>(
        &self,
        mut io: T,
    ) -> Result<(WebSocket<T>, Response<()>), Error> {
        let uri = self.uri()?;
        let span = trace::attempt_span(&uri, None);
        let handshake = self.handshake(&uri, &self.options)?;
        let deadline = Deadline::after(self.handshake_timeout);
        let settings = self.settings(&deadline);
        let over = async {
            let head = handshake::ask(&mut io, &uri, &handshake, settings).await?;
            handshake::conclude(io, head, uri, &handshake, settings).await
        };
        over.instrument(span).await
    }

    /// Parses the URL, unless an option is invalid.
    fn uri(&self) -> Result<WebSocketUri, Error> {
        match &self.fault {
            Some(fault) => Err(fault.clone().into()),
            None => Ok(WebSocketUri::parse(&self.url)?),
        }
    }

    /// Prepares the request to one server.
    fn handshake(&self, uri: &WebSocketUri, options: &ClientOptions) -> Result<ClientHandshake, Error> {
        let hooked = self.hook.options(uri, options);
        Ok(ClientHandshake::new(uri, random::nonce(), hooked.as_ref().unwrap_or(options))?)
    }

    fn settings<'a>(&'a self, deadline: &'a Deadline) -> handshake::Settings<'a> {
        handshake::Settings {
            deadline,
            head_limits: &self.head_limits,
            max_refusal_body: self.max_refusal_body,
            config: &self.config,
            #[cfg(feature = "deflate")]
            deflate: self.options.deflate.as_ref(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn connector_mut(&mut self) -> &mut Connector {
        &mut self.connector
    }

    /// Keeps the first error.
    fn note(&mut self, set: Result<(), InvalidOption>) {
        if let Err(fault) = set {
            self.fault.get_or_insert(fault);
        }
    }
}

impl fmt::Debug for Client {
    /// Omits the URL's user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("uri", &WebSocketUri::parse(&self.url))
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn header_value<V: TryInto<HeaderValue>>(name: &HeaderName, value: V) -> Result<HeaderValue, InvalidOption> {
    value.try_into().map_err(|_| InvalidOption::HeaderValue { name: name.clone() })
}

/// Returns the default options, which offer compression if this crate can compress.
fn offered() -> ClientOptions {
    #[cfg(feature = "deflate")]
    let options =
        ClientOptions::default().with_deflate(longwire_handshake::deflate::DeflateOptions::default());
    #[cfg(not(feature = "deflate"))]
    let options = ClientOptions::default();
    options
}
