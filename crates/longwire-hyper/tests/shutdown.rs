//! An axum server that stops in mid-conversation with a thousand clients: all are notified in time, and no
//! accepted message is lost.

#![cfg(unix)]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::{Extension, Router, routing::any};
use longwire_client::Client;
use longwire_hyper::axum::WebSocketUpgrade;
use longwire_hyper::{HandlerResult, Mount, Socket};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use common::soon;

/// Tells the child process of this test that it may open enough descriptors.
const ROLE: &str = "LONGWIRE_TEST_MANY_DESCRIPTORS";

const CLIENTS: usize = 1000;
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn a_thousand_clients_of_axum_see_1001_in_time() {
    if std::env::var_os(ROLE).is_some() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(run());
    }
    let status = Command::new("sh")
        .args(["-c", "ulimit -n 4096 && exec \"$0\" --exact a_thousand_clients_of_axum_see_1001_in_time"])
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, "1")
        .status();
    assert!(status.unwrap().success());
}

/// The progress of the handlers, and the number of running ones.
#[derive(Default)]
struct Handlers {
    running: AtomicUsize,
    received: AtomicUsize,
    /// Messages for which `send` reported that they will reach the transport.
    accepted: AtomicUsize,
}

impl Handlers {
    async fn serve(self: Arc<Self>, mut ws: Socket) -> HandlerResult {
        self.running.fetch_add(1, Ordering::Relaxed);
        while let Ok(Some(message)) = ws.recv().await {
            self.received.fetch_add(1, Ordering::Relaxed);
            if ws.send(message).await.is_ok() {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Sends one message after the other and waits for each echo; returns the number of echoes, and the close code.
async fn talk(url: String) -> (usize, Option<u16>) {
    let (mut ws, _) = soon(Client::new(url).connect()).await.unwrap();
    let mut echoes = 0;
    loop {
        let message = format!("message {echoes}");
        // If the connection is closed, receiving reports it.
        let _ = ws.send(message.as_str()).await;
        match soon(ws.recv()).await {
            Ok(Some(echo)) => assert_eq!(echo.as_text(), Some(message.as_str())),
            Ok(None) => break,
            Err(error) => panic!("{error} behind {echoes} messages"),
        }
        echoes += 1;
    }
    (echoes, ws.close_received().map(|frame| frame.code.into()))
}

async fn run() {
    let handlers = Arc::new(Handlers::default());
    let mount = Mount::default();
    let upgrade = {
        let handlers = Arc::clone(&handlers);
        move |ws: WebSocketUpgrade| {
            let handlers = Arc::clone(&handlers);
            async move { ws.on_upgrade(|ws| handlers.serve(ws)) }
        }
    };
    let app = Router::new().route("/", any(upgrade)).layer(Extension(mount.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let hub = mount.hub().clone();
    let shutdown = async move {
        let _ = stopped.await;
        hub.shutdown(1001, "", DEADLINE).await.unwrap();
    };
    let server = tokio::spawn(axum::serve(listener, app).with_graceful_shutdown(shutdown).into_future());

    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(talk(url.clone()))).collect();
    let all_talk = async {
        while handlers.running.load(Ordering::Relaxed) < CLIENTS {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon(all_talk).await;
    sleep(Duration::from_millis(300)).await;
    let before = handlers.received.load(Ordering::Relaxed);

    let begun = Instant::now();
    stop.send(()).unwrap();
    soon(server).await.unwrap().unwrap();
    assert!(begun.elapsed() < DEADLINE + Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(handlers.running.load(Ordering::Relaxed), 0, "no handler is left");
    assert!(mount.hub().is_empty());

    let mut echoes = 0;
    for client in clients {
        let (came, code) = soon(client).await.unwrap();
        assert_eq!(code, Some(1001), "everybody is told");
        echoes += came;
    }
    let accepted = handlers.accepted.load(Ordering::Relaxed);
    assert!(before > CLIENTS, "{before}: they were in mid-conversation");
    assert_eq!(echoes, accepted, "what was accepted has arrived");
    let nothing_runs = async {
        while Handle::current().metrics().num_alive_tasks() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon(nothing_runs).await;
}
