//! Servers that complete the handshake and then violate every rule, against a client with default settings.

mod support;

use std::time::Duration;

use longwire_client::{Client, Config, Error as Refused, connect};
use longwire_connection::{CloseCode, Error};
use support::{SWITCHING, answer_with, fill, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Returns the code of the client's close frame if the client sent nothing else.
fn close_code(sent: &[u8]) -> Option<u16> {
    let [0x88, len, key @ ..] = sent else { return None };
    let (key, payload) = key.split_at_checked(4)?;
    let is_one_frame = *len & 0x80 != 0 && usize::from(len & 0x7f) == payload.len();
    let [high, low] = [payload.first()? ^ key[0], payload.get(1)? ^ key[1]];
    is_one_frame.then(|| u16::from_be_bytes([high, low]))
}

/// The client reports the violation to its user and to the server, sends nothing else, and ignores the rest.
#[tokio::test]
async fn every_breach_of_a_server_ends_the_connection_with_its_code() {
    for (case, frame, code) in [
        ("masked text", &b"\x81\x85\x01\x02\x03\x04igohn"[..], 1002),
        ("masked empty text", b"\x81\x80\0\0\0\0", 1002),
        ("masked close", b"\x88\x80\0\0\0\0", 1002),
        ("RSV1 that was not agreed on", b"\xc1\x05hello", 1002),
        ("RSV2", b"\xa1\x05hello", 1002),
        ("RSV3", b"\x91\x05hello", 1002),
        ("reserved opcode 3", b"\x83\x00", 1002),
        ("reserved opcode 15", b"\x8f\x00", 1002),
        ("continuation of nothing", b"\x80\x05hello", 1002),
        ("message within a message", b"\x01\x01a\x81\x01b", 1002),
        ("ping in parts", b"\x09\x00", 1002),
        ("ping of 126 bytes", b"\x89\x7e\x00\x7e", 1002),
        ("close of one byte", b"\x88\x01a", 1002),
        ("close with code 1005", b"\x88\x02\x03\xed", 1002),
        ("text that is not UTF-8", b"\x81\x02\xc0\x80", 1007),
        ("a frame of 4 GiB", b"\x82\x7f\0\0\0\x01\0\0\0\0", 1009),
        ("a frame of 2^62 bytes", b"\x82\x7f\x40\0\0\0\0\0\0\0", 1009),
    ] {
        // The message after the violation must be ignored.
        let (address, server) = answer_with([SWITCHING.as_bytes(), frame, b"\x81\x04late"].concat()).await;
        let client = Client::new(format!("ws://{address}"));
        #[cfg(feature = "deflate")]
        let client = client.deflate(None);
        let (mut ws, _) = client.connect().await.expect(case);
        let error = ws.recv().await.expect_err(case);
        assert!(matches!(error, Error::Protocol(_)), "{case}: {error:?}");
        assert_eq!(error.close_code(), Some(CloseCode::new(code)), "{case}");
        assert_eq!(ws.recv().await.unwrap(), None, "{case}: nothing more is taken");
        drop(ws);
        let (_, sent) = server.await.unwrap();
        assert_eq!(close_code(&sent), Some(code), "{case}: {sent:02x?}");
    }
}

/// A fragmented message that never ends; the default limit is 16 MiB.
#[tokio::test]
async fn a_message_without_end_is_cut_off() {
    let (address, server) = serve(|request, mut stream| async move {
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        stream.write_all(b"\x02\x00").await.unwrap();
        let part = [&b"\x00\x7f\0\0\0\0\0\x01\0\0"[..], &vec![0; 1 << 16]].concat();
        let mut parts = 0_usize;
        while parts < 4096 && stream.write_all(&part).await.is_ok() {
            parts += 1;
        }
        parts
    })
    .await;
    let mut ws = connect(format!("ws://{address}")).await.unwrap();
    let error = ws.recv().await.unwrap_err();
    assert_eq!(error.close_code(), Some(CloseCode::MESSAGE_TOO_BIG), "{error:?}");
    ws.abort();
    let parts = timeout(Duration::from_secs(60), server).await.expect("it ends").unwrap();
    assert!((256..4096).contains(&parts), "{parts}");
}

/// No part of a URL, a location or a socket path can start a new line in the request.
#[tokio::test]
async fn line_breaks_stay_within_what_they_are_part_of() {
    // Percent-encoded line breaks are part of the path and query.
    let (address, server) = answer_with(SWITCHING).await;
    connect(format!("ws://{address}/a%0d%0aX-Evil:%20b?c%0d%0a")).await.unwrap().abort();
    let (request, _) = server.await.unwrap();
    assert!(request.starts_with("GET /a%0d%0aX-Evil:%20b?c%0d%0a HTTP/1.1\r\n"), "{request}");
    assert!(!request.contains("\r\nX-Evil"), "{request}");

    for location in ["/a\rX-Evil: b", "/a\nX-Evil: b", "/a b", "/\u{7f}", "//h\\@evil/", "//us er@h/"] {
        let answer = format!("HTTP/1.1 302 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let (address, server) = answer_with(answer).await;
        let refused = Client::new(format!("ws://{address}/")).redirects(1).connect().await;
        assert!(
            matches!(refused, Err(Refused::Redirect(_) | Refused::Response(_))),
            "{location:?}: {refused:?}"
        );
        let (_, sent) = server.await.unwrap();
        assert_eq!(sent, b"", "{location:?}");
    }

    for (case, client) in [
        ("path of a socket's URL", Client::new("ws+unix:/no/such/socket:/a\r\nX: b")),
        ("host of the URL", Client::new("ws://a\r\nX: b/")),
        ("Host", Client::new("ws://127.0.0.1:1/").header("host", "a b")),
        ("user of the option", Client::new("ws://127.0.0.1:1/").basic_auth("a\r\nX: b", "c")),
        ("credentials of the proxy", Client::new("ws://127.0.0.1:1/").proxy("http://a:b%0aX@127.0.0.1:1")),
        ("login of a SOCKS proxy", Client::new("ws://127.0.0.1:1/").proxy("socks5://a%00:b@127.0.0.1:1")),
        ("Proxy-Authorization", Client::new("ws://127.0.0.1:1/").header("proxy-authorization", "Basic dTpw")),
    ] {
        let refused = client.connect().await;
        // No server listens there, so a connection attempt would fail with another error.
        assert!(
            matches!(refused, Err(Refused::Option(_) | Refused::Options(_) | Refused::Uri(_))),
            "{case}: {refused:?}"
        );
    }
}

/// A peer that reads but no longer answers cannot delay closing beyond the timeout.
#[tokio::test]
async fn a_server_that_never_closes_is_left_in_time() {
    let (address, server) = serve(|request, mut stream| async move {
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        let mut sent = Vec::new();
        let _ = stream.read_to_end(&mut sent).await;
        sent
    })
    .await;
    let config = Config::default().with_close_timeout(Duration::from_millis(100));
    let (mut ws, _) = Client::new(format!("ws://{address}")).config(config).connect().await.unwrap();
    let closed = timeout(Duration::from_secs(10), ws.close(1000, "")).await.expect("in time");
    assert!(matches!(closed, Err(Error::CloseTimeout)), "{closed:?}");
    assert_eq!(close_code(&server.await.unwrap()), Some(1000));
}
