//! A page that shows the server's figures, ten times a second.
//!
//! ```text
//! cargo run --release --example statistics -- 127.0.0.1:8080
//! ```
//! The address is optional. Figures may be dropped: a page that is slow or about to leave misses some, and the next
//! ones are as good.

use std::time::Duration;

use http::{HeaderValue, Response, header};
use longwire::{ServerHandle, SlowPolicy};
use serde_json::json;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Statistics</title>
<style>
  :root { color-scheme: light dark; }
  body { margin: 0 auto; max-width: 40rem; padding: 1.25rem; font: 1rem/1.5 system-ui, sans-serif; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
</style>
<h1>Statistics</h1>
<pre id="numbers">connecting</pre>
<script>
const numbers = document.getElementById('numbers');
const ws = new WebSocket(location.href.replace(/^http/, 'ws'));
ws.onmessage = (event) => { numbers.textContent = JSON.stringify(JSON.parse(event.data), null, 2); };
ws.onclose = () => { numbers.textContent += '\ngone'; };
</script>
</html>
"#;

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let server =
        longwire::Server::bind(addr).await?.fallback(|_request| async { page() }).configure(|config| {
            config.hub.slow = SlowPolicy::DropNewest;
        });
    println!("listening on http://{}", server.local_addr());
    tokio::spawn(report(server.handle()));
    let serving = server.serve(|mut ws, _request| async move {
        while ws.recv().await?.is_some() {}
        Ok(())
    });
    serving.await
}

async fn report(server: ServerHandle) {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        let stats = server.stats();
        let numbers = json!({
            "clients": stats.hub.clients,
            "most at once": stats.hub.peak,
            "messages sent": stats.traffic.messages_sent,
            "bytes sent": stats.traffic.bytes_sent,
            "bytes received": stats.traffic.bytes_received,
            "messages missed": stats.hub.dropped,
            "requests refused": stats.rejections,
            "connections closed": stats.close_codes,
            "median handshake in microseconds": stats.handshakes.quantile(0.5),
        });
        server.hub().broadcast(numbers.to_string());
    }
}

fn page() -> Response<&'static str> {
    let mut response = Response::new(PAGE);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}
