//! longwire's broadcast, prepared once or made anew for each client, controlled by the content of text messages.
//!
//! `prepared` and `each` are answered by a broadcast of the preceding message; any other message is kept for them.

use std::{net::SocketAddr, process::ExitCode};

use clap::Parser;
use longwire::{DeflateOptions, Message, Server, deflate::Level};

/// The command line.
#[derive(Parser)]
struct Options {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The compression level.
    #[arg(long, default_value_t = 6)]
    level: u8,
    /// Both sides compress each message separately.
    #[arg(long)]
    no_context_takeover: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let server = Server::bind(options.listen).await?.configure(|config| {
        let mut deflate = DeflateOptions::default();
        deflate.level = Level::new(options.level).unwrap_or_default();
        deflate.threshold = 0;
        deflate.server_no_context_takeover = options.no_context_takeover;
        deflate.client_no_context_takeover = options.no_context_takeover;
        config.handshake.deflate = Some(deflate);
    });
    println!("listening on ws://{}", server.local_addr());
    server
        .serve(|mut ws, _| async move {
            let mut kept = Message::text("");
            while let Some(message) = ws.recv().await? {
                match message.as_text() {
                    Some("prepared") => {
                        ws.hub().broadcast_except(ws.id(), kept.clone());
                    }
                    Some("each") => {
                        for client in ws.hub().clients().iter().filter(|client| client.id() != ws.id()) {
                            client.sender().try_send(kept.clone())?;
                        }
                    }
                    _ => kept = message,
                }
            }
            Ok(())
        })
        .await?;
    Ok(())
}
