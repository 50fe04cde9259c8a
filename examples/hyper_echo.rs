//! An echo server on plain hyper: HTTP/1.1 and HTTP/2 on one port.
//!
//! ```text
//! cargo run --release --example hyper_echo -- --listen 127.0.0.1:9003
//! cargo run --release --example cat -- ws://127.0.0.1:9003
//! ```
//! With `--tls-cert` and `--tls-key` it speaks TLS. A browser that already has an HTTP/2 connection, because it has
//! loaded `https://127.0.0.1:9003/`, opens its sockets on that connection (RFC 8441). Each socket is reported with
//! its HTTP version. On SIGINT every client is closed with code 1001 (going away).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use longwire::hyper::{CONNECTION_WINDOW, Mount, STREAM_WINDOW, Socket, upgrade};
use longwire::{BoxError, HandlerResult};
use longwire::{CloseCode, DeflateOptions};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{self, ServerConfig};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9003")]
    listen: SocketAddr,
    /// Compress messages (permessage-deflate).
    #[arg(long)]
    deflate: bool,
    /// The certificate chain, as PEM, to serve over TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hyper_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let mut config = longwire::hyper::MountConfig::default();
    config.handshake.deflate = args.deflate.then(DeflateOptions::default);
    let mount = Mount::new(config);
    let files = args.tls_cert.as_deref().zip(args.tls_key.as_deref());
    let tls = files.map(|(chain, key)| acceptor(chain, key)).transpose()?;

    let listener = TcpListener::bind(args.listen).await?;
    let scheme = if tls.is_some() { "wss" } else { "ws" };
    println!("listening on {scheme}://{}", listener.local_addr()?);
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, tls.clone(), mount.clone()))),
                Err(error) => {
                    eprintln!("cannot accept: {error}");
                    // Most likely there are no descriptors left: others will be closed.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    mount.hub().shutdown(CloseCode::GOING_AWAY, "", Duration::from_secs(10)).await?;
    Ok(())
}

/// Creates a TLS acceptor that prefers HTTP/2. A browser with no connection to reuse offers only HTTP/1.1.
fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, BoxError> {
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    // Named, because more than one provider of cryptography may be compiled in.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, mount: Mount) {
    let served = match tls {
        None => serve(stream, &mount).await,
        Some(tls) => match timeout(Duration::from_secs(10), tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, &mount).await,
            Ok(Err(error)) => Err(error.into()),
            Err(late) => Err(late.into()),
        },
    };
    if let Err(error) = served {
        eprintln!("a connection has failed: {error}");
    }
}

async fn serve<T>(stream: T, mount: &Mount) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2()
        // Without this, a WebSocket over HTTP/2 is refused (RFC 8441 §3).
        .enable_connect_protocol()
        // Without these, a handler that does not receive stalls all streams of its connection.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let service = service_fn(|request| {
        let response = respond(request, mount);
        async move { Ok::<_, Infallible>(response) }
    });
    http.serve_connection_with_upgrades(TokioIo::new(stream), service).await
}

fn respond(mut request: Request<Incoming>, mount: &Mount) -> Response<String> {
    match upgrade(&mut request, mount) {
        Ok((response, upgrade)) => {
            println!("a WebSocket over {:?}", request.version());
            upgrade.on_upgrade(echo);
            response
        }
        Err(rejection) if rejection.is_plain_request() => {
            Response::new("this server speaks only WebSocket\n".to_owned())
        }
        Err(rejection) => rejection.to_response().map(|body| String::from_utf8_lossy(&body).into_owned()),
    }
}

async fn echo(mut ws: Socket) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
