//! An in-memory server for a tower service, to test its sockets without a network.

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tower_service::Service;
use tracing::debug;

use crate::BoxError;

/// Serves one in-memory connection and returns the client's end of it, for HTTP/1.1 and for HTTP/2
/// with prior knowledge.
///
/// A request takes the whole path, from its bytes to the handler. The connection ends when the returned
/// stream is dropped.
///
/// # Panics
///
/// If called outside of a tokio runtime.
///
/// # Examples
///
/// ```
/// use axum::{Router, extract::Request, response::Response, routing::any};
/// use longwire_client::Client;
/// use longwire_hyper::{Mount, testing::serve, upgrade};
///
/// async fn echo(mut request: Request) -> Response {
///     match upgrade(&mut request, &Mount::default()) {
///         Ok((response, upgrade)) => {
///             upgrade.on_upgrade(|mut ws| async move {
///                 while let Some(message) = ws.recv().await? {
///                     ws.send(message).await?;
///                 }
///                 Ok(())
///             });
///             response
///         }
///         Err(rejection) => rejection.to_response().map(Into::into),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app: Router = Router::new().route("/echo", any(echo));
/// let (mut ws, _) = Client::new("ws://test/echo").handshake_over(serve(app)).await?;
/// ws.send("hello").await?;
/// assert_eq!(ws.recv().await?, Some("hello".into()));
/// ws.close(1000, "").await?;
/// # Ok(())
/// # }
/// ```
pub fn serve<S, R>(service: S) -> DuplexStream
where
    S: Service<Request<Incoming>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    let (client, server) = tokio::io::duplex(CAPACITY);
    tokio::spawn(async move {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http2().enable_connect_protocol();
        let service = TowerToHyperService::new(service);
        if let Err(error) = http.serve_connection_with_upgrades(TokioIo::new(server), service).await {
            debug!(%error, "an in-memory connection failed");
        }
    });
    client
}

/// The number of bytes in transit in each direction: about as much as a socket holds.
const CAPACITY: usize = 64 * 1024;
