//! A router without a mount: its sockets work, and a use of the hub that reaches nobody is reported.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use axum::routing::any;
use axum::{Extension, Router};
use longwire_client::Client;
use longwire_hyper::axum::{Mount, WebSocketUpgrade};
use longwire_hyper::testing::serve;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message(&mut self.0.lock().unwrap()));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message<'a>(&'a mut Vec<String>);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.push(format!("{value:?}"));
        }
    }
}

/// Exchanges two messages with a handler that returns, or broadcasts, what it receives. Returns the warnings.
fn warnings_of(with_mount: bool, broadcasts: bool) -> Vec<String> {
    let handler = move |ws: WebSocketUpgrade| async move {
        ws.on_upgrade(move |mut ws| async move {
            while let Some(message) = ws.recv().await? {
                if broadcasts {
                    ws.hub().broadcast(message);
                } else {
                    ws.send(message).await?;
                }
            }
            Ok(())
        })
    };
    let mut app = Router::new().route("/", any(handler));
    if with_mount {
        app = app.layer(Extension(Mount::default()));
    }
    let warnings = Warnings::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(warnings.clone(), || {
        runtime.block_on(async {
            let (mut ws, _) = Client::new("ws://localhost/").handshake_over(serve(app)).await.unwrap();
            for _ in 0..2 {
                ws.send("hello").await.unwrap();
                assert_eq!(ws.recv().await.unwrap(), Some("hello".into()));
            }
            ws.close(1000, "").await.unwrap();
        });
    });
    let warnings = warnings.0.lock().unwrap();
    warnings.clone()
}

#[test]
fn a_broadcast_that_reaches_nobody_else_is_reported_once() {
    let warnings = warnings_of(false, true);
    assert!(matches!(&warnings[..], [one] if one.contains("Extension(Mount::default())")), "{warnings:?}");
}

#[test]
fn nothing_is_reported_where_nothing_is_missing() {
    assert_eq!(warnings_of(false, false), [""; 0]);
    assert_eq!(warnings_of(true, true), [""; 0]);
}
