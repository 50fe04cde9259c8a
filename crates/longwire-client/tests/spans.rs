//! The `tracing` spans and events of connection attempts and of reconnecting clients.

mod support;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire_client::reconnect::{Backoff, Jitter, Outage};
use longwire_client::{Client, ProxyError};
use support::attempts::{client, steady};
use support::{SWITCHING, answer_with, fill, read_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

type Fields = HashMap<&'static str, String>;

/// Records all spans and events of the client.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    spans: Vec<(&'static str, Fields)>,
    entered: Vec<u64>,
    events: Vec<Told>,
}

/// An event: its level, its span, and its fields.
#[derive(Clone, Debug)]
struct Told {
    level: Level,
    within: Option<usize>,
    message: String,
    fields: Fields,
}

struct Visitor<'a>(&'a mut Fields);

impl Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longwire_client")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        span.record(&mut Visitor(&mut fields));
        let mut recorded = self.0.lock().unwrap();
        recorded.spans.push((span.metadata().name(), fields));
        Id::from_u64(recorded.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Visitor(&mut fields));
        let message = fields.remove("message").unwrap_or_default();
        let mut recorded = self.0.lock().unwrap();
        let within = recorded.entered.last().map(|id| usize::try_from(*id).unwrap() - 1);
        recorded.events.push(Told { level: *event.metadata().level(), within, message, fields });
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.0.lock().unwrap().entered.pop(), Some(span.into_u64()));
    }
}

/// Runs a test on one thread, and returns what was recorded.
fn record(paused: bool, test: impl Future<Output = ()>) -> Recorded {
    let recorder = Recorder::default();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(paused).build().unwrap();
    tracing::subscriber::with_default(recorder.clone(), || runtime.block_on(test));
    drop(runtime);
    std::mem::take(&mut *recorder.0.lock().unwrap())
}

impl Recorded {
    /// Returns the messages of all events.
    fn messages(&self) -> Vec<&str> {
        self.events.iter().map(|event| &*event.message).collect()
    }

    fn event(&self, message: &str) -> &Told {
        let found = self.events.iter().find(|event| event.message == message);
        found.unwrap_or_else(|| panic!("{message} is missing: {:?}", self.events))
    }
}

