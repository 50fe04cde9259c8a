//! A connection to an echo server that is re-established whenever it is lost. Stop the server and start it again!
//!
//! ```text
//! cargo run --release --example reconnect -- ws://127.0.0.1:9001
//! ```
//! The URL is optional. The program ends on SIGINT.

use std::time::Duration;

use longwire::Client;
use longwire::reconnect::{Confirm, Event, Phase};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:9001".into());
    let mut ws = Client::new(url)
        .reconnecting()
        // Runs on each new connection before anything else is sent: the place to log in and subscribe.
        .on_connect(|mut ws| async move {
            ws.send("hello").await?;
            Ok(ws)
        })
        // A message is delivered once the server has read it; it is sent again if the connection fails before that.
        .confirm(Confirm::Pong)
        .start();
    let mut state = ws.phase();

    let sender = ws.sender();
    tokio::spawn(async move {
        for n in 1_u64.. {
            if sender.send(format!("message {n}")).await.is_err() {
                break;
            }
            println!("delivered {n}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });

    loop {
        tokio::select! {
            event = ws.next_event() => match event? {
                Some(Event::Message(message)) => println!("received {message}"),
                // Messages that the server sent in the meantime are missing here.
                Some(Event::Reconnected(gap)) => println!("there was a gap of {:?}: {:?}", gap.duration, gap.outage),
                Some(_) => {}
                None => return Ok(()),
            },
            Ok(()) = state.changed() => match &*state.borrow_and_update() {
                Phase::Connecting { attempt } => println!("connecting, attempt {attempt}"),
                Phase::Connected => println!("connected"),
                Phase::Waiting { until, cause, .. } => {
                    println!("next attempt in {:?}: {cause:?}", *until - Instant::now());
                }
                _ => {}
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(ws.close(1000, "").await?);
            }
        }
    }
}
