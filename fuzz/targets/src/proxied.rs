//! The client's address behind proxies: `X-Forwarded-For`, `Forwarded`, and the PROXY protocol.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use longwire_server::TrustedProxies;
use longwire_server::fuzzing::{Addresses, ProxyProtocol};

use crate::input::{Input, Lengths};

/// Reads header fields that a client may have forged before trusted proxies added theirs.
///
/// - Without trust, the client is the peer.
/// - Whatever the client sends in fields of its own, the proxies' entries decide.
/// - Whatever it sends in the field that the proxies append to, the client is the real one, or a proxy if the quotes
///   do not balance: never an address of the client's choice.
pub fn forwarded(data: &[u8]) {
    let mut input = Input::new(data);
    let (options, hops) = (input.byte(), input.below(4));
    let forged = input.rest();
    let is_forwarded = options & 1 != 0;
    let real = IpAddr::from([203, 0, 113, 9]);
    let proxies: Vec<_> = (0..hops).map(|hop| IpAddr::from([10, 0, 0, hop])).collect();
    let peer = IpAddr::from([10, 0, 0, 200]);

    // Each proxy appends the address that connected to it: the real client's first.
    let chain: Vec<_> = [real].into_iter().chain(proxies).collect();
    let entries: Vec<_> = chain
        .iter()
        .map(|addr| if is_forwarded { element(*addr, options) } else { addr.to_string() })
        .collect();
    let counted = TrustedProxies::hops(chain.len());
    let inside = TrustedProxies::networks(["10.0.0.0/8"]).expect("a network");
    let name = if is_forwarded { "forwarded" } else { "x-forwarded-for" };
    let forged_fields: Vec<_> =
        forged.split(|byte| *byte == b'\n').filter_map(|field| HeaderValue::from_bytes(field).ok()).collect();

    let mut apart = HeaderMap::new();
    for value in &forged_fields {
        apart.append(name, value.clone());
    }
    for trust in [&counted, &inside] {
        let trust = if is_forwarded { trust.clone().forwarded() } else { trust.clone() };
        let _ = trust.client(&apart, peer);
        assert_eq!(TrustedProxies::default().client(&apart, peer), peer, "without trust");
        let mut headers = apart.clone();
        headers.append(name, HeaderValue::from_str(&entries.join(", ")).expect("visible"));
        assert_eq!(trust.client(&headers, peer), real, "{headers:?}");
        assert_eq!(trust.find_client(&headers, None), trust.trusts(None).then_some(real), "{headers:?}");

        let Some(last) = forged_fields.last() else { continue };
        let joined = [last.as_bytes(), b", ", entries.join(", ").as_bytes()].concat();
        let mut headers = HeaderMap::new();
        headers.append(name, HeaderValue::from_bytes(&joined).expect("visible"));
        let client = trust.client(&headers, peer);
        if is_forwarded {
            assert!(client == peer || chain.contains(&client), "{client} by {headers:?}");
        } else {
            assert_eq!(client, real, "{headers:?}");
        }
    }
}

/// Returns an element of `Forwarded` as one of several proxies writes it.
fn element(addr: IpAddr, style: u8) -> String {
    match style >> 1 & 3 {
        0 => format!("for={addr}"),
        1 => format!("for=\"{addr}:4711\";proto=https"),
        2 => format!("proto=http;by=\"_a, b\";For={addr}"),
        _ => format!("for=\"\\{addr}\""),
    }
}

/// Reads a header of the PROXY protocol, and one that a proxy would write.
///
/// - Every split gives the same, and no byte after the header is asked for.
/// - The addresses are those of a model; what a proxy writes is read as it was meant.
/// - After an error, everything is an error.
pub fn proxy_protocol(data: &[u8]) {
    let mut input = Input::new(data);
    let (options, way) = (input.byte(), input.byte());
    if options & 1 != 0 {
        check_written(&mut input, options, way);
        return;
    }
    let bytes = input.rest();
    let (whole, taken) = read(bytes, 0);
    for way in [1, way] {
        assert_eq!(read(bytes, way), (whole.clone(), taken), "way {way} of {bytes:02x?}");
    }
    if let Ok(Some(addresses)) = whole {
        assert_eq!(Some(addresses), model(&bytes[..taken]), "{bytes:02x?}");
        assert!(taken <= ProxyProtocol::MAX_LEN);
    } else {
        // Everything that the model reads is read, unless it is too long.
        let is_complete = (0..=bytes.len().min(300)).any(|end| model(&bytes[..end]).is_some());
        assert!(!is_complete, "is refused: {bytes:02x?}");
    }
}

