//! Connections: TCP and the opening handshake, blocking because neither is measured.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Outcome;

/// Raises the limit of open files as far as possible. If that is too little, connecting reports it.
pub(crate) fn raise_descriptor_limit() {
    const ENOUGH: u64 = 1 << 17;
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: Some(ENOUGH), maximum: Some(ENOUGH) };
    if now.maximum.is_none_or(|maximum| maximum >= ENOUGH) || setrlimit(Resource::Nofile, raised).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
}

/// Opens connections number `0..conns`.
pub(crate) fn connect_all(addr: SocketAddr, conns: u32) -> Outcome<Vec<TcpStream>> {
    (0..conns)
        .map(|index| {
            let opened =
                open(addr, index).and_then(|mut stream| shake_hands(&mut stream, addr).map(|()| stream));
            opened.map_err(|reason| format!("connection {index}: {reason}"))
        })
        .collect()
}

/// Opens a connection.
pub(crate) fn open(addr: SocketAddr, index: u32) -> Outcome<TcpStream> {
    let text = |error: std::io::Error| error.to_string();
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP)).map_err(text)?;
    // An address has some 28 000 ports to connect from: every further address of the loopback network has its own
    // ports.
    let network = index / CONNECTIONS_PER_ADDRESS;
    if network > 0 && addr.is_ipv4() {
        let [_, .., low] = (network + 1).to_be_bytes();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, low), 0)).into()).map_err(text)?;
    }
    socket.connect(&addr.into()).map_err(text)?;
    // Closing is not measured, and must not leave thousands of ports in TIME_WAIT.
    socket.set_linger(Some(Duration::ZERO)).map_err(text)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    Ok(stream)
}

/// Performs the opening handshake.
pub(crate) fn shake_hands(stream: &mut (impl Read + Write), addr: SocketAddr) -> Outcome {
    let text = |error: std::io::Error| error.to_string();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut response = Vec::new();
    let mut buf = [0; 1024];
    // An echo server sends nothing on its own: bytes after the head would be a fault, and are detected as one.
    while !response.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buf).map_err(text)? {
            0 => return Err("the server closed during the handshake".to_owned()),
            len => response.extend_from_slice(&buf[..len]),
        }
    }
    let head = String::from_utf8_lossy(&response);
    if head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT) {
        Ok(())
    } else {
        Err(format!("the server answered: {}", head.lines().next().unwrap_or_default()))
    }
}

/// The answer to the key of RFC 6455 §1.3, which every request here sends.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The limit for actions that take no time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const CONNECTIONS_PER_ADDRESS: u32 = 20_000;
