//! The server: its listener, its configuration, and the two ways to serve its clients.

use std::fmt;
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
    Admission, Error, HandlerOutput, HandlerResult, Handling, Listen, ListenOptions, Listeners, Request,
    ServerConfig, ServerHandle, ServerStream, Socket,
};

/// A WebSocket server.
///
/// When dropped, it stops listening; open connections continue.
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
/// Or one client at a time, in your own tasks:
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
    /// The index of this server's listener in the lifecycle.
    number: usize,
    local_addr: Option<SocketAddr>,
    pull: Mutex<Pull>,
}

/// The handshakes started for [`Server::accept`], and their results.
#[derive(Debug)]
struct Pull {
    pause: Pause,
    // Bounded by the number of handshakes in progress, because nothing is accepted while a result waits.
    done: mpsc::UnboundedReceiver<(Socket, Request)>,
    // `None` once no more clients are accepted, so that `done` ends after the last handshake.
    report: Option<mpsc::UnboundedSender<(Socket, Request)>>,
}

impl Server {
    /// Listens on an address such as `127.0.0.1:8080`; port 0 picks a free one.
    ///
    /// The options are those of [`ListenOptions::default`]. If a name resolves to several addresses, the server
    /// listens on the first one that works.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address cannot be resolved or is taken.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing listens.
    pub async fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<Self, Error> {
        // Not `TcpListener::bind`: its backlog of 128 overflows in a burst, and a dropped client retries only after
        // a second.
        let none = io::Error::new(io::ErrorKind::InvalidInput, "the host name has no address");
        let mut failure = Error::bind(format_args!("{addr:?}"))(none);
        for addr in lookup_host(&addr).await.map_err(Error::bind(format_args!("{addr:?}")))? {
            match ListenOptions::default().listen(addr) {
                Ok(listener) => return Self::from_listener(listener),
                Err(error) => failure = Error::bind(addr)(error),
            }
        }
        Err(failure)
    }

    /// Listens on an address with options: the length of the backlog, several listeners on one port, IPv6 only.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address is taken.
    pub fn bind_with(addr: SocketAddr, options: ListenOptions) -> Result<Self, Error> {
        Self::from_listener(options.listen(addr).map_err(Error::bind(addr))?)
    }

    /// Listens on a Unix socket. The file must not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the file exists or cannot be created.
    #[cfg(unix)]
    pub fn bind_unix(path: impl AsRef<std::path::Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let listener = tokio::net::UnixListener::bind(path).map_err(Error::bind(path.display()))?;
        Ok(Self::from_listen(Arc::new(listener)))
    }

    /// Uses a listener that was created elsewhere, or handed over by another process.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if its address cannot be determined.
    pub fn from_listener(listener: TcpListener) -> Result<Self, Error> {
        listener.local_addr().map_err(Error::bind_any)?;
        Ok(Self::from_listen(Arc::new(listener)))
    }

    /// Accepts connections from any [`Listen`].
    pub fn from_acceptor(listener: impl Listen) -> Self {
        Self::from_listen(Arc::new(listener))
    }

    /// Adds another listener, of any kind.
    #[must_use]
    pub fn add_listener(mut self, listener: impl Listen) -> Self {
        self.local_addr = self.local_addr.or_else(|| listener.local_addr());
        self.lifecycle.add_listener(self.number, Arc::new(listener));
        self
    }

    /// Continues where another server has [handed over](ServerHandle::hand_over) its listeners.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if there is no listener, or if one cannot be used.
    pub fn from_listeners(listeners: Listeners) -> Result<Self, Error> {
        let mut listeners = listeners.listen().map_err(Error::bind_any)?;
        let listener: Arc<dyn Listen> = match listeners.len() {
            0 => return Err(Error::bind_any(io::ErrorKind::InvalidInput.into())),
            1 => listeners.swap_remove(0),
            _ => Arc::new(Several::new(listeners)),
        };
        Ok(Self::from_listen(listener))
    }

    pub(crate) fn from_listen(listener: Arc<dyn Listen>) -> Self {
        let config = ServerConfig::default();
        Self::join(Arc::new(Lifecycle::new(Hub::new(config.hub))), listener, config)
    }

