//! The client over HTTP/2: many sockets on one connection, each opened by an extended CONNECT (RFC 8441).
//!
//! Owns deadlines and the order of steps. The format of requests and responses is in `longwire-handshake`.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longwire_connection::{Config, Deadline, Handover, WebSocket, random::masking_key};
use longwire_handshake::{
    ClientOptions, ConnectHandshake, OptionsError, ResponseError, UriError, WEBSOCKET, WebSocketUri,
};
use tokio::time::sleep;
use tracing::debug;

use self::watch::{Seen, Watched};
use crate::{BoxError, CONNECTION_WINDOW, Http2Stream, STREAM_WINDOW};

mod watch;

/// Options to open a WebSocket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Headers, origin, subprotocols. Default: none. Compression is offered by default, with the feature `deflate`.
    pub handshake: ClientOptions,
    /// The configuration of the open connection.
    pub connection: Config,
    /// The time limit for the whole handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// The maximum number of bytes of the body to keep if the server refuses. Default 64 KiB.
    pub max_refusal_body: usize,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            handshake: offered(),
            connection: Config::default(),
            handshake_timeout: Duration::from_secs(10),
            max_refusal_body: 64 * 1024,
        }
    }
}

impl ConnectOptions {
    /// Sets [`handshake`](Self::handshake).
    #[must_use]
    pub fn with_handshake(mut self, handshake: ClientOptions) -> Self {
        self.handshake = handshake;
        self
    }

    /// Sets [`connection`](Self::connection).
    #[must_use]
    pub fn with_connection(mut self, connection: Config) -> Self {
        self.connection = connection;
        self
    }

    /// Sets [`handshake_timeout`](Self::handshake_timeout).
    #[must_use]
    pub fn with_handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.handshake_timeout = handshake_timeout;
        self
    }

    /// Sets [`max_refusal_body`](Self::max_refusal_body).
    #[must_use]
    pub fn with_max_refusal_body(mut self, max_refusal_body: usize) -> Self {
        self.max_refusal_body = max_refusal_body;
        self
    }
}

/// An HTTP/2 connection to a server that supports WebSocket over it. Clones share the connection, which ends when
/// the last clone and the last of its sockets are gone.
///
/// `B` is the body type of the connection's other requests.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use longwire_hyper::http2::{ConnectOptions, Http2};
/// use tokio::net::TcpStream;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let io = TcpStream::connect("127.0.0.1:8080").await?;
/// let server: Http2 = Http2::handshake(io, Duration::from_secs(10)).await?;
/// let options = ConnectOptions::default();
/// let (mut chat, _) = server.connect("ws://127.0.0.1:8080/chat", &options).await?;
/// let (mut news, _) = server.connect("ws://127.0.0.1:8080/news", &options).await?;
/// chat.send("hello").await?;
/// news.close(1000, "").await?;
/// # Ok(())
/// # }
/// ```
pub struct Http2<B = String> {
    requests: SendRequest<B>,
    /// `None` if the connection was set up elsewhere.
    seen: Option<Arc<Seen>>,
}

