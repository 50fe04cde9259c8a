//! The server's side: a handler that does what its client asks for, and publishers.

use std::time::Duration;

use fastrand::Rng;
use longwire::connection::Error;
use longwire::{Hub, Request, Socket};
use tokio::time::{Instant, sleep};

use crate::ledger::Ledger;
use crate::plan::{padding, part};

pub(crate) const ROOMS: [&str; 3] = ["a", "b", "all"];

/// Does what the client's messages ask for, until the connection ends.
pub(crate) async fn handle(mut ws: Socket, request: Request, ledger: Ledger) -> Result<(), Error> {
    let id: usize = request.query("id").and_then(|id| id.parse().ok()).expect("each client has a number");
    ledger.lock().handles.entry(id).or_default().push(ws.client());
    let ended = obey(&mut ws, id, &ledger).await;
    if let Err(error) = &ended {
        ledger.lock().check(&format!("the handler of client {id}"), error);
    }
    ended
}

async fn obey(ws: &mut Socket, id: usize, ledger: &Ledger) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        let text = message.as_text().expect("all messages are text").to_owned();
        let mut words = text.split(' ');
        let mut word = || words.next().expect("it has as many words");
        match word() {
            "echo" => ws.send(message).await?,
            "note" => {
                let number = word().parse().expect("a number");
                ledger.lock().noted.entry(id).or_default().push(number);
            }
            "join" => {
                for room in ROOMS {
                    ws.join(room).expect("it is connected");
                }
                ws.send("joined").await?;
            }
            // In the turn of this handler.
            "publish" => {
                let count = word().parse().expect("a number");
                for _ in 0..count {
                    publish(ws.hub(), ledger, word(), &format!("client{id}"), "");
                }
            }
            other => panic!("client {id} asks for {other}"),
        }
    }
    Ok(())
}

/// Publishes the next message of a source in a room.
fn publish(hub: &Hub, ledger: &Ledger, room: &str, source: &str, padding: &str) {
    // One lock around both, so that the numbers are in order.
    let mut records = ledger.lock();
    let number = records.next(source, room);
    let message = format!("news {room} {source} {number} {padding}");
    let delivery = if room == "all" { hub.broadcast(message) } else { hub.publish(room, message) };
    records.count(delivery);
}

/// Publishes now and then, outside of any handler.
pub(crate) async fn publisher(number: usize, mut rng: Rng, hub: Hub, ledger: Ledger, until: Instant) {
    while Instant::now() < until {
        sleep(part(&mut rng, Duration::from_secs(3))).await;
        for _ in 0..rng.usize(1..30) {
            let room = ROOMS[rng.usize(..ROOMS.len())];
            publish(&hub, &ledger, room, &format!("publisher{number}"), &padding(&mut rng));
        }
    }
}