    /// Creates a server that shares its clients and its shutdown with others.
    pub(crate) fn join(lifecycle: Arc<Lifecycle>, listener: Arc<dyn Listen>, config: ServerConfig) -> Self {
        let local_addr = listener.local_addr();
        let number = lifecycle.join(listener);
        let (report, done) = mpsc::unbounded_channel();
        Self {
            gate: Arc::new(Gate {
                config: Arc::new(config),
                #[cfg(feature = "tls")]
                tls: None,
                #[cfg(feature = "tls")]
                new_tls: Arc::clone(&lifecycle.new_tls),
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

    /// Replaces the whole configuration.
    #[must_use]
    pub fn config(self, config: ServerConfig) -> Self {
        self.configure(|current| *current = config)
    }

    /// Changes parts of the configuration.
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
        let config = Arc::make_mut(&mut Arc::make_mut(&mut self.gate).config);
        change(config);
        self.lifecycle.configure(config);
        self
    }

    /// Sets the subprotocols that the server speaks, the preferred one first. Default: none.
    ///
    /// # Errors
    ///
    /// [`Error::Subprotocol`] for a name that is not a token.
    pub fn subprotocols<I>(self, names: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let names = names.into_iter().map(|name| Subprotocol::new(name.as_ref()));
        let names = names.collect::<Result<_, _>>()?;
        Ok(self.configure(|config| config.handshake.subprotocols = names))
    }

    /// Allows only pages from these origins, such as `https://example.com`. All others are refused with 403, and so
    /// are clients without an `Origin`. Default: any origin.
    ///
    /// # Errors
    ///
    /// [`Error::Origin`] for a value that is not a scheme, a host and an optional port.
    pub fn allowed_origins<I>(self, origins: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let policy = OriginPolicy::only(origins)?;
        Ok(self.configure(|config| config.handshake.origins = policy))
    }

    /// Speaks TLS on TCP listeners. The TLS handshake counts toward [`ServerConfig::handshake_timeout`].
    ///
    /// [`ServerHandle::set_tls`] replaces the configuration later.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::TlsConfig) -> Self {
        Arc::make_mut(&mut self.gate).tls = Some(tls);
        self
    }

    /// Calls `authorize` for each client whose request has passed all checks, before the handshake completes.
    ///
    /// The hook sees the request. It can pass a value to the handler, change the response and the connection's
    /// settings, or refuse with any status, headers and body. If it does not decide within
    /// [`ServerConfig::handshake_timeout`], the client is answered with 503. Default: every client is accepted.
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

    /// Calls `hook` for every refused request, whatever the reason. The hook can replace the response; `None` leaves
    /// it unchanged.
    ///
    /// The request is present if its head could be read, unless [`authorize`](Self::authorize) refused it, or the
    /// client was turned away with 503 because of [`ServerConfig::max_handshakes`] or a shutdown. The body of an
    /// response to a HEAD request is not sent (RFC 9110 §9.3.2), only its length.
    #[must_use]
    pub fn on_reject<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Rejection, Option<&Request>) -> Option<Response<Bytes>> + Send + Sync + 'static,
    {
        Arc::make_mut(&mut self.gate).on_reject = Some(Arc::new(hook));
        self
    }

    /// Serves the clients of one path with `handler`: `/echo`, `/rooms/{room}`, or `/files/{*path}` for everything
    /// below it.
    ///
    /// [`Request::param`] returns the text that matched a name in braces, percent-decoded. Paths are compared as they
    /// are sent, percent-encoded; a request is refused with 404 if a parameter is not UTF-8. Run the server with
    /// [`serve_routes`](Self::serve_routes), or with [`serve`](Self::serve), whose handler then serves all other
    /// paths.
    ///
    /// # Errors
    ///
    /// [`Error::Route`] if the path is malformed, conflicts with an existing route, or cannot match a request as it was
    /// meant, such as `/rooms/:id`; the error then says what to write.
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
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        let handler = Arc::new(move |socket, request| -> BoxFuture {
            Box::pin(Handling::new(handler(socket, request)))
        });
        Arc::make_mut(&mut self.gate).routes.add(path, handler)?;
        Ok(self)
    }

    /// Answers plain GET, HEAD and OPTIONS requests with `answer` instead of 426 and 405.
    ///
    /// A request is plain if it does not ask for a WebSocket: it has no `Upgrade`, or one for another protocol such
    /// as `h2c` and no `Sec-WebSocket-Key`.
    ///
    /// The response's body is sent whole, and the connection ends after it. The request's own body, if any, is not
    /// read. If the response is not ready within [`ServerConfig::handshake_timeout`], the client is answered with
    /// 503.
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

    /// Returns the address that the server listens on; the first one if there are several. Without TCP it is
    /// `0.0.0.0:0`.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Returns the address that the server listens on, if it listens on TCP.
    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Returns the hub of the server's clients.
    pub fn hub(&self) -> &Hub {
        &self.lifecycle.hub
    }

    /// Returns a handle that can shut the server down.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { lifecycle: Arc::clone(&self.lifecycle) }
    }

    /// Accepts the next client.
    ///
    /// Handshakes run concurrently in their own tasks, so a slow one does not delay others. New connections are
    /// accepted only while this method is awaited. To gather everything that the socket sends between two yields
    /// into one write, run a handler on it with [`Socket::run`](longwire_hub::Socket::run).
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`] once the server was shut down, or once its listener was handed over and the last
    /// handshake has ended.
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
                    // If the server is gone, the client is dropped.
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

    /// Returns the listener, until the server stops listening.
    pub(crate) fn listener(&self) -> Option<Arc<dyn Listen>> {
        self.lifecycle.listener(self.number)
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.gate.routes
    }

    /// Lets requests for paths without a route pass, for the handler of all others.
    pub(crate) fn allow_other_paths(&mut self) {
        Arc::make_mut(&mut self.gate).routes.others = true;
    }

    /// Starts the handshake of a connection.
    pub(crate) fn open(
        &self,
        io: ServerStream,
        peer_addr: Option<SocketAddr>,
    ) -> impl Future<Output = Option<(Socket, Request)>> + Send + use<> {
        let ticket = self.gate.pending.enter(self.gate.config.max_handshakes);
        Arc::clone(&self.gate).open(io, peer_addr, ticket)
    }
}

/// The boxed future of a handler.
type BoxFuture = std::pin::Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

impl Drop for Server {
    fn drop(&mut self) {
        self.lifecycle.stop_listening(self.number);
    }
}