impl<B> Http2<B>
where
    B: Body + Default + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Starts HTTP/2 on a stream, with prior knowledge or after ALPN has selected `h2`, and waits for the
    /// server's settings.
    ///
    /// A separate task drives the connection. A socket that its application does not read does not hold up others:
    /// up to [`STREAM_WINDOW`] bytes wait for it, and [`CONNECTION_WINDOW`] is enough for 256 such sockets.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] as soon as the server's settings have arrived and do not allow extended CONNECT:
    /// use HTTP/1.1 instead. [`Error::Timeout`] if they have not arrived within `limit`; [`Error::Http`] or
    /// [`Error::ClosedEarly`] if the connection ended before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the stream is dropped with it.
    pub async fn handshake<T: longwire_connection::Transport>(io: T, limit: Duration) -> Result<Self, Error> {
        let deadline = Deadline::after(limit);
        within(deadline, Error::Timeout { limit }, async {
            let (io, seen) = Watched::new(io);
            let (requests, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake::<_, B>(TokioIo::new(io))
                .await?;
            let mut connection = Box::pin(connection);
            // hyper reads in its own task, which wakes no other task for the settings, and a spawned connection
            // cannot be queried. So the connection is queried again after the settings have arrived, until hyper has
            // processed them.
            let mut pause = FIRST_LOOK;
            while !connection.is_extended_connect_protocol_enabled() {
                let wait = pause;
                let mut look = pin!(async {
                    match seen.allows_connect() {
                        Some(_) => sleep(wait).await,
                        None => seen.settings_came().await,
                    }
                });
                let ended = poll_fn(|cx| match connection.as_mut().poll(cx) {
                    Poll::Ready(ended) => Poll::Ready(Some(ended)),
                    Poll::Pending => look.as_mut().poll(cx).map(|()| None),
                });
                match ended.await {
                    Some(Ok(())) => return Err(Error::ClosedEarly),
                    Some(Err(error)) => return Err(error.into()),
                    None if seen.allows_connect() == Some(false) => return Err(Error::NotSupported),
                    None => pause = (pause * 2).min(LAST_LOOK),
                }
            }
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "an HTTP/2 connection failed");
                }
            });
            Ok(Self { requests, seen: Some(seen) })
        })
        .await
    }

    /// Takes over a connection that is driven elsewhere.
    ///
    /// The server must allow extended CONNECT: see hyper's `Connection::is_extended_connect_protocol_enabled`. A
    /// server that does not allow it ends the stream with `PROTOCOL_ERROR`. The windows are those of the
    /// connection's builder; see [`STREAM_WINDOW`] for the values to choose. If the server has announced the end
    /// of the connection, the error is [`Error::Http`].
    pub fn from_requests(requests: SendRequest<B>) -> Self {
        Self { requests, seen: None }
    }

    /// Opens one WebSocket; returns it and the server's response.
    ///
    /// The URL selects the resource; its scheme may be `ws`, `wss`, `http` or `https`.
    ///
    /// # Errors
    ///
    /// [`Error::Uri`] or [`Error::Options`] before anything is sent; [`Error::GoAway`] if the server takes no
    /// more requests on this connection, on which open sockets may continue; [`Error::UnexpectedResponse`] if the
    /// server refuses; otherwise the error with which the attempt failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the stream is reset. The connection remains usable.
    pub async fn connect(
        &self,
        url: &str,
        options: &ConnectOptions,
    ) -> Result<(WebSocket<Http2Stream>, Response<()>), Error> {
        let handshake = ConnectHandshake::new(&WebSocketUri::parse(url)?, &options.handshake)?;
        let limit = options.handshake_timeout;
        let deadline = Deadline::after(limit);
        let exchange = self.exchange(handshake.request());
        let response = within(deadline, Error::Timeout { limit }, exchange).await;
        let mut response = response.map_err(|error| self.explain(error))?;
        let on_upgrade = hyper::upgrade::on(&mut response);
        let (head, body) = response.into_parts();
        let agreement = match handshake.verify(&head) {
            Ok(agreement) => agreement,
            Err(ResponseError::ConnectStatus { .. }) => {
                let (body, body_is_whole) = read_body(body, deadline, options.max_refusal_body).await;
                let response = Box::new(Response::from_parts(head, body));
                return Err(Error::UnexpectedResponse { response, body_is_whole });
            }
            Err(error) => return Err(error.into()),
        };
        let upgraded = within(deadline, Error::Timeout { limit }, async { Ok(on_upgrade.await?) }).await?;
        let subprotocol = agreement.subprotocol.map(|name| name.as_str().to_owned());
        let handover = Handover::client(masking_key).subprotocol(subprotocol);
        #[cfg(feature = "deflate")]
        let handover = match (agreement.deflate, &options.handshake.deflate) {
            (Some(agreement), Some(options)) => handover.deflate(agreement, options),
            _ => handover,
        };
        let stream = Http2Stream::new(upgraded, options.connection.close_timeout);
        let ws = WebSocket::new(stream, handover, &options.connection);
        Ok((ws, Response::from_parts(head, ())))
    }

    async fn exchange(&self, handshake: &Request<()>) -> Result<Response<Incoming>, Error> {
        let mut request = handshake.clone().map(|()| B::default());
        request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
        let mut requests = self.requests.clone();
        requests.ready().await?;
        Ok(requests.send_request(request).await?)
    }

    /// Adds the server's GOAWAY to an error of hyper's, which reports a request that came too late as canceled.
    fn explain(&self, error: Error) -> Error {
        match (error, self.seen.as_ref().and_then(|seen| seen.goaway())) {
            (Error::Http(source), Some(code)) => Error::GoAway { code, source },
            (error, _) => error,
        }
    }
}

