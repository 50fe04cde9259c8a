//! The server: where it listens, how it behaves, and the two ways to get at its clients.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use longwire_handshake::{OriginPolicy, Subprotocol};
use longwire_hub::Hub;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::{Mutex, mpsc};

use crate::gate::Gate;
use crate::lifecycle::Lifecycle;
use crate::listen::{Listen, Pause, next_connection};
use crate::pending::Pending;
use crate::{Error, HandlerResult, Request, Serve, ServerConfig, ServerHandle, Socket, Transport};

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
    local_addr: SocketAddr,
    pull: Mutex<Pull>,
}

/// The handshakes that were begun for [`Server::accept`], and their outcome.
#[derive(Debug)]
struct Pull {
    pause: Pause,
    // Bounded by `max_handshakes`, as nothing is accepted while an outcome waits.
    done: mpsc::UnboundedReceiver<(Socket, Request)>,
    report: mpsc::UnboundedSender<(Socket, Request)>,
}

impl Server {
    /// Listens on an address such as `127.0.0.1:8080`; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address cannot be resolved or is taken.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing listens.
    pub async fn bind(addr: impl ToSocketAddrs) -> Result<Self, Error> {
        Self::from_listener(TcpListener::bind(addr).await.map_err(Error::Bind)?)
    }

    /// Takes over a listener that was made elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if its address cannot be told.
    pub fn from_listener(listener: TcpListener) -> Result<Self, Error> {
        let local_addr = listener.local_addr().map_err(Error::Bind)?;
        Ok(Self::from_listen(Arc::new(listener), local_addr))
    }

    pub(crate) fn from_listen(listener: Arc<dyn Listen>, local_addr: SocketAddr) -> Self {
        let config = ServerConfig::default();
        let hub = Hub::new(config.hub);
        let pending = Arc::new(Pending::default());
        let lifecycle = Lifecycle::new(listener, hub.clone(), Arc::clone(&pending));
        let (report, done) = mpsc::unbounded_channel();
        Self {
            gate: Arc::new(Gate { config, fallback: None, hub, pending }),
            lifecycle: Arc::new(lifecycle),
            local_addr,
            pull: Mutex::new(Pull { pause: Pause::default(), done, report }),
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
        self.lifecycle.hub.set_config(config.hub);
        self.lifecycle.set_shutdown(config.shutdown.clone());
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

    /// Sets how plain GET and HEAD requests are answered, in place of 426.
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

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
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
    pub fn serve<H, Fut>(self, handler: H) -> Serve<H>
    where
        H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult> + Send + 'static,
    {
        Serve::new(self, handler)
    }

    /// Accepts the next client.
    ///
    /// Handshakes go on at the same time, in tasks of their own: one that is slow does not hold up others. New connections
    /// are taken in while this is awaited. To have what the socket sends between two yields gathered in one write, run a
    /// handler on it with [`Socket::run`](longwire_hub::Socket::run).
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`] once the server was shut down.
    ///
    /// # Cancel safety
    ///
    /// No client is lost if the future is dropped: the next call returns it.
    pub async fn accept(&self) -> Result<(Socket, Request), Error> {
        let mut pull = self.pull.lock().await;
        let Pull { pause, done, report } = &mut *pull;
        loop {
            let listener = self.lifecycle.listener().ok_or(Error::ShutDown)?;
            let (io, peer_addr) = tokio::select! {
                biased;
                () = self.lifecycle.stopped() => return Err(Error::ShutDown),
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

impl Drop for Server {
    fn drop(&mut self) {
        self.lifecycle.stop_listening();
    }
}
