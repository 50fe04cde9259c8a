//! The `tracing` event of an error that no caller received.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use longwire_connection::testing::{Pipe, duplex};
use longwire_connection::{Config, Error, Handover, WebSocket};
use tokio::io::AsyncWriteExt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Records the errors of all events.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Visit for Recorder {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "error" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longwire_connection")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        assert_eq!(*event.metadata().level(), Level::DEBUG);
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs a test with one end of a connection and the pipe of its peer, and returns the errors that were logged.
fn logged<F: Future<Output = ()>>(test: impl FnOnce(WebSocket<Pipe>, Pipe) -> F) -> Vec<String> {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(recorder.clone(), || {
        runtime.block_on(async {
            let (own, peer) = duplex(64 * 1024);
            test(WebSocket::new(own, Handover::server(), &Config::default()), peer).await;
        });
    });
    std::mem::take(&mut *recorder.0.lock().unwrap())
}

/// A ping that is not masked, which a client must not send.
const BREACH: &[u8] = b"\x89\x00";

/// A task that only sends finds the breach, but its calls fail only because nothing can be sent any more.
#[test]
fn an_error_that_no_caller_received_is_logged() {
    let errors = logged(|mut ws, mut peer| async move {
        peer.write_all(BREACH).await.unwrap();
        let failed = loop {
            if let Err(error) = ws.send("still here").await {
                break error;
            }
        };
        assert!(matches!(failed, Error::Closed), "{failed:?}");
        drop(ws);
    });
    assert_eq!(errors, ["the peer broke the protocol: frame from the client is not masked"]);
}

#[test]
fn an_error_that_was_received_is_not_logged() {
    let errors = logged(|mut ws, mut peer| async move {
        peer.write_all(BREACH).await.unwrap();
        assert!(matches!(ws.recv().await, Err(Error::Protocol(_))));
        assert!(matches!(ws.recv().await, Ok(None)));
    });
    assert_eq!(errors, [""; 0]);
    let errors = logged(|mut ws, peer| async move {
        drop(peer);
        assert!(matches!(ws.recv().await, Err(Error::Lost)));
    });
    assert_eq!(errors, [""; 0]);
    let errors = logged(|mut ws, mut peer| async move {
        peer.write_all(b"\x88\x80\0\0\0\0").await.unwrap();
        assert!(matches!(ws.recv().await, Ok(None)));
    });
    assert_eq!(errors, [""; 0]);
}
