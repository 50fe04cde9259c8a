//! The client's address, with one proxy in front of the server or none.
//!
//! ```text
//! cargo run --release --example client_address -- 127.0.0.1:8080
//! ```
//! The address is optional. The proxy, such as NGINX, must run on this machine and write `X-Forwarded-For`.

#[tokio::main]
async fn main() -> Result<(), longwire::BoxError> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let proxies = longwire::server::TrustedProxies::networks(["127.0.0.1", "::1"])?;
    let server = longwire::Server::bind(addr).await?.configure(|config| config.trusted_proxies = proxies);
    println!("listening on ws://{}", server.local_addr());
    let serving = server.serve(|mut ws, request| async move {
        ws.send(format!("peer {:?}, client {:?}", request.peer_addr(), request.client_ip())).await?;
        Ok(())
    });
    Ok(serving.await?)
}
