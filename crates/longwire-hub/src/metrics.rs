//! Counts passed on to the recorder of the `metrics` crate.
//!
//! Owns the names; when something is counted is for others to say.

use std::sync::PoisonError;

use longwire_connection::CloseCode;
use metrics::counter;

use crate::Hub;

pub(crate) fn opened() {
    counter!("longwire_connections_opened_total").increment(1);
}

pub(crate) fn closed(code: CloseCode) {
    // Applications and peers choose from 2000 codes: as many series would be a burden on whoever stores them.
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
    /// Passes on to the recorder of the `metrics` crate what messages and bytes have come and gone since the last call.
    ///
    /// It looks at every client, as [`traffic`](Self::traffic) does. Longwire's own server calls it every 10 s and at its end; with a
    /// hub of your own, do so before the recorder is asked.
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
