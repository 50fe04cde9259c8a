//! The server: where it listens, how it behaves, and the two ways to get at its clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use longwire_handshake::{OriginPolicy, Rejection, Subprotocol};
use longwire_hub::Hub;
use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};
use tokio::sync::{Mutex, mpsc};

use crate::gate::Gate;
use crate::lifecycle::{Lifecycle, Phase};
use crate::listen::{Pause, Several, next_connection};
use crate::routes::Routes;
use crate::{
    Admission, Error, HandlerResult, Listen, ListenOptions, Listeners, Request, Serve, ServerConfig,
    ServerHandle, Socket, Transport,
};

/// A WebSocket server.
///
/// Dropped, it stops listening; connections that are open go on.
///
/// # Examples
///
/// A handler for every client:
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), longwire_server::Error> {
/// let server = longwire_server::Server::bind("127.0.0.1:8080").await?.subprotocols(["chat"])?;
/// server
///     .serve(|mut ws, _request| async move {
///         ws.send("something").await?;
///         while let Some(message) = ws.recv().await? {
///             ws.send(message).await?;
///         }
///         Ok(())
///     })
///     .await
/// # }
/// ```
///
/// Or one client after the other, in tasks of your own:
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), longwire_server::Error> {
/// let server = longwire_server::Server::bind("127.0.0.1:8080").await?;
/// loop {
///     let (mut ws, request) = server.accept().await?;
///     println!("{:?}", request.peer_addr());
///     tokio::spawn(async move {
///         while let Ok(Some(message)) = ws.recv().await {
///             println!("{message}");
///         }
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    gate: Arc<Gate>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// Which of the lifecycle's listeners is this one's.
    number: usize,
    local_addr: Option<SocketAddr>,
    pull: Mutex<Pull>,
}

/// The handshakes that were begun for [`Server::accept`], and their outcome.
#[derive(Debug)]
struct Pull {
    pause: Pause,
    // Bounded by `max_handshakes`, as nothing is accepted while an outcome waits.
    done: mpsc::UnboundedReceiver<(Socket, Request)>,
    // Gone once nobody is accepted any more, so that `done` ends with the last handshake.
    report: Option<mpsc::UnboundedSender<(Socket, Request)>>,
}

impl Server {
    /// Listens on an address such as `127.0.0.1:8080`; port 0 picks a free one.
    ///
    /// The options are those of [`ListenOptions::default`]. Of several addresses that a name has, it is the first that can
    /// be listened on.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address cannot be resolved or is taken.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing listens.
    pub async fn bind(addr: impl ToSocketAddrs) -> Result<Self, Error> {
        // Not `TcpListener::bind`: its queue of 128 overflows in a burst, and who is dropped asks again after a second.
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        for addr in lookup_host(addr).await.map_err(Error::Bind)? {
            match ListenOptions::default().listen(addr) {
                Ok(listener) => return Self::from_listener(listener),
                Err(error) => failure = error,
            }
        }
        Err(Error::Bind(failure))
    }

    /// Listens on an address with options: the length of the queue, several listeners on one port, IPv6 alone.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address is taken.
    pub fn bind_with(addr: SocketAddr, options: ListenOptions) -> Result<Self, Error> {
        Self::from_listener(options.listen(addr).map_err(Error::Bind)?)
    }

    /// Listens on a Unix socket, which is a file that must not be there yet.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the file is there or cannot be made.
    #[cfg(unix)]
    pub fn bind_unix(path: impl AsRef<std::path::Path>) -> Result<Self, Error> {
        Ok(Self::from_listen(Arc::new(tokio::net::UnixListener::bind(path).map_err(Error::Bind)?)))
    }

    /// Takes over a listener that was made elsewhere, or handed over by another process.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if its address cannot be told.
    pub fn from_listener(listener: TcpListener) -> Result<Self, Error> {
        listener.local_addr().map_err(Error::Bind)?;
        Ok(Self::from_listen(Arc::new(listener)))
    }

