//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1).

use http::HeaderValue;
use longwire_handshake::{ExtensionError, ExtensionOffer};

fn parse(fields: &[&[u8]]) -> Result<Vec<String>, ExtensionError> {
    let values: Vec<_> = fields.iter().map(|field| HeaderValue::from_bytes(field).unwrap()).collect();
    Ok(ExtensionOffer::parse_list(&values)?.iter().map(ToString::to_string).collect())
}

#[test]
fn reads_what_the_grammar_allows() {
    for (case, fields, offers) in [
        ("no field", &[][..], &[][..]),
        ("name", &[&b"foo"[..]], &["foo"]),
        ("names", &[b"foo,bar"], &["foo", "bar"]),
        ("the same name twice", &[b"foo, foo; a"], &["foo", "foo; a"]),
        ("two fields", &[b"foo", b"bar;a"], &["foo", "bar; a"]),
        ("parameters", &[b"foo;a;b=1"], &["foo; a; b=1"]),
        ("repeated parameter", &[b"foo;a=1;a;a=2"], &["foo; a=1; a; a=2"]),
        ("quoted", &[b"foo;a=\"b\""], &["foo; a=b"]),
        ("escaped", &[b"foo;a=\"\\b\\c\""], &["foo; a=bc"]),
        ("whitespace", &[b" foo\t; a = b ;\tc , bar "], &["foo; a=b; c", "bar"]),
        ("prototype names", &[b"__proto__;constructor=toString"], &["__proto__; constructor=toString"]),
        ("case is kept", &[b"Foo;A=B"], &["Foo; A=B"]),
        (
            "offers of RFC 7692",
            &[b"permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            &["permessage-deflate; server_max_window_bits=10", "permessage-deflate"],
        ),
    ] {
        assert_eq!(parse(fields).unwrap(), offers, "{case}");
    }
}

#[test]
fn keeps_parameters_as_they_came() {
    let value = HeaderValue::from_static("foo; a; b=\"c\"; a=1");
    let offers = ExtensionOffer::parse_list([&value]).unwrap();
    assert_eq!(offers[0].name(), "foo");
    let params: Vec<_> = offers[0].params().iter().map(|param| (param.name(), param.value())).collect();
    assert_eq!(params, [("a", None), ("b", Some("c")), ("a", Some("1"))]);
}

#[test]
fn refuses_what_the_grammar_forbids() {
    use ExtensionError::{QuotedNotAToken, Unexpected, UnexpectedEnd};
    for (case, field, error) in [
        ("empty", &b""[..], UnexpectedEnd),
        ("blank", b" \t", UnexpectedEnd),
        ("comma alone", b",", Unexpected { byte: b',', at: 0 }),
        ("leading comma", b",foo", Unexpected { byte: b',', at: 0 }),
        ("trailing comma", b"foo,", UnexpectedEnd),
        ("empty element", b"foo,,bar", Unexpected { byte: b',', at: 4 }),
        ("semicolon alone", b";", Unexpected { byte: b';', at: 0 }),
        ("trailing semicolon", b"foo;", UnexpectedEnd),
        ("empty parameter", b"foo;;a", Unexpected { byte: b';', at: 4 }),
        ("parameter before a comma", b"foo;,bar", Unexpected { byte: b',', at: 4 }),
        ("no parameter name", b"foo;=1", Unexpected { byte: b'=', at: 4 }),
        ("no value", b"foo;a=", UnexpectedEnd),
        ("no value before a semicolon", b"foo;a=;b", Unexpected { byte: b';', at: 6 }),
        ("two equals signs", b"foo;a==b", Unexpected { byte: b'=', at: 6 }),
        ("value of a name", b"foo=1", Unexpected { byte: b'=', at: 3 }),
        ("space in a name", b"f oo", Unexpected { byte: b'o', at: 2 }),
        ("space in a parameter", b"foo;a b", Unexpected { byte: b'b', at: 6 }),
        ("space in a value", b"foo;a=b c", Unexpected { byte: b'c', at: 8 }),
        ("bad byte in a name", b"f@o", Unexpected { byte: b'@', at: 1 }),
        ("bad byte in a parameter", b"foo;a{b", Unexpected { byte: b'{', at: 5 }),
        ("bad byte in a value", b"foo;a=b/c", Unexpected { byte: b'/', at: 7 }),
        ("byte that is not ASCII", b"f\xfco", Unexpected { byte: 0xfc, at: 1 }),
        ("quoted name", b"\"foo\"", Unexpected { byte: b'"', at: 0 }),
        ("quote inside a value", b"foo;a=b\"c\"", Unexpected { byte: b'"', at: 7 }),
        ("bytes behind a quote", b"foo;a=\"b\"c", Unexpected { byte: b'c', at: 9 }),
        ("unterminated quote", b"foo;a=\"b", UnexpectedEnd),
        ("unterminated escape", b"foo;a=\"b\\", UnexpectedEnd),
        ("escaped closing quote", b"foo;a=\"b\\\"", QuotedNotAToken { at: 8 }),
        ("empty quotes", b"foo;a=\"\"", QuotedNotAToken { at: 7 }),
        ("quoted space", b"foo;a=\"b c\"", QuotedNotAToken { at: 8 }),
        ("quoted comma", b"foo;a=\"b,c\"", QuotedNotAToken { at: 8 }),
        ("escaped comma", b"foo;a=\"b\\,c\"", QuotedNotAToken { at: 8 }),
    ] {
        assert_eq!(parse(&[field]), Err(error), "{case}");
        assert_eq!(parse(&[b"bar", field]), Err(error), "{case}, in the second field");
    }
}
