//! A web application with a WebSocket: JSON for a plain GET of `/`, and a chat for a WebSocket at the same path.
//!
//! ```text
//! cargo run --release --example axum_chat -- --listen 127.0.0.1:8080
//! curl http://127.0.0.1:8080/
//! cargo run --release --example cat -- 'ws://127.0.0.1:8080/?access_token=ada'
//! ```
//! Clients are identified by `access_token` in the query or by the cookie `session`. On SIGINT every client is
//! closed with code 1001 (going away).

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::extract::{FromRef, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::{Router, routing::any};
use clap::Parser;
use longwire::BoxError;
use longwire::axum::FromState;
use longwire::handshake::OriginPolicy;
use longwire::hyper::{Mount, MountConfig};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// The state shared by all requests.
#[derive(Clone)]
struct App {
    mount: Mount,
}

/// Gives the extractor access to the mount.
impl FromRef<App> for Mount {
    fn from_ref(app: &App) -> Self {
        app.mount.clone()
    }
}

#[derive(Deserialize)]
struct Auth {
    access_token: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axum_chat: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let mut config = MountConfig::default();
    // A browser sends its cookies whichever page makes the request: a server that trusts them must accept only its
    // own pages.
    config.handshake.origins = OriginPolicy::SameHost;
    let mount = Mount::new(config);
    // `any`, because a WebSocket over HTTP/2 is requested with CONNECT.
    let app = Router::new().route("/", any(root)).with_state(App { mount: mount.clone() });

    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // axum's graceful shutdown does not cover upgraded connections; the mount closes those.
    let interrupted = mount.shutdown_after(tokio::signal::ctrl_c(), Duration::from_secs(10));
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(())
}

async fn root(
    ws: Option<FromState>,
    State(app): State<App>,
    Query(auth): Query<Auth>,
    headers: HeaderMap,
) -> Response {
    let Some(FromState(ws)) = ws else {
        return Json(json!({ "msg": "hello", "clients": app.mount.hub().len() })).into_response();
    };
    let Some(name) = auth.access_token.or_else(|| cookie(&headers, "session")) else {
        return (StatusCode::UNAUTHORIZED, "an access token or a session is required\n").into_response();
    };
    ws.on_upgrade(|mut ws| async move {
        ws.send("something").await?;
        while let Some(message) = ws.recv().await? {
            println!("received: {message}");
            ws.hub().broadcast_except(ws.id(), format!("{name}: {message}"));
        }
        Ok(())
    })
}

/// Returns the value of a cookie.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|list| list.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then(|| value.to_owned()))
}
