//! The targets of redirects.

use longwire_handshake::{UriError, WebSocketUri};

fn uri(text: &str) -> WebSocketUri {
    text.parse().expect(text)
}

#[test]
fn resolves_references_as_rfc_3986_does() {
    // The examples of §5.4 with another scheme, without fragments and parameters, which do not apply here.
    for (reference, expected) in [
        ("ws:g", None),
        ("g", Some("ws://a/b/c/g")),
        ("./g", Some("ws://a/b/c/g")),
        ("g/", Some("ws://a/b/c/g/")),
        ("/g", Some("ws://a/g")),
        ("//g", Some("ws://g/")),
        ("?y", Some("ws://a/b/c/d?y")),
        ("g?y", Some("ws://a/b/c/g?y")),
        ("g?y/./x", Some("ws://a/b/c/g?y/./x")),
        ("g;x=1/../y", Some("ws://a/b/c/y")),
        ("", Some("ws://a/b/c/d?q")),
        (".", Some("ws://a/b/c/")),
        ("./", Some("ws://a/b/c/")),
        ("..", Some("ws://a/b/")),
        ("../g", Some("ws://a/b/g")),
        ("../..", Some("ws://a/")),
        ("../../../../g", Some("ws://a/g")),
        ("/./g", Some("ws://a/g")),
        ("/../g", Some("ws://a/g")),
        ("g.", Some("ws://a/b/c/g.")),
        ("..g", Some("ws://a/b/c/..g")),
        ("./g/.", Some("ws://a/b/c/g/")),
        ("g/../h", Some("ws://a/b/c/h")),
        ("/a:b", Some("ws://a/a:b")),
        ("?a:b", Some("ws://a/b/c/d?a:b")),
        ("g/a:b", Some("ws://a/b/c/g/a:b")),
        ("1:2", Some("ws://a/b/c/1:2")),
        // Other origins.
        ("wss://h/x", Some("wss://h/x")),
        ("HTTPS://h:8443/x/../y", Some("wss://h:8443/y")),
        ("http://[::1]:99/", Some("ws://[::1]:99/")),
        ("//h:80/x", Some("ws://h/x")),
    ] {
        let joined = uri("ws://a/b/c/d?q").join(reference).ok().map(|uri| uri.to_string());
        assert_eq!(joined.as_deref(), expected, "{reference:?}");
    }
}

#[test]
fn refuses_references_that_lead_out_of_the_web() {
    for reference in
        ["file:///etc/passwd", "javascript:alert(1)", "ftp://h/", "ws+unix:/run/socket:/", "chat:1", "data:,"]
    {
        // Without a host, some of these are not URIs at all.
        let refused = uri("wss://a/").join(reference);
        assert!(
            matches!(refused, Err(UriError::Scheme { .. } | UriError::NoScheme { .. } | UriError::Syntax(_))),
            "{reference}: {refused:?}"
        );
    }
    for reference in ["/x#y", "#", "ws://h/#"] {
        assert!(matches!(uri("wss://a/").join(reference), Err(UriError::Fragment)), "{reference}");
    }
    for reference in ["ws://", "//", "ws://h:0/", "ws://h:70000/", "/a b", "/a\r\nb", "ws://a b/", "///x"] {
        assert!(uri("wss://a/").join(reference).is_err(), "{reference:?}");
    }
}

#[test]
fn keeps_credentials_at_their_origin() {
    for (reference, kept) in [
        ("/other", true),
        ("?q", true),
        ("ws://host:8080/", true),
        ("HTTP://HOST:8080/", true),
        ("ws://mallory:own@host:8080/", true),
        ("//host:8080/x", true),
        ("ws://host/", false),
        ("ws://host:8081/", false),
        ("wss://host:8080/", false),
        ("ws://host.example:8080/", false),
        ("ws://mallory:own@other/", false),
    ] {
        let from = uri("ws://user:secret@host:8080/chat");
        let to = from.join(reference).expect(reference);
        assert_eq!(to.credentials(), from.credentials().filter(|_| kept), "{reference}");
        assert_eq!(to.is_same_origin(&from), kept, "{reference}");
    }
}
