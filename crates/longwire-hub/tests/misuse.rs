//! A hub for one client: its first use to reach other clients is reported on standard error if there is no log.

use std::process::Command;

use longwire_hub::{Hub, HubConfig, SlowPolicy};

const WARNING: &str = "this hub has one client";
/// Set in the processes that the test starts: whether they have a subscriber of `tracing`.
const SUBSCRIBER: &str = "LONGWIRE_HUB_MISUSE";

#[test]
fn a_use_of_a_hub_for_one_client_is_reported_once() {
    if let Ok(subscriber) = std::env::var(SUBSCRIBER) {
        return misuse(&subscriber);
    }
    for (subscriber, reports) in [("none", usize::from(cfg!(debug_assertions))), ("one", 0)] {
        let mut child = Command::new(std::env::current_exe().expect("the program has a path"));
        let arguments = ["a_use_of_a_hub_for_one_client_is_reported_once", "--nocapture"];
        let output = child.args(arguments).env(SUBSCRIBER, subscriber).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches(WARNING).count(), reports, "subscriber: {subscriber}: {text}");
    }
}

/// Uses two such hubs, and an ordinary one.
fn misuse(subscriber: &str) {
    if subscriber == "one" {
        tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default())
            .expect("there is no other");
    }
    let config = HubConfig::default().with_slow(SlowPolicy::DropOldest);
    for _ in 0..2 {
        let hub = Hub::for_one_client(config, WARNING);
        assert_eq!(hub.config(), config);
        hub.broadcast("to nobody");
    }
    Hub::default().broadcast("to nobody");
}
