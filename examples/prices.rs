//! Prices of which only the newest matter, and a slow client that skips the others.
//!
//! ```text
//! cargo run --release --example prices -- 127.0.0.1:8080
//! ```
//! The address is optional. Each millisecond there is a new price of each symbol. The page receives them all; beside
//! them it shows a slow client, a part of this program that reads four messages a second and hands each on to the page.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Response, header};
use longwire::server::ListenOptions;
use longwire::{Hub, Server};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Price {
    symbol: String,
    cents: u64,
    /// The time at which it was made, in milliseconds since 1970.
    at: u64,
}

/// A message to the page.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Seen<'a> {
    Slow { price: &'a Price, age: u64, skipped: u64 },
}

const SYMBOLS: [&str; 3] = ["ACME", "BOLT", "CORE"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr: SocketAddr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let options = ListenOptions::default().with_send_buffer(16 * 1024).with_unsent_low_water(16 * 1024);
    let server = Server::bind_with(addr, options)?.fallback(|_request| async { page() });
    let hub = server.hub().clone();
    println!("listening on http://{}", server.local_addr());
    tokio::spawn(produce(hub.clone()));
    tokio::spawn(read_slowly(server.local_addr(), hub));
    let serving = server.serve(|mut ws, request| async move {
        ws.join(if request.uri().path() == "/slow" { "slow" } else { "pages" })?;
        while ws.recv().await?.is_some() {}
        Ok(())
    });
    Ok(serving.await?)
}

async fn produce(hub: Hub) {
    let mut every = tokio::time::interval(Duration::from_millis(1));
    for n in 0_u64.. {
        every.tick().await;
        for (i, symbol) in SYMBOLS.iter().enumerate() {
            // A walk that looks like one.
            let cents = 10_000 + (n * (i as u64 + 3)) % 997;
            let price = Price { symbol: (*symbol).to_owned(), cents, at: now() };
            let message = serde_json::to_string(&price).expect("it has a form in JSON");
            hub.publish_latest("slow", symbol, message.as_str());
            hub.publish_latest("pages", symbol, message);
        }
    }
}

/// Reads four messages a second, and tells the pages of each.
async fn read_slowly(server: SocketAddr, hub: Hub) -> Result<(), longwire::Error> {
    let mut ws = longwire::Client::new(format!("ws://{server}/slow")).deflate(None).connect().await?.0;
    while let Some(message) = ws.recv().await? {
        if let Ok(price) = message.json::<Price>() {
            let seen = Seen::Slow {
                age: now().saturating_sub(price.at),
                skipped: hub.stats().replaced,
                price: &price,
            };
            // It has a form in JSON.
            let _ = hub.publish_json("pages", &seen);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Prices</title>
<style>
  :root { color-scheme: light dark; }
  body { margin: 0 auto; max-width: 40rem; padding: 1.25rem; font: 1rem/1.5 system-ui, sans-serif; }
  section { border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: .5rem;
    padding: .75rem 1rem; margin: 1rem 0; }
  h2 { margin: 0; font-size: 1rem; } output { font-variant-numeric: tabular-nums; }
</style>
<h1>Prices</h1>
<p>Each symbol has a thousand prices a second.</p>
<section><h2>This page</h2><output id="fast">connecting</output></section>
<section><h2>A client that reads four messages a second</h2><output id="slow">connecting</output></section>
<script>
const fast = document.getElementById('fast'), slow = document.getElementById('slow');
const prices = {};
let count = 0, since = performance.now(), rate = 0;
const ws = new WebSocket(location.href.replace(/^http/, 'ws'));
ws.onmessage = (event) => {
  const told = JSON.parse(event.data);
  if (told.slow) {
    const { price, age, skipped } = told.slow;
    slow.textContent = `${price.symbol} ${(price.cents / 100).toFixed(2)}, ${age} ms old; prices skipped: ${skipped}`;
    return;
  }
  prices[told.symbol] = told.cents;
  count += 1;
};
setInterval(() => {
  const now = performance.now();
  rate = Math.round(count * 1000 / (now - since));
  [count, since] = [0, now];
  const shown = Object.entries(prices).map(([symbol, price]) => `${symbol} ${(price / 100).toFixed(2)}`);
  fast.textContent = `${shown.join(', ')}; ${rate} messages a second`;
}, 500);
ws.onclose = () => { fast.textContent += '; gone'; };
</script>
</html>
"#;

fn page() -> Response<&'static str> {
    let mut response = Response::new(PAGE);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}
