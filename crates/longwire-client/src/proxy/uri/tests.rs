//! URLs of proxies, and the requests to them.

use http::{HeaderMap, HeaderName, HeaderValue};
use longwire_handshake::{OptionsError, UriError, WebSocketUri};

use super::{ProxyScheme, ProxyUri};

#[test]
fn takes_urls_apart() {
    for (text, scheme, shown) in [
        ("http://proxy", ProxyScheme::Http, "http://proxy:80"),
        ("proxy:3128", ProxyScheme::Http, "http://proxy:3128"),
        ("proxy", ProxyScheme::Http, "http://proxy:80"),
        ("user:pw@proxy:3128", ProxyScheme::Http, "http://proxy:3128"),
        ("HTTPS://Proxy.Example/", ProxyScheme::Https, "https://proxy.example:443"),
        ("socks5://127.0.0.1", ProxyScheme::Socks5, "socks5://127.0.0.1:1080"),
        ("socks://127.0.0.1", ProxyScheme::Socks5, "socks5://127.0.0.1:1080"),
        ("SOCKS://127.0.0.1:1081/", ProxyScheme::Socks5, "socks5://127.0.0.1:1081"),
        ("socks5h://u:p@[::1]:9050", ProxyScheme::Socks5h, "socks5h://[::1]:9050"),
        ("http://[fe80::1%25eth0]:3128", ProxyScheme::Http, "http://[fe80::1%25eth0]:3128"),
    ] {
        let proxy = ProxyUri::parse(text).expect(text);
        assert_eq!((proxy.scheme(), proxy.to_string().as_str()), (scheme, shown), "{text}");
        assert_eq!(format!("{proxy:?}"), format!("ProxyUri({shown})"), "{text}");
    }
}

#[test]
fn refuses_urls_of_no_proxy() {
    let long = "a".repeat(256);
    for (text, error) in [
        ("ftp://proxy", "ProxyScheme"),
        ("socks4://proxy", "ProxyScheme"),
        ("ws://proxy", "ProxyScheme"),
        ("http://proxy:0", "Port"),
        ("http://proxy:65536", "Port"),
        ("http://proxy/path", "Target"),
        ("http://proxy?query", "Target"),
        ("http://proxy#x", "Fragment"),
        ("http://u:a%0d%0ab@proxy", "Credentials"),
        ("http://u%0a:p@proxy", "Credentials"),
        ("http://u%3a:p@proxy", "Credentials"),
        ("socks5://u:a%00b@proxy", "Credentials"),
        ("socks5://:p@proxy", "Credentials"),
        (&format!("socks5://{long}:p@proxy"), "Credentials"),
        (&format!("socks5://u:{long}@proxy"), "Credentials"),
        ("http://u:p\r\nX: y@proxy", "Syntax"),
        ("", "Syntax"),
    ] {
        let refused = ProxyUri::parse(text).expect_err(text);
        let name = match refused {
            UriError::ProxyScheme { .. } => "ProxyScheme",
            UriError::Host => "Host",
            UriError::Port => "Port",
            UriError::Target => "Target",
            UriError::Fragment => "Fragment",
            UriError::Credentials => "Credentials",
            UriError::Syntax(_) => "Syntax",
            other => panic!("{text:?}: {other}"),
        };
        assert_eq!(name, error, "{text:?}");
    }
    assert!(matches!(ProxyUri::parse("http://"), Err(UriError::Syntax(_) | UriError::Host)));
}

#[test]
fn asks_with_its_own_credentials_and_no_others() {
    for (proxy, uri, request) in [
        ("http://p", "ws://h/chat?x", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n"),
        ("http://p", "wss://[::1]/", "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"),
        (
            "http://us%40er:p%3aw@p",
            "ws://alice:secret@h:8080/",
            "CONNECT h:8080 HTTP/1.1\r\nHost: h:8080\r\nProxy-Authorization: Basic dXNAZXI6cDp3\r\n\r\n",
        ),
        ("http://p", "ws://[fe80::1%25lo]/", "CONNECT [fe80::1]:80 HTTP/1.1\r\nHost: [fe80::1]:80\r\n\r\n"),
    ] {
        let uri = WebSocketUri::parse(uri).unwrap();
        let asked = ProxyUri::parse(proxy).unwrap().connect_request(&uri, &HeaderMap::new());
        assert_eq!(asked.unwrap(), request.as_bytes(), "{proxy}");
    }
}

#[test]
fn asks_with_the_headers_for_the_proxy() {
    let uri = WebSocketUri::parse("ws://h/").unwrap();
    let proxy = ProxyUri::parse("http://u:p@p").unwrap();
    let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
        let typed = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        fields.iter().map(typed).collect()
    };
    let asked = |fields: &[_]| proxy.connect_request(&uri, &headers(fields));
    assert_eq!(
        asked(&[("user-agent", "tool/1")]).unwrap(),
        "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nProxy-Authorization: Basic dTpw\r\nUser-Agent: tool/1\r\n\r\n"
    );
    assert_eq!(
        asked(&[("user-agent", "tool/1"), ("proxy-authorization", "Bearer t")]).unwrap(),
        "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nUser-Agent: tool/1\r\nProxy-Authorization: Bearer t\r\n\r\n"
    );
    for name in ["host", "content-length", "transfer-encoding", "connection", "upgrade"] {
        let refused = asked(&[(name, "1")]);
        assert!(matches!(refused, Err(OptionsError::ReservedHeader { .. })), "{name}: {refused:?}");
    }
}

#[test]
fn refuses_more_headers_than_a_request_can_hold() {
    let uri = WebSocketUri::parse("ws://h/").unwrap();
    let proxy = ProxyUri::parse("http://u:p@p").unwrap();
    let with = |count: usize| -> HeaderMap {
        let name = |n| HeaderName::try_from(format!("x-{n}")).unwrap();
        (0..count).map(|n| (name(n), HeaderValue::from_static("1"))).collect()
    };
    assert!(proxy.connect_request(&uri, &with(16_384)).is_ok());
    for count in [16_385, 24_576] {
        let refused = proxy.connect_request(&uri, &with(count)).map(drop).unwrap_err();
        assert_eq!(refused.to_string(), "too many headers", "{count}");
    }
}
