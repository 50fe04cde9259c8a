//! A server whose metrics Prometheus reads from an address of their own. Each message goes to all other clients.
//!
//! ```text
//! cargo run --release --example prometheus --features metrics -- --listen 127.0.0.1:8080 --metrics 127.0.0.1:9100
//! curl http://127.0.0.1:9100/metrics
//! ```
//! `docs/guide/grafana.json` is a dashboard for it. On SIGINT every client is closed with code 1001 (going away).

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use http::{HeaderValue, Response, StatusCode, header};
use longwire::{BoxError, Hub, Server};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The address of the metrics, which should not be public; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9100")]
    metrics: SocketAddr,
    /// The maximum number of clients. Default: any number.
    #[arg(long, value_name = "N")]
    max_clients: Option<usize>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    // Before the server: a recorder misses the counts before its installation.
    let recorder = PrometheusBuilder::new().set_buckets(HANDSHAKE_SECONDS)?.install_recorder()?;

    let server = Server::bind(args.listen).await?;
    let server = server.configure(|config| config.hub.max_clients = args.max_clients);
    let metrics = Server::bind(args.metrics).await?;
    println!("listening on ws://{}", server.local_addr());
    println!("metrics on http://{}/metrics", metrics.local_addr());
    tokio::spawn(serve_metrics(metrics, server.hub().clone(), recorder));

    let serving = server.serve(|mut ws, _request| async move {
        while let Some(message) = ws.recv().await? {
            ws.hub().broadcast_except(ws.id(), message);
        }
        Ok(())
    });
    serving.with_graceful_shutdown(tokio::signal::ctrl_c()).await?;
    Ok(())
}

/// Answers plain GET requests, and refuses sockets.
async fn serve_metrics(server: Server, hub: Hub, recorder: PrometheusHandle) {
    // The recorder collects samples until somebody asks for them, or until this.
    let upkeep = recorder.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    let server = server.fallback(move |request| {
        let is_metrics = request.uri().path() == "/metrics";
        // Counts messages and bytes up to now; the server itself does so every 10 s.
        let body = is_metrics.then(|| {
            hub.report_traffic();
            recorder.render()
        });
        async move { page(body) }
    });
    if let Err(error) = server.serve_routes().await {
        eprintln!("prometheus: no metrics are served: {error}");
    }
}

fn page(body: Option<String>) -> Response<String> {
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(body.unwrap_or_else(|| "not found\n".to_owned()));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

/// The upper bounds of the buckets for `longwire_handshake_duration_seconds`, the only histogram; the default
/// deadline of a handshake is 10 s.
const HANDSHAKE_SECONDS: &[f64] = &[0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
