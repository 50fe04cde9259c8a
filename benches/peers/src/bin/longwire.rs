//! longwire's `Workers`, and its TLS: what the examples `echo` and `broadcast` have no option for.
//!
//! With TLS, it makes its certificate itself.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;
use longwire::{
    BoxError, Server,
    server::{TlsConfig, Workers},
};

/// The command line.
#[derive(Parser)]
struct Options {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Workers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Forward each message to every other client, instead of echoing it.
    #[arg(long)]
    broadcast: bool,
    /// Serve over TLS.
    #[arg(long)]
    tls: bool,
    /// The silence in seconds after which a client is pinged. Default: longwire's.
    #[arg(long, value_name = "SECONDS")]
    keepalive: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longwire: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), BoxError> {
    let tls = options.tls.then(certificate).transpose()?;
    let workers = Workers::bind(options.listen, options.threads)?.configure(|config| {
        if let (Some(seconds), Some(keepalive)) = (options.keepalive, &mut config.connection.keepalive) {
            keepalive.interval = Duration::from_secs(seconds);
        }
    });
    println!("listening on {}://{}", if options.tls { "wss" } else { "ws" }, workers.local_addr());
    let broadcasts = options.broadcast;
    workers.run(|server: Server| {
        let server = match tls.clone() {
            Some(tls) => server.tls(tls),
            None => server,
        };
        async move {
            if broadcasts {
                let forward = server.serve(|mut ws, _| async move {
                    while let Some(message) = ws.recv().await? {
                        ws.hub().broadcast_except(ws.id(), message);
                    }
                    Ok(())
                });
                return Ok(forward.await?);
            }
            let echo = server.serve(|mut ws, _| async move {
                while let Some(message) = ws.recv().await? {
                    ws.send(message).await?;
                }
                Ok(())
            });
            Ok(echo.await?)
        }
    })
}

fn certificate() -> Result<TlsConfig, BoxError> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    Ok(TlsConfig::from_pem(chain.as_bytes(), key.as_bytes())?)
}