    /// Takes connections from anything that accepts some.
    pub fn from_acceptor(listener: impl Listen) -> Self {
        Self::from_listen(Arc::new(listener))
    }

    /// Listens on one more listener, of whatever kind.
    #[must_use]
    pub fn listen_too(mut self, listener: impl Listen) -> Self {
        self.local_addr = self.local_addr.or_else(|| listener.local_addr());
        self.lifecycle.add_listener(self.number, Arc::new(listener));
        self
    }

    /// Goes on where another server has [handed over](ServerHandle::hand_over).
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if there is no listener among them, or one cannot be used.
    pub fn from_listeners(listeners: Listeners) -> Result<Self, Error> {
        let mut listeners = listeners.listen().map_err(Error::Bind)?;
        let listener: Arc<dyn Listen> = match listeners.len() {
            0 => return Err(Error::Bind(io::ErrorKind::InvalidInput.into())),
            1 => listeners.swap_remove(0),
            _ => Arc::new(Several::new(listeners)),
        };
        Ok(Self::from_listen(listener))
    }

    pub(crate) fn from_listen(listener: Arc<dyn Listen>) -> Self {
        let config = ServerConfig::default();
        Self::join(Arc::new(Lifecycle::new(Hub::new(config.hub))), listener, config)
    }

    /// Makes a server that shares its clients, and its end, with others.
    pub(crate) fn join(lifecycle: Arc<Lifecycle>, listener: Arc<dyn Listen>, config: ServerConfig) -> Self {
        let local_addr = listener.local_addr();
        let number = lifecycle.join(listener);
        let (report, done) = mpsc::unbounded_channel();
        Self {
            gate: Arc::new(Gate {
                config,
                #[cfg(feature = "tls")]
                tls: None,
                routes: Routes::default(),
                authorize: None,
                fallback: None,
                on_reject: None,
                hub: lifecycle.hub.clone(),
                pending: Arc::clone(&lifecycle.pending),
                counters: Arc::clone(&lifecycle.counters),
            }),
            lifecycle,
            number,
            local_addr,
            pull: Mutex::new(Pull { pause: Pause::default(), done, report: Some(report) }),
        }
    }

    /// Sets everything that can be set.
    #[must_use]
    pub fn config(self, config: ServerConfig) -> Self {
        self.configure(|current| *current = config)
    }