/// The header was refused.
#[derive(Clone, Debug, PartialEq)]
struct Refused;

/// Returns the result, and how many bytes were taken for it.
fn read(bytes: &[u8], way: u8) -> (Result<Option<Addresses>, Refused>, usize) {
    let mut parser = ProxyProtocol::default();
    let (mut lengths, mut rest) = (Lengths::new(way), bytes);
    while !rest.is_empty() {
        let wanted = parser.wanted();
        assert!(wanted > 0, "wants nothing, and has no result");
        let (piece, after) = rest.split_at(lengths.next(rest.len().min(wanted)));
        rest = after;
        match parser.handle_bytes(piece) {
            Ok(None) => {}
            Ok(Some(header)) => {
                assert_eq!(parser.wanted(), 0);
                return (Ok(Some(header)), bytes.len() - rest.len());
            }
            // How much was taken until the error, and which one came first, depends on the split.
            Err(error) => {
                assert!(parser.handle_bytes(b"P").is_err(), "goes on after {error}");
                return (Err(Refused), 0);
            }
        }
    }
    (Ok(None), 0)
}

/// Reads a whole header; `None` if these bytes are none.
fn model(bytes: &[u8]) -> Option<Addresses> {
    if let Some(rest) = bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        let (&[command, family, high, low], rest) = rest.split_first_chunk()?;
        if usize::from(u16::from_be_bytes([high, low])) != rest.len() || rest.len() > 4080 {
            return None;
        }
        return match (command, family) {
            (0x20, _) | (0x21, 0x00 | 0x31) => Some((None, None)),
            (0x21, 0x11) => {
                let at = |at: usize| Some(<[u8; 4]>::try_from(rest.get(at..at + 4)?).ok()?.into());
                Some((Some(addr(at(0)?, rest, 8)?), Some(addr(at(4)?, rest, 10)?)))
            }
            (0x21, 0x21) => {
                let at = |at: usize| Some(<[u8; 16]>::try_from(rest.get(at..at + 16)?).ok()?.into());
                Some((Some(addr(at(0)?, rest, 32)?), Some(addr(at(16)?, rest, 34)?)))
            }
            _ => None,
        };
    }
    let line = std::str::from_utf8(bytes.strip_suffix(b"\r\n")?).ok()?;
    if line.len() > 105 || line.contains(['\r', '\n']) {
        return None;
    }
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Some((None, None)),
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let end = |ip: &str, port: &str| {
                let ip: IpAddr = ip.parse().ok()?;
                let number: u16 = port.parse().ok()?;
                let fits = ip.is_ipv4() == (family == "TCP4") && number.to_string() == port;
                fits.then(|| SocketAddr::new(ip, number))
            };
            Some((Some(end(from, from_port)?), Some(end(to, to_port)?)))
        }
        _ => None,
    }
}

fn addr(ip: IpAddr, bytes: &[u8], port: usize) -> Option<SocketAddr> {
    let port = bytes.get(port..port + 2)?;
    Some(SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]])))
}

fn check_written(input: &mut Input<'_>, options: u8, way: u8) {
    let mut end = || {
        let ip = Ipv4Addr::from([input.byte(), input.byte(), input.byte(), input.byte()]);
        let ip = if options & 2 == 0 { IpAddr::from(ip) } else { IpAddr::from(ip.to_ipv6_compatible()) };
        SocketAddr::new(ip, input.pair())
    };
    let (from, to) = (end(), end());
    let header = if options & 4 == 0 { line(from, to) } else { binary(from, to, input.chunk()) };
    let after = input.rest();
    let (read, taken) = read(&[&header, after].concat(), way);
    assert_eq!((read, taken), (Ok(Some((Some(from), Some(to)))), header.len()));
}

fn line(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into()
}

fn binary(from: SocketAddr, to: SocketAddr, more: &[u8]) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let body = [octets(from.ip()), octets(to.ip()), ports, more.to_vec()].concat();
    let family = if from.is_ipv4() { 0x11 } else { 0x21 };
    let len = u16::try_from(body.len()).expect("some hundred bytes").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &len, &body].concat()
}
