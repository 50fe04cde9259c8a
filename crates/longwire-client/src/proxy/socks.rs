//! SOCKS version 5: the exchange with a proxy (RFC 1928, RFC 1929).
//!
//! Every response states its length, at most 262 bytes, so exactly its bytes are read.
//!
//! `tokio-socks` would lose the reason for a refusal if the proxy closes right after the code, or if the code is not
//! one of RFC 1928. It refuses empty passwords, logins that are not UTF-8, and replies with a reserved byte other
//! than 0 or a name that is not UTF-8. Its versions 4 and 4a of SOCKS are not needed.

use std::io;
use std::net::{IpAddr, SocketAddr};

use longwire_handshake::Login;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ProxyError;
use crate::Error;

/// The destination, as the bytes of a request: the address type, the address and the port.
pub(super) struct Target(Vec<u8>);

impl Target {
    /// Encodes a host name; an IP address is encoded as an address.
    pub(super) fn of(host: &str, port: u16) -> Result<Self, ProxyError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port).into());
        }
        let len = u8::try_from(host.len()).map_err(|_| ProxyError::HostTooLong)?;
        Ok(Self([&[NAME, len], host.as_bytes(), &port.to_be_bytes()].concat()))
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        Self(match address.ip() {
            IpAddr::V4(ip) => [&[IPV4][..], &ip.octets(), &port].concat(),
            IpAddr::V6(ip) => [&[IPV6][..], &ip.octets(), &port].concat(),
        })
    }
}

/// Logs in if the proxy requires it, and requests a connection.
pub(super) async fn connect(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    login: Option<&Login>,
    target: &Target,
) -> Result<(), Error> {
    exchange(io, login, target).await.map_err(|error| match error {
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => ProxyError::ClosedEarly.into(),
        error => error,
    })
}

async fn exchange(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    login: Option<&Login>,
    target: &Target,
) -> Result<(), Error> {
    let methods: &[u8] = if login.is_some() { &[2, NO_LOGIN, BY_PASSWORD] } else { &[1, NO_LOGIN] };
    send(io, &[&[VERSION], methods].concat()).await?;
    let [version, method] = receive(io).await?;
    if version != VERSION {
        return Err(ProxyError::NotSocks.into());
    }
    match (method, login) {
        (NO_LOGIN, _) => {}
        (BY_PASSWORD, Some(login)) => log_in(io, login).await?,
        _ => return Err(ProxyError::LoginRequired.into()),
    }
    // CONNECT, then a reserved byte.
    send(io, &[&[VERSION, 1, 0], &target.0[..]].concat()).await?;
    let [version, code] = receive(io).await?;
    if version != VERSION {
        return Err(ProxyError::NotSocks.into());
    }
    // A proxy that refuses may close right after the code, without sending the rest of its reply.
    if code != 0 {
        return Err(ProxyError::Socks { code }.into());
    }
    // The address from which the proxy connects is not needed.
    let [_, kind] = receive(io).await?;
    match kind {
        IPV4 => receive::<{ 4 + 2 }>(io).await.map(drop)?,
        IPV6 => receive::<{ 16 + 2 }>(io).await.map(drop)?,
        NAME => {
            let [len] = receive(io).await?;
            let mut name_and_port = vec![0; usize::from(len) + 2];
            io.read_exact(&mut name_and_port).await?;
        }
        _ => return Err(ProxyError::NotSocks.into()),
    }
    Ok(())
}

/// Sends user and password (RFC 1929). In a [`ProxyUri`](super::ProxyUri), neither is too long.
async fn log_in(io: &mut (impl AsyncRead + AsyncWrite + Unpin), login: &Login) -> Result<(), Error> {
    let mut request = vec![LOGIN_VERSION];
    for text in [login.user(), login.password()] {
        request.push(u8::try_from(text.len()).map_err(|_| ProxyError::LoginRefused)?);
        request.extend_from_slice(text);
    }
    send(io, &request).await?;
    match receive(io).await? {
        [LOGIN_VERSION, 0] => Ok(()),
        [LOGIN_VERSION, _] => Err(ProxyError::LoginRefused.into()),
        _ => Err(ProxyError::NotSocks.into()),
    }
}

async fn send(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    io.write_all(bytes).await?;
    Ok(io.flush().await?)
}

