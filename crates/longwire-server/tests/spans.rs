//! The `tracing` spans and events of each client.

mod common;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use longwire_server::{HandlerResult, Request, Socket};
use tokio::io::AsyncWriteExt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use common::{REQUEST, bind, expect, frame, head, open_raw, rest, start_with, tcp, text};

type Fields = HashMap<&'static str, String>;

/// Records the spans of clients, and the events in each.
#[derive(Clone, Default)]
struct Recorder {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    spans: Vec<Fields>,
    entered: Vec<u64>,
    said: Vec<(Option<u64>, String)>,
    errors: Vec<String>,
}

struct Visitor<'a>(&'a mut Fields);

impl Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longwire_") || metadata.target().starts_with("spans")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::from([("", span.metadata().name().to_owned())]);
        span.record(&mut Visitor(&mut fields));
        let mut state = self.state.lock().unwrap();
        state.spans.push(fields);
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let index = usize::try_from(span.into_u64()).unwrap() - 1;
        values.record(&mut Visitor(&mut self.state.lock().unwrap().spans[index]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Visitor(&mut fields));
        let mut state = self.state.lock().unwrap();
        let within = state.entered.last().copied();
        let message = fields.remove("message").unwrap_or_default();
        state.said.push((within, message));
        state.errors.extend(fields.remove("error"));
    }

    fn enter(&self, span: &Id) {
        self.state.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.state.lock().unwrap().entered.pop(), Some(span.into_u64()));
    }
}

async fn handler(mut ws: Socket, _: Request) -> HandlerResult {
    tracing::info!("it begins");
    while let Some(message) = ws.recv().await? {
        tracing::info!("it was told {message}");
    }
    Ok(())
}

#[test]
fn each_client_has_a_span() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(recorder.clone(), || {
        runtime.block_on(async {
            let server = start_with(bind().await, handler);
            for (last, code) in [(frame(0x88, &4000_u16.to_be_bytes()), "4000"), (vec![0xff; 2], "1002")] {
                let mut stream = tcp(server.addr).await;
                stream.write_all(REQUEST.as_bytes()).await.unwrap();
                head(&mut stream).await;
                stream.write_all(&[text("hello"), last].concat()).await.unwrap();
                rest(&mut stream).await;
                drop(stream);
                while !server.handle.hub().is_empty() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                let mut state = recorder.state.lock().unwrap();
                let id = state.spans.len() as u64;
                let span = state.spans.last().unwrap();
                let field = |name| span.get(name).map(String::as_str);
                assert_eq!(
                    [field(""), field("id"), field("peer"), field("path"), field("subprotocol")],
                    [Some("client"), Some(&*id.to_string()), Some("127.0.0.1"), Some("\"/chat\""), None]
                );
                assert_eq!(field("close_code"), Some(code));
                let said: Vec<_> = std::mem::take(&mut state.said);
                let within: Vec<_> =
                    said.iter().filter(|(within, _)| *within == Some(id)).map(|(_, text)| &**text).collect();
                let expected =
                    ["a client connected", "it begins", "it was told hello", "a client disconnected"];
                assert_eq!(within, expected, "{said:?}");
            }
        });
    });
}

#[test]
fn an_error_of_a_handler_is_told() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(recorder.clone(), || {
        runtime.block_on(async {
            let server = start_with(bind().await, |_, _| async { Err("the database is gone".into()) });
            let mut stream = open_raw(server.addr).await;
            expect(&mut stream, b"\x88\x02\x03\xf3").await;
            stream.write_all(&frame(0x88, b"\x03\xf3")).await.unwrap();
            rest(&mut stream).await;
            while !server.handle.hub().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            let state = recorder.state.lock().unwrap();
            assert!(state.said.iter().any(|(_, text)| text == "a handler failed"), "{:?}", state.said);
            assert_eq!(state.errors, ["the database is gone"]);
        });
    });
}

#[test]
fn overload_is_told_once() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(recorder.clone(), || {
        runtime.block_on(async {
            let server = bind().await.configure(|config| config.hub.max_clients = Some(1));
            let server = start_with(server, handler);
            let _first = open_raw(server.addr).await;
            for _ in 0..3 {
                let mut stream = tcp(server.addr).await;
                stream.write_all(REQUEST.as_bytes()).await.unwrap();
                assert!(rest(&mut stream).await.starts_with("HTTP/1.1 503 "));
            }
            let state = recorder.state.lock().unwrap();
            let told = state.said.iter().filter(|(_, text)| text == "overload: too many clients");
            assert_eq!(told.count(), 1, "{:?}", state.said);
        });
    });
}
