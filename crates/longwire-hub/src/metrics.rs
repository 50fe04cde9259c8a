//! Counters reported to the recorder of the `metrics` crate.
//!
//! Owns the names; other modules decide when something is counted.

use longwire_connection::{CloseCode, Stats};
use metrics::counter;

pub(crate) fn opened() {
    counter!("longwire_connections_opened_total").increment(1);
}

pub(crate) fn closed(code: CloseCode) {
    // Applications and peers can choose from 2000 codes; a series for each would burden the system that stores them.
    let code = match u16::from(code) {
        3000..4000 => "3xxx".to_owned(),
        4000..5000 => "4xxx".to_owned(),
        code => code.to_string(),
    };
    counter!("longwire_connections_closed_total", "code" => code).increment(1);
}

pub(crate) fn refused() {
    counter!("longwire_connections_refused_total").increment(1);
}

pub(crate) fn closed_slow() {
    counter!("longwire_slow_clients_closed_total").increment(1);
}

pub(crate) fn dropped(count: u64) {
    if count > 0 {
        counter!("longwire_broadcasts_dropped_total").increment(count);
    }
}

/// Counts the traffic between two readings.
pub(crate) fn traffic(now: &Stats, before: &Stats) {
    for (name, now, before) in [
        ("longwire_messages_received_total", now.messages_received, before.messages_received),
        ("longwire_messages_sent_total", now.messages_sent, before.messages_sent),
        ("longwire_bytes_received_total", now.bytes_received, before.bytes_received),
        ("longwire_bytes_sent_total", now.bytes_sent, before.bytes_sent),
    ] {
        counter!(name).increment(now.saturating_sub(before));
    }
}
