//! Runs a handler for every client until the server shuts down.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use longwire_connection::CloseCode;
use longwire_hub::{BoxError, ClientHandle, HandlerOutput, Handling, RunError};
use pin_project_lite::pin_project;
use tokio::task::JoinHandle;
use tracing::{Span, info, info_span};

use crate::lifecycle::Phase;
use crate::listen::{Pause, next_connection};
use crate::{Error, Request, Server, ServerHandle, Socket};

impl Server {
    /// Runs `handler` for every client, each in its own task, once the returned value is awaited.
    ///
    /// Everything that a handler sends between two yields leaves in one write. When the handler returns, the
    /// connection is closed: see [`HandlerResult`](crate::HandlerResult).
    ///
    /// Clients of a path that has a [`route`](Self::route) are served by the route's handler.
    pub fn serve<H, Fut>(mut self, handler: H) -> Serve
    where
        H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.allow_other_paths();
        Serve::new(self, handler)
    }

    /// Runs the handlers of the routes. Requests for other paths are refused with 404.
    pub fn serve_routes(self) -> Serve {
        // No client comes without a route: it is refused before that.
        Serve::new(self, |_, _| std::future::ready(()))
    }
}

/// A server with a handler. It runs while it is awaited.
#[must_use = "a server runs while it is awaited"]
pub struct Serve {
    server: Server,
    accept: Accept,
    signal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Accepts clients for a handler. Boxed once for a server, so that [`Serve`] has no type parameter: neither its own
/// errors nor a function that returns it need the handler's type.
type Accept = Box<dyn FnOnce(&Server) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> + Send>;

impl Serve {
    fn new<H, Fut>(server: Server, handler: H) -> Self
    where
        H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        let accept: Accept = Box::new(|server| Box::pin(serve_all(server, handler)));
        Self { server, accept, signal: None }
    }

    /// Returns a handle that can shut the server down.
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// Shuts the server down when `signal` completes, with whatever output, as
    /// [`ServerHandle::shutdown`](crate::ServerHandle::shutdown) does: `tokio::signal::ctrl_c()`, for example.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), longwire_server::Error> {
    /// # let interrupted = std::future::pending::<()>();
    /// let server = longwire_server::Server::bind("127.0.0.1:0").await?;
    /// server
    ///     .serve(|mut ws, _| async move {
    ///         while let Some(message) = ws.recv().await? {
    ///             ws.send(message).await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .with_graceful_shutdown(interrupted)
    ///     .await
    /// # }
    /// ```
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output: Send> + Send + 'static) -> Self {
        self.signal = Some(Box::pin(async move { drop(signal.await) }));
        self
    }

    /// Runs the server in a task of its own. It ends as the awaited server does; aborting the task is like dropping
    /// that future.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = longwire_server::Server::bind("127.0.0.1:0").await?;
    /// let handle = server.handle();
    /// let served = server.serve(|mut ws, _| async move { Ok(ws.send("welcome").await?) }).spawn();
    /// handle.shutdown().await;
    /// served.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn(self) -> JoinHandle<Result<(), Error>> {
        tokio::spawn(self.into_future())
    }
}

/// Runs the server until it no longer listens and all clients have left.
///
/// A shutdown stops listening and closes the clients. A server whose listeners were handed over
/// ([`ServerHandle::hand_over`](crate::ServerHandle::hand_over)) waits until its clients leave, or are closed by a
/// shutdown.
///
/// If the future is dropped, the server stops listening. Running handlers continue, and
/// [`ServerHandle::shutdown`](crate::ServerHandle::shutdown) still ends them.
impl IntoFuture for Serve {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { server, accept, signal } = self;
        let lifecycle = Arc::clone(&server.lifecycle);
        let report = crate::metrics::report(lifecycle.hub.clone());
        let serving = async move {
            info!(addr = server.tcp_addr().map(tracing::field::display), "serving");
            let mut signal = signal.unwrap_or_else(|| Box::pin(std::future::pending()));
            tokio::select! {
                biased;
                () = lifecycle.reached(Phase::HandedOver) => {}
                () = &mut signal => lifecycle.stop(),
                () = accept(&server) => {}
            }
            if !lifecycle.is_stopped() {
                // Another server listens now; connected clients may stay.
                tokio::select! {
                    biased;
                    () = lifecycle.reached(Phase::Stopped) => {}
                    () = &mut signal => lifecycle.stop(),
                    () = lifecycle.deserted() => {
                        info!("the server has handed over, and its last client has left");
                        return Ok(());
                    }
                }
            }
            info!(clients = lifecycle.hub.len(), "shutting down");
            lifecycle.drain().await;
            info!("the server has ended");
            Ok(())
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                ended = serving => ended,
                () = report => Ok(()),
            }
        })
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Serves clients with the handlers of the routes, if there are any. A server without routes does not pay for them.
async fn serve_all<H, Fut>(server: &Server, handler: H)
where
    H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerOutput> + Send + 'static,
{
    let routes = server.routes();
    if routes.is_empty() {
        return accept_all(server, handler).await;
    }
    let routes = routes.clone();
    let by_path = move |socket, request: Request| match routes.handler(&request) {
        Some(own) => own(socket, request),
        None => Box::pin(Handling::new(handler(socket, request))),
    };
    accept_all(server, by_path).await;
}