    /// Changes some of what can be set.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example() -> Result<(), longwire_server::Error> {
    /// let server = longwire_server::Server::bind("127.0.0.1:0").await?.configure(|config| {
    ///     config.connection.limits.max_message = Some(64 * 1024);
    ///     config.shutdown.deadline = Duration::from_secs(3);
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let config = &mut Arc::make_mut(&mut self.gate).config;
        change(config);
        self.lifecycle.configure(config);
        self
    }

    /// Sets the subprotocols that the server speaks, the preferred one first. Default: none.
    ///
    /// # Errors
    ///
    /// [`Error::Subprotocol`] for a name that is not a token.
    pub fn subprotocols<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let names = names.into_iter().map(Subprotocol::new).collect::<Result<_, _>>()?;
        Ok(self.configure(|config| config.handshake.subprotocols = names))
    }

    /// Allows pages of these origins only, such as `https://example.com`; others meet 403, and so do clients without an
    /// `Origin`. Default: any.
    ///
    /// # Errors
    ///
    /// [`Error::Origin`] for what is not a scheme, a host and an optional port.
    pub fn allowed_origins<'a>(self, origins: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let policy = OriginPolicy::only(origins)?;
        Ok(self.configure(|config| config.handshake.origins = policy))
    }

    /// Speaks TLS on TCP listeners. Its handshake counts into [`ServerConfig::handshake_timeout`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::TlsConfig) -> Self {
        Arc::make_mut(&mut self.gate).tls = Some(tls.acceptor());
        self
    }

    /// Asks `authorize` about each client whose request has passed all checks, before the handshake is completed.
    ///
    /// The hook sees the request, may hand a value to the handler, change what is answered and how the connection behaves,
    /// or refuse with any status, headers and body. It has to decide within [`ServerConfig::handshake_timeout`], or the
    /// client is answered with 503. Default: everybody is welcome.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use http::header::AUTHORIZATION;
    /// use longwire_server::{Rejection, Server};
    ///
    /// struct User(String);
    ///
    /// # async fn example() -> Result<(), longwire_server::Error> {
    /// Server::bind("127.0.0.1:8080")
    ///     .await?
    ///     .authorize(|admission| async move {
    ///         match admission.headers().get(AUTHORIZATION) {
    ///             Some(token) if token == "Bearer secret" => Ok(admission.with_data(User("Ada".into()))),
    ///             _ => Err(Rejection::unauthorized("Bearer")),
    ///         }
    ///     })
    ///     .serve(|mut ws, request| async move {
    ///         let user = request.data::<User>().map_or("nobody", |user| &user.0);
    ///         Ok(ws.send(format!("hello, {user}")).await?)
    ///     })
    ///     .await
    /// # }
    /// ```
    #[must_use]
    pub fn authorize<F, Fut>(mut self, authorize: F) -> Self
    where
        F: Fn(Admission) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Admission, Rejection>> + Send + 'static,
    {
        let authorize = Arc::new(authorize);
        Arc::make_mut(&mut self.gate).authorize =
            Some(Arc::new(move |admission| Box::pin(authorize(admission))));
        self
    }

    /// Has `hook` see every request that is refused, whatever the reason, and answer it in its own words if it likes.
    ///
    /// The request is there if its head could be read, unless it was [`authorize`](Self::authorize) that refused, or the
    /// client was turned away with 503 because of [`ServerConfig::max_handshakes`] or a shutdown. `None` leaves the answer as
    /// it is. Of an answer to a HEAD the body is not sent (RFC 9110 §9.3.2), only its length.
    #[must_use]
    pub fn on_reject<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Rejection, Option<&Request>) -> Option<Response<Bytes>> + Send + Sync + 'static,
    {
        Arc::make_mut(&mut self.gate).on_reject = Some(Arc::new(hook));
        self
    }

    /// Has `handler` serve the clients of one path: `/echo`, `/rooms/{room}`, or `/files/{*path}` for all below it.
    ///
    /// What stands in the braces' place is told by [`Request::param`]. Run it with [`serve_routes`](Self::serve_routes), or
    /// with [`serve`](Self::serve), whose handler then serves all other paths.
    ///
    /// # Errors
    ///
    /// [`Error::Route`] if the path is malformed or leads where another one does.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), longwire_server::Error> {
    /// let server = longwire_server::Server::bind("127.0.0.1:8080").await?;
    /// server
    ///     .route("/rooms/{room}", |mut ws, request| async move {
    ///         ws.send(format!("welcome to {}", request.param("room").unwrap_or("?"))).await?;
    ///         Ok(())
    ///     })?
    ///     .serve_routes()
    ///     .await
    /// # }
    /// ```
    pub fn route<H, Fut>(mut self, path: &str, handler: H) -> Result<Self, Error>
    where
        H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult> + Send + 'static,
    {
        let handler = Arc::new(move |socket, request| -> BoxFuture { Box::pin(handler(socket, request)) });
        Arc::make_mut(&mut self.gate).routes.add(path, handler)?;
        Ok(self)
    }

    /// Sets how plain GET, HEAD and OPTIONS requests are answered, in place of 426 and 405.
    ///
    /// A request is plain if it does not ask for a WebSocket: it has no `Upgrade`, or one for another protocol such as `h2c` and no
    /// `Sec-WebSocket-Key`.
    ///
    /// The response's body is sent whole, and the connection ends after it. The request's own body, if it has one, is not
    /// read. The answer has to be there within [`ServerConfig::handshake_timeout`], or it is a 503.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), longwire_server::Error> {
    /// let server = longwire_server::Server::bind("127.0.0.1:8080").await?.fallback(|request| async move {
    ///     let mut response = http::Response::new("<!doctype html><title>Hello</title>");
    ///     if request.uri().path() != "/" {
    ///         *response.status_mut() = http::StatusCode::NOT_FOUND;
    ///     }
    ///     response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/html"));
    ///     response
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn fallback<F, Fut, B>(mut self, answer: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<B>> + Send + 'static,
        B: Into<Bytes>,
    {
        Arc::make_mut(&mut self.gate).fallback = Some(Arc::new(move |request| {
            let response = answer(request);
            Box::pin(async move { response.await.map(Into::into) })
        }));
        self
    }

    /// The address that the server listens on; of several, the first. Without TCP it is `0.0.0.0:0`.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The server's clients.
    pub fn hub(&self) -> &Hub {
        &self.lifecycle.hub
    }

    /// A handle with which to shut the server down.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { lifecycle: Arc::clone(&self.lifecycle) }
    }

    /// Runs `handler` for every client, each in a task of its own, once the returned value is awaited.
    ///
    /// What a handler sends between two yields leaves in one write. When it returns, the connection is closed:
    /// see [`HandlerResult`].
    ///
    /// Clients of a path that has a [`route`](Self::route) are served by that one's handler.
    pub fn serve<H, Fut>(mut self, handler: H) -> Serve<H>
    where
        H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult> + Send + 'static,
    {
        Arc::make_mut(&mut self.gate).routes.others = true;
        Serve::new(self, handler)
    }

    /// Runs the handlers of the routes; requests for other paths are refused with 404.
    pub fn serve_routes(self) -> Serve<impl Fn(Socket, Request) -> Nobody + Send + Sync + 'static> {
        Serve::new(self, |_, _| std::future::ready(Ok(())))
    }

    /// Accepts the next client.
    ///
    /// Handshakes go on at the same time, in tasks of their own: one that is slow does not hold up others. New connections
    /// are taken in while this is awaited. To have what the socket sends between two yields gathered in one write, run a
    /// handler on it with [`Socket::run`](longwire_hub::Socket::run).
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`] once the server was shut down, or its listener handed over and the last handshake is over.
    ///
    /// # Cancel safety
    ///
    /// No client is lost if the future is dropped: the next call returns it.
    pub async fn accept(&self) -> Result<(Socket, Request), Error> {
        let mut pull = self.pull.lock().await;
        let Pull { pause, done, report } = &mut *pull;
        loop {
            let Some((listener, report)) = self.listener().zip(report.as_ref()) else {
                *report = None;
                break;
            };
            let (io, peer_addr) = tokio::select! {
                biased;
                () = self.lifecycle.reached(Phase::HandedOver) => continue,
                Some(client) = done.recv() => return Ok(client),
                connection = next_connection(&*listener, pause) => connection,
            };
            let opening = self.open(io, peer_addr);
            let report = report.clone();
            tokio::spawn(async move {
                if let Some(client) = opening.await {
                    // Where the server is gone, the client goes with it.
                    let _ = report.send(client);
                }
            });
        }
        tokio::select! {
            biased;
            () = self.lifecycle.reached(Phase::Stopped) => Err(Error::ShutDown),
            last = done.recv() => last.ok_or(Error::ShutDown),
        }
    }

    /// Where connections come from, as long as they do.
    pub(crate) fn listener(&self) -> Option<Arc<dyn Listen>> {
        self.lifecycle.listener(self.number)
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.gate.routes
    }

    /// Starts the handshake of a connection.
    pub(crate) fn open(
        &self,
        io: Transport,
        peer_addr: Option<SocketAddr>,
    ) -> impl Future<Output = Option<(Socket, Request)>> + Send + use<> {
        let ticket = self.gate.pending.enter(self.gate.config.max_handshakes);
        Arc::clone(&self.gate).open(io, peer_addr, ticket)
    }
}

/// What a handler comes to, behind a pointer.
type BoxFuture = std::pin::Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// The handler of those whom no route leads anywhere, who never get this far.
type Nobody = std::future::Ready<HandlerResult>;

impl Drop for Server {
    fn drop(&mut self) {
        self.lifecycle.stop_listening(self.number);
    }
}
