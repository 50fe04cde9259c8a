//! Counters reported to the recorder of the `metrics` crate.
//!
//! Owns the names; other modules decide when something is counted.

use std::sync::PoisonError;

use longwire_connection::CloseCode;
use metrics::counter;

use crate::Hub;

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

impl Hub {
    /// Reports the messages and bytes received and sent since the last call to the recorder of the `metrics` crate.
    ///
    /// It visits every client, as [`traffic`](Self::traffic) does. Longwire's own server calls it every 10 s and
    /// when the server ends; with a hub of your own, call it before the recorder is read.
    pub fn report_traffic(&self) {
        let mut reported = self.inner.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.traffic();
        for (name, now, before) in [
            ("longwire_messages_received_total", now.messages_received, reported.messages_received),
            ("longwire_messages_sent_total", now.messages_sent, reported.messages_sent),
            ("longwire_bytes_received_total", now.bytes_received, reported.bytes_received),
            ("longwire_bytes_sent_total", now.bytes_sent, reported.bytes_sent),
        ] {
            counter!(name).increment(now.saturating_sub(before));
        }
        *reported = now;
    }
}
