//! A node of longwire: each message goes to all members of the sender's room, on all nodes.

use std::net::SocketAddr;

use clap::Parser;
use longwire::cluster::{Cluster, ClusterOptions, Nats, Redis};
use longwire::{BoxError, Server};

#[derive(Parser)]
struct Options {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long)]
    listen: SocketAddr,
    /// The broker: nats://HOST:PORT or redis://HOST:PORT.
    #[arg(long, value_name = "URL")]
    broker: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let server =
        Server::bind(options.listen).await?.route("/rooms/{room}", |mut ws, request| async move {
            let room = request.param("room").unwrap_or_default();
            ws.join(room)?;
            while let Some(message) = ws.recv().await? {
                ws.hub().publish(room, message);
            }
            Ok(())
        })?;
    let (hub, broker) = (server.hub().clone(), options.broker);
    let cluster = ClusterOptions::default();
    let _cluster = if broker.starts_with("nats") {
        Cluster::join(&hub, Nats::connect(&broker).await?, cluster).await?
    } else {
        Cluster::join(&hub, Redis::connect(&broker).await?, cluster).await?
    };
    println!("listening on ws://{}", server.local_addr());
    server.serve_routes().await?;
    Ok(())
}
