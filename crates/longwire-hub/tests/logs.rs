//! The log events of a client, and their levels.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex};

use longwire_connection::testing::pair;
use longwire_connection::{Config, Error};
use longwire_hub::{BoxError, ClientHandle, ClientInfo, Hub, HubError, RunError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects the events of the hub: level, message, and error.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String, String)>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longwire_hub")
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().push((*event.metadata().level(), fields.message, fields.error));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    error: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "error" => self.error = format!("{value:?}"),
            _ => {}
        }
    }
}

/// An application's error with a cause.
#[derive(Debug)]
struct Caused(Error);

impl fmt::Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer")
    }
}

impl std::error::Error for Caused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Returns the one event that `log` causes for a client. If there is a `code`, the client was closed with it.
fn logged(code: Option<u16>, log: impl FnOnce(&ClientHandle)) -> (Level, String, String) {
    let hub = Hub::default();
    let (_peer, server) = pair(Config::default());
    let mut socket = hub.admit(server, ClientInfo::default()).unwrap();
    if let Some(code) = code {
        socket.start_close(code, "").unwrap();
    }
    let events = Log::default();
    tracing::subscriber::with_default(events.clone(), || log(&socket.client()));
    let mut events = events.0.lock().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

#[tokio::test]
async fn only_a_handler_that_failed_is_logged_as_a_warning() {
    type Ended = Result<(), RunError<BoxError>>;
    let failed = |error: BoxError| Err(RunError::Handler(error));
    let lost = || BoxError::from(Caused(Error::Lost));
    let cases: [(&str, Option<u16>, Ended, Level, &str); 8] = [
        ("a handler that returned", None, Ok(()), Level::DEBUG, ""),
        (
            "a connection that was lost",
            None,
            failed(Error::Lost.into()),
            Level::DEBUG,
            &Error::Lost.to_string(),
        ),
        ("its loss as a cause", Some(1000), failed(lost()), Level::DEBUG, "no answer"),
        ("the loss of another connection", Some(1011), failed(lost()), Level::WARN, "no answer"),
        ("its own loss after that", Some(1011), failed(Error::Lost.into()), Level::DEBUG, ""),
        ("a mistake", None, failed(Error::QueueFull.into()), Level::WARN, ""),
        ("another error", None, failed("another".into()), Level::WARN, "another"),
        (
            "a deadline",
            None,
            Err(RunError::Aborted),
            Level::DEBUG,
            "the handler was dropped at the shutdown deadline",
        ),
    ];
    for (case, code, ended, level, error) in cases {
        let message = if level == Level::WARN { "a handler failed" } else { "a client disconnected" };
        let logged = logged(code, |client| client.log_end(ended));
        assert_eq!((logged.0, &*logged.1), (level, message), "{case}");
        assert!(logged.2.starts_with(error), "{case}: {logged:?}");
    }
    let refused = Err(RunError::Refused(HubError::ShuttingDown));
    let logged_refusal = logged(None, |client| client.log_end(refused));
    assert_eq!(logged_refusal.2, "the client was not admitted: the hub is shutting down");
    let begun = logged(None, ClientHandle::log_start);
    assert_eq!(begun, (Level::DEBUG, "a client connected".to_owned(), String::new()));
}

#[tokio::test]
async fn causes_are_logged() {
    let ended = Err(RunError::Handler(Caused(Error::QueueFull).into()));
    let (_, _, error) = logged(None, |client| client.log_end(ended));
    assert_eq!(error, format!("no answer: {}", Error::QueueFull));
}
