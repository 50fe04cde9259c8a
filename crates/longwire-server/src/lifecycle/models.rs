//! Loom models of a server's end, and of workers that begin and end together. `cargo xtask loom` runs them. The comment
//! on each model names a fault of the code with which the model was seen to fail.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::{Context, Poll};

use longwire_connection::stepped::{block_on, model};
use longwire_connection::testing::duplex;
use longwire_connection::{Config, Handover, WebSocket};
use longwire_hub::ClientInfo;
use loom::thread::{Builder, spawn};

use super::*;
use crate::ServerStream;

/// A listener that accepts nothing, and can be handed over.
#[derive(Debug)]
struct Port(Arc<TcpListener>);

impl Listen for Port {
    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        Poll::Pending
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn hand_over(&self, listeners: &mut Listeners) -> io::Result<()> {
        listeners.tcp.push(self.0.try_clone()?);
        Ok(())
    }
}

/// Creates the state on a thread of its own, because the histogram is larger than the stacks of loom's threads.
fn lifecycle() -> Arc<Lifecycle> {
    let creating = Builder::new().stack_size(64 * 1024).spawn(|| Arc::new(Lifecycle::new(Hub::default())));
    creating.unwrap().join().unwrap()
}

/// One worker begins while the listeners are handed over. Fails if the phase changes after the lock of the listeners
/// was released.
#[test]
fn who_begins_after_the_hand_over_does_not_listen() {
    let port = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    model(3, move || {
        let lifecycle = lifecycle();
        let [early, late] = [(); 2].map(|()| Arc::new(Port(Arc::clone(&port))));
        lifecycle.join(early.clone());
        let beginning = {
            let (lifecycle, late) = (Arc::clone(&lifecycle), late.clone());
            spawn(move || lifecycle.join(late))
        };
        let waiting = {
            let lifecycle = Arc::clone(&lifecycle);
            spawn(move || block_on(lifecycle.reached(Phase::HandedOver)))
        };
        let listeners = lifecycle.hand_over().unwrap();
        let number = beginning.join().unwrap();
        waiting.join().unwrap();
        assert_eq!(listeners.tcp.len(), if number == usize::MAX { 1 } else { 2 });
        assert_eq!(
            [early, late].map(|port| Arc::strong_count(&port)),
            [1, 1],
            "this server no longer listens"
        );
        assert!(matches!(lifecycle.hand_over(), Err(Error::ShutDown)));
        assert!(!lifecycle.is_stopped());
    });
}

/// One worker begins and another ends, while the listeners are handed over. Fails if the phase changes after the lock
/// of the listeners was released.
#[test]
fn a_listener_is_handed_over_or_closed() {
    let port = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    model(3, move || {
        let lifecycle = lifecycle();
        let [early, late] = [(); 2].map(|()| Arc::new(Port(Arc::clone(&port))));
        lifecycle.join(early.clone());
        let beginning = {
            let (lifecycle, late) = (Arc::clone(&lifecycle), late.clone());
            spawn(move || lifecycle.join(late))
        };
        let handing_over = {
            let lifecycle = Arc::clone(&lifecycle);
            spawn(move || lifecycle.hand_over())
        };
        lifecycle.stop();
        block_on(lifecycle.reached(Phase::Stopped));
        beginning.join().unwrap();
        match handing_over.join().unwrap() {
            Ok(listeners) => assert!((1..=2).contains(&listeners.tcp.len())),
            Err(error) => assert!(matches!(error, Error::ShutDown)),
        }
        assert!(lifecycle.is_stopped() && lifecycle.pending.is_closed());
        assert_eq!([early, late].map(|port| Arc::strong_count(&port)), [1, 1], "no server listens");
    });
}

/// A handshake completes while the server waits until nobody is left. Fails if it looks for clients before it looks for
/// handshakes.
#[test]
fn a_server_that_is_deserted_has_no_client() {
    model(3, || {
        let lifecycle = lifecycle();
        let ticket = lifecycle.pending.enter(1);
        let opening = {
            let hub = lifecycle.hub.clone();
            spawn(move || {
                let ws = WebSocket::new(duplex(1024).1, Handover::server(), &Config::default());
                // The order of `Gate::open`.
                let socket = hub.admit(ws, ClientInfo::default()).expect("the hub is open");
                drop(ticket);
                drop(socket);
            })
        };
        block_on(lifecycle.deserted());
        assert!(lifecycle.hub.is_empty());
        opening.join().unwrap();
    });
}
