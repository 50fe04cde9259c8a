//! A page about the clients of a hub, for any axum application.
//!
//! It shows the largest rooms and the slowest clients only, so its size does not depend on their number. While it is
//! open, it visits every client every two seconds, which takes 20 ms for 100 000 of them.

use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use longwire::hub::ClientHandle;
use longwire::{Hub, Measurements};
use serde_json::{Value, json};

/// The number of rooms and clients in the tables.
const ROWS: usize = 20;

/// Returns the page at `/` and its data at `/data`. It has no login: mount it where only you can reach it.
///
/// `measurements` are those of the connections' configuration, for the plot of round trips.
pub(crate) fn routes(hub: Hub, measurements: Measurements) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/data", get(move || async move { Json(data(&hub, &measurements)) }))
}

fn data(hub: &Hub, measurements: &Measurements) -> Value {
    let (stats, traffic) = (hub.stats(), hub.traffic());
    let round_trips = measurements.counts().round_trips;
    json!({
        "clients": stats.clients,
        "peak": stats.peak,
        "admitted": stats.admitted,
        "refused": stats.refused,
        "closed_slow": stats.closed_slow,
        "dropped": stats.dropped,
        "messages_received": traffic.messages_received,
        "messages_sent": traffic.messages_sent,
        "bytes_received": traffic.bytes_received,
        "bytes_sent": traffic.bytes_sent,
        "bytes_queued": traffic.bytes_queued,
        "close_codes": hub.close_codes(),
        "rooms": stats.rooms,
        "largest_rooms": largest_rooms(hub),
        "slowest_clients": slowest_clients(hub),
        "round_trips": {
            "buckets": round_trips.buckets().collect::<Vec<_>>(),
            "median": round_trips.quantile(0.5),
            "slow": round_trips.quantile(0.99),
        },
    })
}

fn largest_rooms(hub: &Hub) -> Vec<Value> {
    let mut rooms: Vec<_> = hub.rooms().into_iter().map(|name| (hub.room(&name).len(), name)).collect();
    rooms.sort_unstable_by(|one, other| other.cmp(one));
    rooms.truncate(ROWS);
    rooms.into_iter().map(|(members, name)| json!({ "name": &*name, "members": members })).collect()
}

/// Returns the clients with the most bytes in their queues, then those that missed the most messages.
fn slowest_clients(hub: &Hub) -> Vec<Value> {
    let clients = hub.clients();
    let mut slowest: Vec<_> = clients
        .iter()
        .map(|client| ((client.sender().stats().bytes_queued, client.dropped(), client.id()), client))
        .collect();
    slowest.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
    slowest.into_iter().take(ROWS).map(|(_, client)| row(client)).collect()
}

fn row(client: &ClientHandle) -> Value {
    let stats = client.stats();
    json!({
        "id": client.id().value(),
        "address": client.peer_addr().map(|address| address.to_string()),
        "seconds": stats.connected_for.as_secs(),
        "queued": stats.connection.bytes_queued,
        "dropped": stats.dropped,
        "received": stats.connection.messages_received,
        "sent": stats.connection.messages_sent,
    })
}
