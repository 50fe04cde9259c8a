//! A server over TLS with a certificate that it creates at startup, valid for this machine only.
//!
//! ```text
//! cargo run --release --example tls_server -- 127.0.0.1:8443
//! ```
//! The address is optional. The certificate is written to the file named by the second argument, so that clients
//! can trust it.

use longwire::BoxError;
use longwire::Server;
use longwire::server::TlsConfig;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or("127.0.0.1:8443".into());

    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let certified = rcgen::generate_simple_self_signed(names)?;
    let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    if let Some(file) = args.next() {
        std::fs::write(file, &chain)?;
    }

    let server = Server::bind(addr).await?.tls(TlsConfig::from_pem(chain.as_bytes(), key.as_bytes())?);
    println!("listening on wss://{}", server.local_addr());
    let serving = server.serve(|mut ws, request| async move {
        ws.send(if request.is_secure() {
            "the connection is encrypted"
        } else {
            "the connection is not encrypted"
        })
        .await?;
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        Ok(())
    });
    Ok(serving.await?)
}
