//! A handler mounted at a path, in front of any HTTP service.
//!
//! This is for services that are not axum routers, or that must not know of WebSocket. The layer answers
//! WebSocket requests for one path and passes on everything else, including plain requests for the same path.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::debug;

use crate::{HandlerOutput, Mount, Socket, upgrade_parts};

/// A layer that mounts a handler at a path.
///
/// The handler gets the socket and the head of its request. If a WebSocket request for the path is invalid, the
/// layer answers with the refusal; a request that does not ask for a WebSocket goes to the service.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use longwire_hyper::{Mount, tower::WebSocketLayer};
///
/// let mount = Mount::default();
/// let chat = WebSocketLayer::new("/", mount.clone(), |mut ws, request| async move {
///     println!("{:?} asks for {}", ws.client().peer_addr(), request.uri());
///     while let Some(message) = ws.recv().await? {
///         ws.hub().broadcast_except(ws.id(), message);
///     }
///     Ok(())
/// });
/// // A GET without an upgrade still gets the page.
/// let app: Router = Router::new().route("/", get(|| async { "a page" })).layer(chat);
/// ```
pub struct WebSocketLayer<H> {
    mounted: Arc<Mounted<H>>,
}

struct Mounted<H> {
    path: String,
    mount: Mount,
    handler: H,
}

impl<H, Fut> WebSocketLayer<H>
where
    H: Fn(Socket, Request<()>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerOutput> + Send + 'static,
{
    /// Makes a layer for one path, which is compared exactly and without the query.
    pub fn new(path: impl Into<String>, mount: Mount, handler: H) -> Self {
        Self { mounted: Arc::new(Mounted { path: path.into(), mount, handler }) }
    }
}

impl<S, H> Layer<S> for WebSocketLayer<H> {
    type Service = WebSocketService<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        WebSocketService { inner, mounted: Arc::clone(&self.mounted) }
    }
}

impl<H> Clone for WebSocketLayer<H> {
    fn clone(&self) -> Self {
        Self { mounted: Arc::clone(&self.mounted) }
    }
}

impl<H> fmt::Debug for WebSocketLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketLayer").field("path", &self.mounted.path).finish_non_exhaustive()
    }
}

/// A service with a handler in front of it; see [`WebSocketLayer`].
pub struct WebSocketService<S, H> {
    inner: S,
    mounted: Arc<Mounted<H>>,
}

impl<S, H, Fut, B, R> Service<Request<B>> for WebSocketService<S, H>
where
    S: Service<Request<B>, Response = Response<R>>,
    H: Fn(Socket, Request<()>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerOutput> + Send + 'static,
    R: Default + From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() != self.mounted.path {
            return ResponseFuture::Inner { response: self.inner.call(request) };
        }
        let (mut parts, body) = request.into_parts();
        let response = match upgrade_parts(&mut parts, &self.mounted.mount) {
            Ok((response, upgrade)) => {
                let mounted = Arc::clone(&self.mounted);
                let request = Request::from_parts(parts, ());
                drop(upgrade.on_upgrade(move |ws| (mounted.handler)(ws, request)));
                response
            }
            Err(rejection) if rejection.is_plain_request() => {
                let response = self.inner.call(Request::from_parts(parts, body));
                return ResponseFuture::Inner { response };
            }
            Err(rejection) => {
                debug!(status = rejection.status().as_u16(), %rejection, "a handshake was refused");
                rejection.to_response().map(R::from)
            }
        };
        ResponseFuture::Own { response: Some(response) }
    }
}

impl<S: Clone, H> Clone for WebSocketService<S, H> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), mounted: Arc::clone(&self.mounted) }
    }
}

impl<S: fmt::Debug, H> fmt::Debug for WebSocketService<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketService")
            .field("path", &self.mounted.path)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of a [`WebSocketService`]: its own, or that of the inner service.
    #[derive(Debug)]
    #[project = ResponseProjection]
    #[must_use = "futures do nothing unless polled"]
    pub enum ResponseFuture<F, R> {
        #[doc(hidden)]
        Own { response: Option<Response<R>> },
        #[doc(hidden)]
        Inner { #[pin] response: F },
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ResponseProjection::Own { response } => {
                Poll::Ready(Ok(response.take().expect("a future that is ready is not polled again")))
            }
            ResponseProjection::Inner { response } => Poll::Ready(ready!(response.poll(cx))),
        }
    }
}