async fn receive<const N: usize>(io: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const BY_PASSWORD: u8 = 2;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Simulates a proxy with the given answers. Returns the outcome, the requests, and the unread rest of the
    /// answers.
    async fn play(
        login: Option<(&str, &str)>,
        host: &str,
        answers: &[&[u8]],
    ) -> (Result<(), Error>, Vec<u8>, Vec<u8>) {
        let (mut client, mut proxy) = duplex(4096);
        proxy.write_all(&answers.concat()).await.unwrap();
        proxy.shutdown().await.unwrap();
        let login = login.map(|(user, password)| Login::new(user, password).unwrap());
        let target = Target::of(host, 0x1234).unwrap();
        let outcome = connect(&mut client, login.as_ref(), &target).await;
        let (mut left, mut sent) = (Vec::new(), Vec::new());
        client.read_to_end(&mut left).await.unwrap();
        drop(client);
        proxy.read_to_end(&mut sent).await.unwrap();
        (outcome, sent, left)
    }

    const OK: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";

    #[tokio::test]
    async fn asks_for_a_connection() {
        let by_name = b"\x05\x01\x00\x03\x01h\x12\x34";
        for (case, login, host, answers, expected) in [
            ("name", None, "h", vec![&b"\x05\x00"[..], OK], [&b"\x05\x01\x00"[..], by_name].concat()),
            (
                "IPv4",
                None,
                "1.2.3.4",
                vec![b"\x05\x00", OK],
                b"\x05\x01\x00\x05\x01\x00\x01\x01\x02\x03\x04\x12\x34".to_vec(),
            ),
            (
                "IPv6",
                None,
                "::1",
                vec![b"\x05\x00", b"\x05\x00\x00\x04", &[0; 18]],
                b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34".to_vec(),
            ),
            (
                "login",
                Some(("us", "pwd")),
                "h",
                vec![b"\x05\x02", b"\x01\x00", OK],
                [&b"\x05\x02\x00\x02\x01\x02us\x03pwd"[..], by_name].concat(),
            ),
            (
                "login not wanted",
                Some(("us", "pwd")),
                "h",
                vec![b"\x05\x00", b"\x05\x00\x00\x03\x05proxy\x00\x00"],
                [&b"\x05\x02\x00\x02"[..], by_name].concat(),
            ),
        ] {
            let answers = [&answers[..], &[b"server's"]].concat();
            let (outcome, sent, left) = play(login, host, &answers).await;
            assert!(outcome.is_ok(), "{case}: {outcome:?}");
            assert_eq!(sent, expected, "{case}");
            assert_eq!(left, b"server's", "{case}: not a byte too many is read");
        }
    }

    #[tokio::test]
    async fn names_every_refusal() {
        const NOT_SOCKS: &str = "proxy does not speak SOCKS version 5";
        const LOGIN_REQUIRED: &str = "proxy requires a login, or a kind of login that is not supported";
        const CLOSED_EARLY: &str = "proxy closed the connection before its response was complete";
        for (case, login, answers, error) in [
            ("HTTP", None, &[&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]][..], NOT_SOCKS),
            ("SOCKS 4", None, &[b"\x04\x00"], NOT_SOCKS),
            ("no method", None, &[b"\x05\xff"], LOGIN_REQUIRED),
            ("login that was not offered", None, &[b"\x05\x02"], LOGIN_REQUIRED),
            ("other login", Some(("u", "p")), &[b"\x05\x01"], LOGIN_REQUIRED),
            (
                "login refused",
                Some(("u", "p")),
                &[b"\x05\x02", b"\x01\x01"],
                "proxy refused the user name and password",
            ),
            ("login's version", Some(("u", "p")), &[b"\x05\x02", b"\x05\x00"], NOT_SOCKS),
            (
                "refused",
                None,
                &[b"\x05\x00", b"\x05\x05\x00\x01"],
                "proxy did not connect: connection refused",
            ),
            (
                "refused, cut off",
                None,
                &[b"\x05\x00", b"\x05\x05"],
                "proxy did not connect: connection refused",
            ),
            ("cut off before the code", None, &[b"\x05\x00", b"\x05"], CLOSED_EARLY),
            (
                "unknown reason",
                None,
                &[b"\x05\x00", b"\x05\xff\x00\x01"],
                "proxy did not connect: unknown reason",
            ),
            ("reply's version", None, &[b"\x05\x00", b"\x00\x00\x00\x01"], NOT_SOCKS),
            ("unknown address", None, &[b"\x05\x00", b"\x05\x00\x00\x02"], NOT_SOCKS),
            ("silence", None, &[], CLOSED_EARLY),
            ("cut off", None, &[b"\x05\x00", &OK[..9]], CLOSED_EARLY),
            ("cut off in a name", None, &[b"\x05\x00", b"\x05\x00\x00\x03\xffproxy"], CLOSED_EARLY),
        ] {
            let (outcome, sent, _) = play(login, "h", answers).await;
            let Err(Error::Proxy(refused)) = outcome else { panic!("{case}: {outcome:?}") };
            assert_eq!(format!("{refused:?}"), error, "{case}");
            if error == LOGIN_REQUIRED {
                assert!(sent.len() <= 4, "{case}: the login was not sent");
            }
        }
        assert!(matches!(Target::of(&"a".repeat(256), 1), Err(ProxyError::HostTooLong)));
    }
}
