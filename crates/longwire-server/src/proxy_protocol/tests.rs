//! Headers of the PROXY protocol, tested with tables and properties.

use hex_literal::hex;
use proptest::prelude::*;

use super::{ProxyHeader, ProxyHeaderError, ProxyHeaderParser};
use crate::TrustedProxies;

/// The result of a parser, and the rest of the stream.
type Outcome<'a> = (Result<Option<ProxyHeader>, ProxyHeaderError>, &'a [u8]);

/// Reads as a server does, at most `most` bytes at a time.
fn outcome(mut wire: &[u8], most: usize) -> Outcome<'_> {
    let mut parser = ProxyHeaderParser::default();
    while !wire.is_empty() {
        let wanted = parser.wanted();
        assert!(wanted > 0, "it wants more as long as there is no outcome");
        let (bytes, rest) = wire.split_at(wanted.min(most).min(wire.len()));
        wire = rest;
        let parsed = parser.handle_bytes(bytes);
        if !matches!(parsed, Ok(None)) {
            assert_eq!(parser.wanted(), 0);
            return (parsed, wire);
        }
    }
    (Ok(None), wire)
}

fn header(source: &str, destination: &str) -> ProxyHeader {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    ProxyHeader { source: Some(source), destination: Some(destination) }
}

/// Returns the fixed part of version 2, followed by `rest`.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&hex!("0d0a0d0a 000d0a51 5549540a")[..], &[command, family], &len, rest].concat()
}

const IPV4: [u8; 12] = hex!("c0000201 c6336402 1267 01bb");

