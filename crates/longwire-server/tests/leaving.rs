//! A server that shuts down in mid-conversation: nothing that it accepted is lost, and every client is notified.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longwire_connection::testing::repeatable_keys;
use longwire_connection::{Config, Handover, WebSocket};
use longwire_server::{HandlerResult, Request, Socket};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use common::{bind, open_raw, start_with};

const CLIENTS: usize = 100;

/// The numbers of messages that the handlers received and sent, and of running handlers.
#[derive(Default)]
struct Counts {
    received: AtomicUsize,
    /// Messages for which `send` promised that they reach the transport.
    accepted: AtomicUsize,
    running: AtomicUsize,
}

impl Counts {
    async fn serve(self: Arc<Self>, mut ws: Socket, _: Request) -> HandlerResult {
        self.running.fetch_add(1, Ordering::Relaxed);
        let ended = async {
            while let Some(message) = ws.recv().await? {
                self.received.fetch_add(1, Ordering::Relaxed);
                // After the shutdown's close frame nothing can be sent, but the client's messages are still
                // received.
                if ws.send(message).await.is_ok() {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let ended = ended.await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        ended
    }
}

/// Sends until sending fails. Returns the number of messages sent, the number received, and the close code.
async fn talk(stream: TcpStream) -> (usize, usize, Option<u16>) {
    let ws = WebSocket::new(stream, Handover::client(repeatable_keys), &Config::default());
    let (sender, mut receiver) = ws.split();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while sender.send(format!("message {sent}")).await.is_ok() {
            sent += 1;
            tokio::task::yield_now().await;
        }
        sent
    });
    let mut count = 0;
    while let Ok(Some(message)) = receiver.recv().await {
        assert_eq!(message.as_text(), Some(format!("message {count}").as_str()), "in order, none is missing");
        count += 1;
    }
    let code = receiver.close_received().map(|frame| u16::from(frame.code));
    drop(receiver);
    (sending.await.unwrap(), count, code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_loses_nothing_that_was_accepted() {
    let counts = Arc::new(Counts::default());
    let server = start_with(bind().await, {
        let counts = Arc::clone(&counts);
        move |ws, request| Arc::clone(&counts).serve(ws, request)
    });
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(tokio::spawn(talk(open_raw(server.addr).await)));
    }
    sleep(Duration::from_millis(300)).await;
    let before = counts.received.load(Ordering::Relaxed);
    let begun = Instant::now();
    timeout(Duration::from_secs(20), server.handle.shutdown()).await.expect("within the deadline of 10 s");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    server.task.await.unwrap().unwrap();
    assert_eq!(counts.running.load(Ordering::Relaxed), 0, "no handler is left");
    assert!(server.handle.hub().is_empty());

    let (mut sent, mut answered) = (0, 0);
    for client in clients {
        let (out, back, code) = timeout(Duration::from_secs(20), client).await.unwrap().unwrap();
        assert_eq!(code, Some(1001), "everybody is told");
        sent += out;
        answered += back;
    }
    let [received, accepted] =
        [&counts.received, &counts.accepted].map(|count| count.load(Ordering::Relaxed));
    assert!(before > CLIENTS, "{before}: it was under load");
    assert_eq!(answered, accepted, "what was accepted has arrived");
    assert!(accepted <= received && received <= sent, "{accepted} {received} {sent}");
    // Includes the clients' tasks that wait for their connections to end.
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(alive(), 0, "no task is left");
}