#[test]
fn an_attempt_has_a_span_and_its_steps_are_events() {
    let recorded = record(false, async {
        let (second, _server) = answer_with(SWITCHING).await;
        let location = format!("ws://evil:credentials@{second}/there?token=2");
        let redirect = format!("HTTP/1.1 302 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let (first, _redirecting) = answer_with(redirect).await;
        let port = first.rsplit_once(':').unwrap().1;
        let client = Client::new(format!("ws://user:secret@example.com:{port}/here?token=1"))
            .resolver(|_, port| async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
            .redirects(1);
        client.connect().await.unwrap().0.abort();
    });
    let [(name, fields)] = &recorded.spans[..] else { panic!("{:?}", recorded.spans) };
    assert_eq!(*name, "connect");
    let url = &fields["url"];
    assert!(url.starts_with("ws://example.com:") && url.ends_with("/here"), "{url}");
    assert!(!fields.contains_key("attempt"), "it is the only one");
    let steps = [
        "resolved a name",
        "connected over TCP",
        "following a redirect",
        "connected over TCP",
        "upgraded to a WebSocket",
    ];
    assert_eq!(recorded.messages(), steps);
    assert!(recorded.events.iter().all(|event| event.level == Level::DEBUG && event.within == Some(0)));
    let redirect = recorded.event("following a redirect");
    assert_eq!(redirect.fields["status"], "302");
    assert!(redirect.fields["to"].ends_with("/there"), "{redirect:?}");
    let all = format!("{:?} {:?}", recorded.spans, recorded.events);
    for secret in ["secret", "token", "credentials"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
}

#[test]
fn a_proxy_is_named_without_its_login() {
    let recorded = record(false, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let request = read_request(&mut stream).await;
            stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let client = Client::new("ws://example.com/").proxy(format!("http://user:secret@{proxy}"));
        client.connect().await.unwrap().0.abort();
    });
    let steps = ["connected over TCP", "connected through a proxy", "upgraded to a WebSocket"];
    assert_eq!(recorded.messages(), steps);
    let proxy = &recorded.event("connected through a proxy").fields["proxy"];
    assert!(proxy.starts_with("http://127.0.0.1:"), "{proxy}");
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[test]
fn the_version_of_tls_is_named() {
    use longwire_client::TlsConfig;
    use support::tls::{Authority, acceptor};

    let recorded = record(false, async {
        let authority = Authority::new();
        let acceptor = acceptor(&authority.leaf("localhost"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let request = read_request(&mut stream).await;
            stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let tls = TlsConfig::new().root_certificates_pem(authority.pem).unwrap();
        let client = Client::new(format!("wss://localhost:{port}/"))
            .tls(tls)
            .resolver(|_, port| async move { Ok(vec![([127, 0, 0, 1], port).into()]) });
        client.connect().await.unwrap().0.abort();
    });
    let steps = ["resolved a name", "connected over TCP", "TLS is established", "upgraded to a WebSocket"];
    assert_eq!(recorded.messages(), steps);
    assert_eq!(recorded.event("TLS is established").fields["version"], "Some(TLSv1_3)");
}

/// The error is returned, so it is not logged as well.
#[test]
fn an_error_that_is_returned_is_not_logged() {
    let recorded = record(false, async {
        let (address, _server) = answer_with("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n").await;
        Client::new(format!("ws://{address}/")).connect().await.unwrap_err();
        Client::new("no scheme").connect().await.unwrap_err();
    });
    assert_eq!(recorded.messages(), ["connected over TCP"]);
}

#[test]
fn a_reconnecting_client_numbers_its_attempts() {
    let recorded = record(false, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            stream.write_all(&[&fill(SWITCHING, &request)[..], b"\x81\x05hello"].concat()).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let backoff = Backoff::default().with_first(Duration::from_millis(1)).with_jitter(Jitter::None);
        let client = Client::new(format!("ws://user:secret@{address}/feed?token=1"));
        let mut ws = client.reconnecting().backoff(backoff).start();
        assert!(ws.recv().await.unwrap().is_some());
    });
    let spans: Vec<_> = recorded
        .spans
        .iter()
        .map(|(name, fields)| (*name, fields.get("attempt").map(String::as_str)))
        .collect();
    assert_eq!(spans, [("reconnecting", None), ("connect", Some("1")), ("connect", Some("2"))]);
    for (name, fields) in &recorded.spans {
        let url = &fields["url"];
        assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with("/feed"), "{name}: {url}");
    }
    let failed = recorded.event("a connection attempt failed");
    assert_eq!((failed.level, failed.within), (Level::WARN, Some(0)));
    let back = recorded.event("connected after failures");
    assert_eq!((back.level, back.within), (Level::INFO, Some(0)));
}

#[test]
fn each_failure_is_a_warning_with_its_cause() {
    let recorded = record(true, async {
        let (builder, mut server) = client();
        let mut ws = builder.backoff(steady()).start();
        server.refuse().await;
        let peer = server.accept().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        peer.abort();
        server.fail(ProxyError::LoginRefused.into()).await;
        assert!(matches!(ws.recv().await, Err(Outage::Connect(_))));
    });
    let told: Vec<_> = recorded
        .events
        .iter()
        .map(|Told { level, message, fields, .. }| {
            let field = |name| fields.get(name).map_or("", String::as_str);
            (level.as_str(), &**message, field("attempt"), field("error"), field("retry_in"))
        })
        .collect();
    let refused = "connection failed during the handshake: connection refused";
    let lost = "the connection was lost: it ended without a close frame";
    assert_eq!(
        told,
        [
            ("WARN", "a connection attempt failed", "1", refused, "1s"),
            ("INFO", "connected after failures", "", "", ""),
            ("WARN", "the connection was lost", "", lost, "1s"),
            (
                "WARN",
                "a connection attempt failed for good",
                "2",
                "proxy refused the user name and password",
                ""
            ),
        ]
    );
}
