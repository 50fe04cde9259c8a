//! Properties of the parsers: no split of the input changes what they see, and no input makes them panic.

use bytes::Bytes;
use http::HeaderValue;
use longwire_handshake::{
    ExtensionOffer, HeadLimits, Key, Origin, RequestParser, ResponseParser, ServerOptions, Subprotocol,
    WebSocketUri, accept,
};
use proptest::prelude::*;

/// The result of a parser: the head and all bytes after it, or the error.
type Outcome = Result<Option<(String, Vec<u8>)>, String>;

/// Feeds `wire` in pieces that end at `cuts`, and collects the bytes after the first head.
fn outcome<H: std::fmt::Debug>(
    wire: &[u8],
    cuts: &[usize],
    mut feed: impl FnMut(&[u8]) -> Result<Option<(H, Bytes)>, String>,
) -> Outcome {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    ends.push(wire.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        if let Some((head, read_ahead)) = feed(&wire[start..end])? {
            return Ok(Some((format!("{head:?}"), [&read_ahead, &wire[end..]].concat())));
        }
        start = end;
    }
    Ok(None)
}

fn request_outcome(wire: &[u8], cuts: &[usize]) -> Outcome {
    let mut parser = RequestParser::default();
    outcome(wire, cuts, |piece| {
        let head = parser.handle_bytes(piece).map_err(|error| error.to_string())?;
        Ok(head.map(|head| (head.parts, head.read_ahead)))
    })
}

fn response_outcome(wire: &[u8], cuts: &[usize]) -> Outcome {
    let mut parser = ResponseParser::default();
    outcome(wire, cuts, |piece| {
        let head = parser.handle_bytes(piece).map_err(|error| error.to_string())?;
        Ok(head.map(|head| (head.parts, head.read_ahead)))
    })
}

const REQUEST: &[u8] = b"\r\nGET /chat?a=b HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nframes\r\n\r\n";

const RESPONSE: &[u8] =
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nframes\r\n\r\n";

/// A parser that starts over for each byte would take days.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about time")]
fn a_head_that_drips_takes_time_in_proportion_to_its_length() {
    let limits =
        HeadLimits::default().with_max_bytes(usize::MAX).with_max_headers(1 << 20).with_max_line(usize::MAX);
    let many = format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(1 << 18));
    let long = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(1 << 20));
    for (case, wire) in [("many fields", many), ("one long field", long)] {
        let mut parser = RequestParser::new(limits.clone());
        let begun = std::time::Instant::now();
        for (at, byte) in wire.bytes().enumerate() {
            assert!(parser.handle_bytes(&[byte]).expect(case).is_none());
            assert!(at % 4096 != 0 || begun.elapsed().as_secs() < 30, "{case}: {at} bytes took 30 s");
        }
    }
}

#[test]
fn every_single_cut_yields_the_same_head_and_read_ahead() {
    for cut in 0..=REQUEST.len() {
        let (_, behind) = request_outcome(REQUEST, &[cut]).unwrap().expect("the head is complete");
        assert_eq!(behind, b"frames\r\n\r\n", "cut at {cut}");
    }
    for cut in 0..=RESPONSE.len() {
        let (_, behind) = response_outcome(RESPONSE, &[cut]).unwrap().expect("the head is complete");
        assert_eq!(behind, b"frames\r\n\r\n", "cut at {cut}");
    }
}

/// Generates damaged heads: bytes are replaced, inserted and removed, so that most heads are nearly correct.
fn damaged(head: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let interesting =
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b','), Just(0), any::<u8>()];
    let edit = (0..head.len(), 0..3_u8, interesting);
    prop::collection::vec(edit, 0..4).prop_map(move |edits| {
        let mut wire = head.to_vec();
        for (at, kind, byte) in edits {
            let at = at.min(wire.len() - 1);
            match kind {
                0 => wire[at] = byte,
                1 => wire.insert(at, byte),
                _ => drop(wire.remove(at)),
            }
        }
        wire
    })
}

proptest! {
    #[test]
    fn any_split_of_a_request_yields_the_same(
        wire in damaged(REQUEST),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = request_outcome(&wire, &[]);
        prop_assert_eq!(&request_outcome(&wire, &cuts), &whole);
        let every_byte: Vec<usize> = (0..wire.len()).collect();
        prop_assert_eq!(&request_outcome(&wire, &every_byte), &whole);
    }

    #[test]
    fn any_split_of_a_response_yields_the_same(
        wire in damaged(RESPONSE),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = response_outcome(&wire, &[]);
        prop_assert_eq!(&response_outcome(&wire, &cuts), &whole);
        let every_byte: Vec<usize> = (0..wire.len()).collect();
        prop_assert_eq!(&response_outcome(&wire, &every_byte), &whole);
    }

    #[test]
    fn nothing_makes_a_parser_panic(wire in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = request_outcome(&wire, &[]);
        let _ = response_outcome(&wire, &[]);
        let _ = Key::parse(&wire);
        if let Ok(value) = HeaderValue::from_bytes(&wire) {
            let _ = ExtensionOffer::parse_list([&value]);
            let _ = Subprotocol::parse_list([&value]);
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,80}") {
        let _ = Origin::parse(&text);
        let _ = Subprotocol::new(&text);
        if let Ok(uri) = WebSocketUri::parse(&text) {
            prop_assert!(!uri.host_header().is_empty());
        }
        let _ = WebSocketUri::parse(&format!("ws://{text}"));
        let _ = WebSocketUri::parse(&format!("ws://a/{text}"));
        // Any of these ends the authority (RFC 3986 §3.2).
        if !text.contains(['/', '?', '#'])
            && let Ok(uri) = WebSocketUri::parse(&format!("ws://{text}@a/"))
        {
            prop_assert!(uri.host() == "a");
        }
    }

    #[test]
    fn a_damaged_request_is_accepted_or_has_a_definite_status(wire in damaged(REQUEST)) {
        let head = RequestParser::default().handle_bytes(&wire);
        let status = match head {
            Ok(None) => return Ok(()),
            Ok(Some(head)) => accept(&head.parts, &ServerOptions::default()).map(drop).map_err(|error| error.status()),
            Err(rejection) => Err(rejection.status()),
        };
        if let Err(status) = status {
            prop_assert!(status.is_client_error(), "{}", status);
        }
    }

    #[test]
    fn extension_lists_survive_a_round_trip(text in "[a-z-]{1,9}( ?; ?[a-z_]{1,6}(=([a-z0-9]{1,4}|\"[a-z0-9]{1,4}\"))?){0,5}(, ?[a-z]{1,5}){0,3}") {
        let value = HeaderValue::from_str(&text).unwrap();
        let offers = ExtensionOffer::parse_list([&value]).unwrap();
        let shown: Vec<String> = offers.iter().map(ToString::to_string).collect();
        let again = HeaderValue::from_str(&shown.join(", ")).unwrap();
        prop_assert_eq!(ExtensionOffer::parse_list([&again]).unwrap(), offers);
    }
}