impl<B> Clone for Http2<B> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), seen: self.seen.clone() }
    }
}

impl<B> fmt::Debug for Http2<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").finish_non_exhaustive()
    }
}

/// The reason why a WebSocket or its connection could not be opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, redirected or asked for credentials: its status is not a 2xx.
    #[error("server answered with status {} instead of 2xx", .response.status())]
    UnexpectedResponse {
        /// The response, with the part of its body that was read.
        response: Box<Response<Bytes>>,
        /// `true` if the body is complete: not cut off by the server, the deadline, or the limit on its size.
        body_is_whole: bool,
    },
    /// The server's response selects something that was not offered (RFC 6455 §4.1).
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The server's settings do not allow extended CONNECT (RFC 8441 §3).
    #[error("server does not allow WebSocket over HTTP/2")]
    NotSupported,
    /// The server takes no more requests on the connection (RFC 9113 §6.8), and did not answer this one. Use
    /// another connection. It is not known whether the server had begun to process this request.
    #[error("server accepts no more requests on this connection (GOAWAY, error code {code})")]
    GoAway {
        /// The error code: 0 if there is no error, as when the server is about to stop (RFC 9113 §7).
        code: u32,
        /// The error that hyper reported.
        source: hyper::Error,
    },
    /// The attempt did not complete by its deadline.
    #[error("handshake did not complete within {limit:?}")]
    Timeout {
        /// The total time allowed.
        limit: Duration,
    },
    /// The server ended the connection before its settings arrived.
    #[error("connection closed before the handshake was complete")]
    ClosedEarly,
    /// The URL is not that of a WebSocket; nothing was sent.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The headers or subprotocols cannot be sent; nothing was sent.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The HTTP/2 connection or the stream failed.
    #[error("HTTP/2 failed during the handshake")]
    Http(#[from] hyper::Error),
}

longwire_connection::debug_with_causes!(Error);

async fn within<T>(
    deadline: Deadline,
    late: Error,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    deadline.run(step).await.unwrap_or(Err(late))
}

/// Reads the body of a refusal until the deadline; returns it, and whether it is complete.
async fn read_body(body: Incoming, deadline: Deadline, limit: usize) -> (Bytes, bool) {
    let mut kept = BytesMut::new();
    let mut body = pin!(body);
    let reading = async {
        loop {
            match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    let room = limit - kept.len();
                    if data.remaining() > room {
                        kept.extend_from_slice(&data.copy_to_bytes(room));
                        return false;
                    }
                    kept.extend_from_slice(&data);
                }
            }
        }
    };
    let is_whole = deadline.run(reading).await.unwrap_or(false);
    (kept.freeze(), is_whole)
}

/// The first wait for hyper to process the settings that it has read: enough on an idle machine.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// The longest such wait.
const LAST_LOOK: Duration = Duration::from_millis(32);

/// Returns the default options, which offer compression if this crate can compress.
fn offered() -> ClientOptions {
    #[cfg(feature = "deflate")]
    let options =
        ClientOptions::default().with_deflate(longwire_handshake::deflate::DeflateOptions::default());
    #[cfg(not(feature = "deflate"))]
    let options = ClientOptions::default();
    options
}
