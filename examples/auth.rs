//! Deciding who may connect: Basic credentials, checked before the handshake is completed.
//!
//! ```text
//! cargo run --release --example auth -- 127.0.0.1:8080
//! cargo run --release --example cat -- ws://ada:lovelace@127.0.0.1:8080
//! ```
//! The address is optional. Unknown clients are refused with 401, and banned ones with 403.

use http::{StatusCode, header};
use longwire::Server;
use longwire::handshake::Rejection;
use longwire::server::Admission;

/// The client's identity, for its handler.
struct User(&'static str);

/// Checks the credentials. A real service would query a database: this function may wait, up to the handshake's
/// deadline.
async fn authorize(mut admission: Admission) -> Result<Admission, Rejection> {
    let name = match admission.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes) {
        Some(b"Basic YWRhOmxvdmVsYWNl") => "Ada",   // ada:lovelace
        Some(b"Basic Z3JhY2U6aG9wcGVy") => "Grace", // grace:hopper
        Some(b"Basic bWFsbG9yeTpldmU=") => {
            // mallory:eve
            return Err(Rejection::new(StatusCode::FORBIDDEN, "you are banned\n"));
        }
        _ => return Err(Rejection::unauthorized("Basic realm=\"longwire\"")),
    };
    admission.connection_config().limits.max_message = Some(1024);
    Ok(admission.with_data(User(name)))
}

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let server = Server::bind(addr).await?.authorize(authorize);
    println!("listening on ws://{}", server.local_addr());
    let serving = server.serve(|mut ws, request| async move {
        let name = request.data().map_or("nobody", |User(name)| name);
        ws.send(format!("hello, {name}")).await?;
        while let Some(message) = ws.recv().await? {
            ws.send(format!("{name} says: {message}")).await?;
        }
        Ok(())
    });
    serving.await
}
