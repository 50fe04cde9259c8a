//! The age of latest values that a client reads at a fraction of their rate, over TCP.

#![cfg(target_os = "linux")]

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use longwire_server::{ListenOptions, Server};
use socket2::{Domain, Socket, Type};
use tokio::time::sleep;

use common::{REQUEST, start_with};

const KEYS: [&str; 4] = ["ACME", "BOLT", "CORE", "DUSK"];
/// Values of each key, one each millisecond.
const COUNT: usize = 1000;
/// The length of each value.
const LEN: usize = 500;

/// Set once the last values were published.
static IS_PUBLISHED: AtomicBool = AtomicBool::new(false);

/// Publishes values to a client that reads about 1 % of them. Returns the bytes that the client receives from the
/// moment on when the last values were published, until it has all of them.
async fn bytes_until_newest(options: ListenOptions, receive_buffer: Option<usize>) -> usize {
    let listener = options.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Server::from_listener(listener).unwrap();
    let hub = server.hub().clone();
    let running = start_with(server, |mut ws, _| async move {
        ws.join("prices")?;
        while ws.recv().await?.is_some() {}
        Ok(())
    });
    IS_PUBLISHED.store(false, Ordering::SeqCst);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size).unwrap();
    }
    socket.connect(&running.addr.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    let reader = thread::spawn(move || read_slowly(&mut stream));
    while hub.room("prices").is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    for n in 0..COUNT {
        for key in KEYS {
            let value = format!("{:.<LEN$}", format!("{key} {n} "));
            assert_eq!(hub.publish_latest("prices", key, value).accepted, 1);
        }
        sleep(Duration::from_millis(1)).await;
    }
    IS_PUBLISHED.store(true, Ordering::SeqCst);
    tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap()
}

/// Reads a value each 25 ms, and everything once the last values were published.
fn read_slowly(stream: &mut TcpStream) -> usize {
    stream.write_all(REQUEST.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(0);
        stream.read_exact(head.last_mut().map(std::slice::from_mut).unwrap()).unwrap();
    }
    let mut newest = HashMap::new();
    let mut bytes = 0;
    while newest.values().filter(|n| **n == COUNT - 1).count() < KEYS.len() {
        // Values of 126 to 65535 bytes have a header of four.
        let mut frame = [0; 4 + LEN];
        stream.read_exact(&mut frame).unwrap();
        if IS_PUBLISHED.load(Ordering::SeqCst) {
            bytes += frame.len();
        } else {
            thread::sleep(Duration::from_millis(25));
        }
        let text = String::from_utf8_lossy(&frame[4..]).into_owned();
        let mut words = text.split(' ');
        let key = words.next().unwrap().to_owned();
        newest.insert(key, words.next().unwrap().parse::<usize>().unwrap());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_newest_values_follow_64_kib_of_older_ones_at_most() {
    // The client's own buffer is small as well: the server has no influence on it.
    let small = ListenOptions::default().with_send_buffer(16 * 1024).with_unsent_low_water(16 * 1024);
    let both = bytes_until_newest(small, Some(4096)).await;
    let server = bytes_until_newest(small, None).await;
    let neither = bytes_until_newest(ListenOptions::default(), None).await;
    println!(
        "until the newest values: {both} bytes; {server} if the client's buffer is not small; {neither} by default"
    );
    assert!(both <= 64 * 1024, "{both} bytes");
    assert!(server < neither / 4, "{server} bytes, and {neither} by default");
}
