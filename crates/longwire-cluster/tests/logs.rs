//! The warnings of a node.

mod support;

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire_cluster::{ClusterOptions, History, Memory};
use support::TestNode;
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects the warnings of the crate: message, and fields.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longwire_cluster") && *metadata.level() == Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
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
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}: {value:?} ").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_with_different_histories_warn_of_each_other() {
    let bounds = |messages| Some(History::default().with_messages(messages));
    for (one, other, warnings) in [
        (None, None, 0),
        (bounds(10), bounds(10), 0),
        // A history of no message is used as one of one message.
        (bounds(0), bounds(1), 0),
        (bounds(10), bounds(11), 2),
        (bounds(10), Some(History::default().with_messages(10).with_age(Duration::from_secs(1))), 2),
        (bounds(10), None, 2),
    ] {
        let log = Log::default();
        let _logging = tracing::subscriber::set_default(log.clone());
        let broker = Memory::new();
        let node = async |name: &str, history| {
            let mut options = ClusterOptions::default().with_name(name);
            options.history = history;
            TestNode::new(broker.clone(), options).await
        };
        let (_one, _other) = (node("one", one).await, node("other", other).await);
        sleep(Duration::from_secs(60)).await;
        let logged = log.0.lock().unwrap();
        assert_eq!(logged.len(), warnings, "{one:?}, {other:?}: {logged:?}");
        assert!(logged.iter().all(|line| line.contains("same bounds")), "{logged:?}");
        if warnings > 0 {
            let from = |name: &str| logged.iter().any(|line| line.contains(&format!("node: {name} ")));
            assert!(from("one") && from("other"), "{logged:?}");
        }
    }
}