fn good() -> Vec<(&'static str, Vec<u8>, ProxyHeader)> {
    let four = header("192.0.2.1:4711", "198.51.100.2:443");
    let six = header("[2001:db8::1]:4711", "[2001:db8::2]:443");
    let ipv6 = hex!("20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000002 1267 01bb");
    let extended = [&IPV4[..], &hex!("04 0002 ffff")].concat();
    let longest = [&IPV4[..], &vec![0xee; 4096 - 16 - 12]].concat();
    let ffff = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let unknown = format!("PROXY UNKNOWN {ffff} {ffff} 65535 65535\r\n");
    assert_eq!(unknown.len(), 107, "the longest line that the text names");
    vec![
        ("TCP4", b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n".to_vec(), four),
        ("TCP6", b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(), six),
        ("port 0", b"PROXY TCP4 1.1.1.1 2.2.2.2 0 65535\r\n".to_vec(), header("1.1.1.1:0", "2.2.2.2:65535")),
        ("UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::default()),
        ("UNKNOWN with addresses", unknown.into_bytes(), ProxyHeader::default()),
        ("IPv4", binary(0x21, 0x11, &IPV4), four),
        ("IPv6", binary(0x21, 0x21, &ipv6), six),
        ("IPv4 with an extension", binary(0x21, 0x11, &extended), four),
        ("as long as may be", binary(0x21, 0x11, &longest), four),
        ("LOCAL", binary(0x20, 0x00, &[]), ProxyHeader::default()),
        ("LOCAL with addresses", binary(0x20, 0x11, &IPV4), ProxyHeader::default()),
        ("unspecified", binary(0x21, 0x00, &IPV4), ProxyHeader::default()),
        ("Unix sockets", binary(0x21, 0x31, &[0; 216]), ProxyHeader::default()),
    ]
}

#[test]
fn headers_are_read_and_nothing_behind_them_in_any_split() {
    for (case, wire, expected) in good() {
        let stream = [&wire[..], b"\r\nGET / HTTP/1.1\r\n"].concat();
        for most in [1, 2, 3, 16, 5000] {
            assert_eq!(outcome(&stream, most), (Ok(Some(expected)), &stream[wire.len()..]), "{case}, {most}");
        }
        for cut in 0..wire.len() {
            assert_eq!(outcome(&wire[..cut], 7), (Ok(None), &[][..]), "{case}, cut off at {cut}");
        }
    }
}

#[test]
fn whatever_else_is_refused() {
    use ProxyHeaderError::{Malformed, Missing, TooLong};
    let malformed = |part| Malformed { part };
    let kind = malformed("command or family");
    for (case, wire, expected) in [
        ("a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Missing),
        ("TLS", hex!("16030102000100").to_vec(), Missing),
        ("lower case", b"proxy TCP4".to_vec(), Missing),
        ("a signature that is not", hex!("0d0a0d0a 000d0a51 5549540b").to_vec(), Missing),
        ("another family", b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), malformed("family")),
        ("no family", b"PROXY          \r\n".to_vec(), malformed("family")),
        ("IPv6 as IPv4", b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), malformed("source")),
        ("a name", b"PROXY TCP4 1.1.1.1 localhost 1 2\r\n".to_vec(), malformed("destination")),
        ("leading zeros", b"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n".to_vec(), malformed("source")),
        ("two spaces", b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), malformed("source")),
        (
            "a port that is too great",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n".to_vec(),
            malformed("source port"),
        ),
        ("a port with zeros", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 02\r\n".to_vec(), malformed("destination port")),
        ("a port with a sign", b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n".to_vec(), malformed("source port")),
        ("no ports", b"PROXY TCP4 1.1.1.1 2.2.2.2\r\n".to_vec(), malformed("source port")),
        ("more at the end", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n".to_vec(), malformed("end")),
        ("a line feed alone", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\nGET ".to_vec(), malformed("line")),
        ("a carriage return within", b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r2\r\n".to_vec(), malformed("line")),
        ("no UTF-8", b"PROXY TCP4 \xff.1.1.1 2.2.2.2 1 2\r\n".to_vec(), malformed("line")),
        ("a line without an end", [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(), TooLong { len: 107 }),
        ("version 1 in version 2's form", binary(0x11, 0x11, &IPV4), malformed("version")),
        ("another command", binary(0x22, 0x11, &IPV4), kind),
        ("datagrams", binary(0x21, 0x12, &IPV4), kind),
        ("another family", binary(0x21, 0x41, &IPV4), kind),
        ("addresses cut off", binary(0x21, 0x11, &IPV4[..11]), malformed("length")),
        ("IPv4 as IPv6", binary(0x21, 0x21, &IPV4), malformed("length")),
        ("too long", binary(0x21, 0x11, &[0; 4081]), TooLong { len: 4097 }),
    ] {
        for most in [1, 16, 5000] {
            let (result, _) = outcome(&wire, most);
            match (result, expected) {
                // The number of bytes seen when the error is found depends on how they arrive.
                (Err(TooLong { len }), TooLong { len: least }) => assert!((least..=least + 1).contains(&len)),
                (result, expected) => assert_eq!(result, Err(expected), "{case}, {most}"),
            }
        }
    }
    let mut parser = ProxyHeaderParser::default();
    assert!(parser.handle_bytes(b"PROXY UNKNOWN\r\nG").is_err(), "more than it wants");
    assert!(parser.handle_bytes(b"P").is_err());
}

#[test]
fn who_is_a_proxy_is_a_matter_of_the_address() {
    let networks = TrustedProxies::networks(["10.0.0.0/8", "2001:db8::/32"]).unwrap();
    for (case, proxies, peer, expected) in [
        ("nobody", TrustedProxies::default(), Some("10.0.0.1"), false),
        ("any", TrustedProxies::hops(1), Some("192.0.2.1"), true),
        ("any, without an address", TrustedProxies::hops(1), None, true),
        ("no hop", TrustedProxies::hops(0), Some("192.0.2.1"), false),
        ("inside", networks.clone(), Some("10.1.2.3"), true),
        ("inside, as a socket for both families shows it", networks.clone(), Some("::ffff:10.1.2.3"), true),
        ("outside", networks.clone(), Some("192.0.2.1"), false),
        ("without an address", networks, None, false),
    ] {
        let peer = peer.map(|peer| peer.parse().unwrap());
        assert_eq!(proxies.trusts(peer), expected, "{case}");
    }
}

#[test]
fn what_follows_the_header_is_not_taken() {
    let mut input = &b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\nGET / HTTP/1.1\r\n"[..];
    let mut parser = ProxyHeaderParser::default();
    let header = loop {
        let (bytes, rest) = input.split_at(parser.wanted().min(input.len()));
        input = rest;
        if let Some(header) = parser.handle_bytes(bytes).unwrap() {
            break header;
        }
    };
    assert_eq!(header.source, Some("192.0.2.1:4711".parse().unwrap()));
    assert!(input.starts_with(b"GET"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_depend_on_the_split(
        row in 0..13_usize,
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        most in 1..64_usize,
    ) {
        let (_, mut wire, _) = good().swap_remove(row);
        let at = at.index(wire.len());
        wire.splice(at..(at + bytes.len()).min(wire.len()), bytes);
        let (whole, rest) = outcome(&wire, usize::MAX);
        let (split, other_rest) = outcome(&wire, most);
        // An error is reported as soon as it is found, so split input may fail before more of a line is read.
        prop_assert_eq!(whole.is_err(), split.is_err());
        if whole.is_ok() {
            prop_assert_eq!((whole, rest), (split, other_rest));
        }
    }
}
