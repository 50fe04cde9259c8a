//! Sessions: a login over HTTP, the WebSocket that it permits, and a logout that closes it.
//!
//! ```text
//! cargo run --release --example session -- --listen 127.0.0.1:8081
//! ```
//! Open `http://127.0.0.1:8081` in a browser; or, without one:
//! ```text
//! curl -i -X POST http://127.0.0.1:8081/login
//! cargo run --release --example cat -- --header 'Cookie: session=1' ws://127.0.0.1:8081/ws
//! curl -X POST -H 'Cookie: session=1' http://127.0.0.1:8081/logout
//! ```
//! Sessions are numbered consecutively to be readable; a real application needs long random names. On SIGINT every
//! client is closed with code 1001 (going away).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Router, http::HeaderValue};
use clap::Parser;
use longwire::CloseCode;
use longwire::axum::FromState;
use longwire::handshake::OriginPolicy;
use longwire::hyper::{Mount, MountConfig};
use longwire::{BoxError, ClientId};
use tokio::net::TcpListener;

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
}

#[derive(Clone)]
struct App {
    mount: Mount,
    sessions: Arc<Mutex<Sessions>>,
}

#[derive(Default)]
struct Sessions {
    begun: u64,
    /// The sockets of each session.
    open: HashMap<u64, Vec<ClientId>>,
}

impl App {
    fn with<R>(&self, act: impl FnOnce(&mut Sessions) -> R) -> R {
        act(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FromRef<App> for Mount {
    fn from_ref(app: &App) -> Self {
        app.mount.clone()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("session: {error}");
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
    let app = App { mount: mount.clone(), sessions: Arc::default() };
    let app = Router::new()
        .route("/", get(|| async { Html(include_str!("session.html")) }))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/ws", any(socket))
        .with_state(app);

    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let interrupted = async move {
        drop(tokio::signal::ctrl_c().await);
        drop(mount.hub().shutdown(CloseCode::GOING_AWAY, "", Duration::from_secs(10)).await);
    };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(())
}

async fn login(State(app): State<App>) -> Response {
    let session = app.with(|sessions| {
        sessions.begun += 1;
        sessions.open.insert(sessions.begun, Vec::new());
        sessions.begun
    });
    let cookie = format!("session={session}; HttpOnly; SameSite=Strict; Path=/");
    match HeaderValue::try_from(cookie) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], "welcome\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn logout(State(app): State<App>, headers: HeaderMap) -> Response {
    let clients =
        session_of(&headers).and_then(|session| app.with(|sessions| sessions.open.remove(&session)));
    let Some(clients) = clients else {
        return (StatusCode::UNAUTHORIZED, "no session\n").into_response();
    };
    for client in clients.into_iter().filter_map(|id| app.mount.hub().get(id)) {
        // A client that is already closing needs no second close frame.
        drop(client.sender().start_close(CloseCode::POLICY_VIOLATION, "logged out"));
    }
    "goodbye\n".into_response()
}

async fn socket(FromState(ws): FromState, State(app): State<App>, headers: HeaderMap) -> Response {
    let session =
        session_of(&headers).filter(|session| app.with(|sessions| sessions.open.contains_key(session)));
    let Some(session) = session else {
        return (StatusCode::UNAUTHORIZED, "log in first\n").into_response();
    };
    ws.on_upgrade(move |mut ws| async move {
        let id = ws.id();
        // The session may have ended during the upgrade.
        let is_open =
            app.with(|sessions| sessions.open.get_mut(&session).map(|clients| clients.push(id)).is_some());
        if !is_open {
            ws.close(CloseCode::POLICY_VIOLATION, "logged out").await?;
            return Ok(());
        }
        let ended = async {
            ws.send(format!("session {session}")).await?;
            while let Some(message) = ws.recv().await? {
                ws.send(message).await?;
            }
            Ok(())
        };
        let ended = ended.await;
        app.with(|sessions| {
            if let Some(clients) = sessions.open.get_mut(&session) {
                clients.retain(|client| *client != id);
            }
        });
        ended
    })
}

/// Returns the session that the request's cookie names.
fn session_of(headers: &HeaderMap) -> Option<u64> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|list| list.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix("session=")?.parse().ok())
}