/// Accepts connections while there is a listener. Each connection runs in its own task from its first byte.
async fn accept_all<H, Fut>(server: &Server, handler: H)
where
    H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerOutput> + Send + 'static,
{
    let Some(listener) = server.listener() else {
        return;
    };
    let handler = Arc::new(handler);
    let mut pause = Pause::default();
    loop {
        let (io, peer_addr) = next_connection(&*listener, &mut pause).await;
        // Boxed, so that the handshake's memory is freed when the handshake ends and is not part of the
        // connection's task.
        let opening = Box::pin(server.open(io, peer_addr));
        let handler = Arc::clone(&handler);
        tokio::spawn(connection(opening, |socket, request| {
            socket.run_to_end(move |socket| Handling::new(handler(socket, request)))
        }));
    }
}

/// A client whose handler has ended, and how.
type Ended = (ClientHandle, Result<(), RunError<BoxError>>);

/// Runs one client from its handshake to its end.
pub(crate) fn connection<O, S, R>(opening: Pin<Box<O>>, start: S) -> impl Future<Output = ()> + use<O, S, R>
where
    O: Future<Output = Option<(Socket, Request)>>,
    S: FnOnce(Socket, Request) -> R,
    R: Future<Output = Ended>,
{
    Connection::Opening { opening, start: Some(start) }
}

pin_project! {
    /// A hand-written future: every connection holds one, and an `async fn` would keep the memory of finished
    /// steps.
    #[project = ConnectionProjection]
    enum Connection<O, S, R> {
        Opening { opening: Pin<Box<O>>, start: Option<S> },
        // `None` if no subscriber wants the span.
        Running { #[pin] run: R, span: Option<Box<Span>> },
    }
}

impl<O, S, R> Future for Connection<O, S, R>
where
    O: Future<Output = Option<(Socket, Request)>>,
    S: FnOnce(Socket, Request) -> R,
    R: Future<Output = Ended>,
{
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.as_mut().project() {
                ConnectionProjection::Opening { opening, start } => {
                    let opened = ready!(opening.as_mut().poll(cx));
                    let (Some((socket, request)), Some(start)) = (opened, start.take()) else {
                        return Poll::Ready(());
                    };
                    let span = client_span(&socket, &request);
                    let run = in_span(span.as_deref(), || {
                        socket.client().log_start();
                        start(socket, request)
                    });
                    self.set(Self::Running { run, span });
                }
                ConnectionProjection::Running { run, span } => {
                    return in_span(span.as_deref(), || {
                        note_end(ready!(run.poll(cx)), span.as_deref());
                        Poll::Ready(())
                    });
                }
            }
        }
    }
}

/// Returns the `tracing` span in which a client's handler runs. Its fields identify the client in all events that are
/// recorded meanwhile. `close_code` is empty until the connection has ended. Returns `None` if no subscriber wants the
/// span.
fn client_span(socket: &Socket, request: &Request) -> Option<Box<Span>> {
    let span = info_span!(
        "client",
        id = socket.id().value(),
        peer = request.client_ip().map(tracing::field::display),
        // Neither the path nor the subprotocol can contain a line break: the request's head was parsed.
        path = request.uri().path(),
        subprotocol = socket.subprotocol(),
        close_code = tracing::field::Empty,
    );
    (!span.is_disabled()).then(|| Box::new(span))
}

fn in_span<R>(span: Option<&Span>, work: impl FnOnce() -> R) -> R {
    let _entered = span.map(Span::enter);
    work()
}

fn note_end((client, ended): Ended, span: Option<&Span>) {
    if let Some(span) = span {
        let failed = ended.as_ref().err().and_then(|error| client.disconnect(error));
        let failed = failed.and_then(longwire_connection::Error::close_code);
        let sent = client.sender().close_sent().map(|frame| frame.code);
        let code = failed.or(sent).unwrap_or(CloseCode::ABNORMAL_CLOSURE);
        span.record("close_code", u16::from(code));
    }
    client.log_end(ended);
}
