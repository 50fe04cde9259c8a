//! permessage-deflate in the headers of both roles (RFC 7692 §5, §7.1).

#![cfg(feature = "deflate")]

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderValue, Request, Response};
use longwire_handshake::deflate::{DeflateOptions, WindowBits};
use longwire_handshake::{
    Accepted, ClientHandshake, ClientOptions, Key, Rejection, ResponseError, ServerOptions, WebSocketUri,
    accept,
};

fn options(change: impl FnOnce(&mut DeflateOptions)) -> DeflateOptions {
    let mut options = DeflateOptions::default();
    change(&mut options);
    options
}

fn bits(bits: u8) -> WindowBits {
    WindowBits::new(bits).unwrap()
}

fn ask(fields: &[&str], deflate: Option<DeflateOptions>) -> Result<Accepted, Rejection> {
    let mut request = Request::get("/")
        .header("host", "example.com")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for field in fields {
        request = request.header("sec-websocket-extensions", *field);
    }
    accept(&request.body(()).unwrap(), &ServerOptions::default().with_deflate(deflate))
}

fn answer(fields: &[&str], deflate: Option<DeflateOptions>) -> Option<String> {
    let accepted = ask(fields, deflate).unwrap();
    let response = accepted.response();
    let value = response.headers().get(SEC_WEBSOCKET_EXTENSIONS);
    assert_eq!(value.is_some(), accepted.deflate().is_some());
    value.map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn the_application_can_decline_compression() {
    let mut accepted = ask(&["permessage-deflate"], Some(DeflateOptions::default())).unwrap();
    assert!(
        accepted.deflate().is_some() && accepted.response().headers().contains_key(SEC_WEBSOCKET_EXTENSIONS)
    );
    accepted.decline_deflate();
    assert!(
        accepted.deflate().is_none() && !accepted.response().headers().contains_key(SEC_WEBSOCKET_EXTENSIONS)
    );
}

#[test]
fn the_server_answers_the_first_offer_that_it_can_keep() {
    let plain = "permessage-deflate";
    let ten = options(|options| options.server_max_window_bits = bits(10));
    let client_ten = options(|options| options.client_max_window_bits = bits(10));
    let none = options(|options| {
        options.server_no_context_takeover = true;
        options.client_no_context_takeover = true;
    });
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let default = DeflateOptions::default;
    let rows: &[(&[&str], DeflateOptions, Option<&str>)] = &[
        (&[], default(), None),
        (&[plain], default(), Some(plain)),
        (&["permessage-deflate; client_max_window_bits"], default(), Some(plain)),
        (
            &["permessage-deflate; client_max_window_bits=10"],
            default(),
            Some("permessage-deflate; client_max_window_bits=10"),
        ),
        (
            &["permessage-deflate; server_max_window_bits=\"12\""],
            default(),
            Some("permessage-deflate; server_max_window_bits=12"),
        ),
        (&[plain], ten.clone(), Some("permessage-deflate; server_max_window_bits=10")),
        (
            &["permessage-deflate; server_max_window_bits=9"],
            ten,
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        (&[plain], client_ten.clone(), None),
        (
            &[plain, "permessage-deflate; client_max_window_bits"],
            client_ten,
            Some("permessage-deflate; client_max_window_bits=10"),
        ),
        (&[plain], none, Some(both)),
        // An offer that is not understood is declined, wherever it occurs, and never causes a 400.
        (&["x-other; a=1, permessage-deflate; nonsense, permessage-deflate"], default(), Some(plain)),
        (&["permessage-deflate; server_max_window_bits=16", plain], default(), Some(plain)),
        (
            &["permessage-deflate; server_max_window_bits", "permessage-deflate; server_max_window_bits=010"],
            default(),
            None,
        ),
        (&["permessage-deflate; server_no_context_takeover=1"], default(), None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], default(), None),
        (&["permessage-deflate; server_max_window_bits=8"], default(), None),
        (&["PERMESSAGE-DEFLATE", "x-webkit-deflate-frame"], default(), None),
    ];
    for (fields, options, expected) in rows {
        assert_eq!(answer(fields, Some(options.clone())).as_deref(), *expected, "{fields:?} {options:?}");
    }
    assert_eq!(answer(&[plain], None), None, "off by default");
    assert!(matches!(ask(&["permessage-deflate;;"], Some(default())), Err(Rejection::Extensions(_))));
}

fn verify(deflate: Option<DeflateOptions>, fields: &[&str]) -> Result<Option<String>, ResponseError> {
    let uri: WebSocketUri = "ws://example.com/".parse().unwrap();
    let key = Key::new(*b"the sample nonce");
    let options = ClientOptions::default().with_deflate(deflate);
    let handshake = ClientHandshake::new(&uri, key, &options).unwrap();
    let mut response = Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for field in fields {
        response = response.header("sec-websocket-extensions", *field);
    }
    let agreed = handshake.verify(&response.body(()).unwrap().into_parts().0)?;
    Ok(agreed.deflate.map(|agreement| agreement.to_string()))
}

#[test]
fn the_client_takes_no_answer_that_it_did_not_offer() {
    let plain = "permessage-deflate";
    let offered = Some(DeflateOptions::default());
    let strict = Some(options(|options| {
        options.server_max_window_bits = bits(10);
        options.fallback = false;
    }));
    assert_eq!(verify(offered.clone(), &[]), Ok(None));
    assert_eq!(verify(None, &[]), Ok(None));
    for field in [
        plain,
        "permessage-deflate; client_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover",
    ] {
        assert_eq!(verify(offered.clone(), &[field]), Ok(Some(field.to_owned())));
    }
    let unasked = |result| assert!(matches!(result, Err(ResponseError::Extension { .. })), "{result:?}");
    unasked(verify(None, &[plain]));
    unasked(verify(offered.clone(), &[plain, plain]));
    unasked(verify(offered.clone(), &["permessage-deflate, x-other"]));
    unasked(verify(offered.clone(), &["x-other, permessage-deflate"]));
    let refused = |result| assert!(matches!(result, Err(ResponseError::Deflate(_))), "{result:?}");
    refused(verify(offered.clone(), &["permessage-deflate; client_max_window_bits"]));
    refused(verify(offered.clone(), &["permessage-deflate; nonsense"]));
    refused(verify(offered, &["permessage-deflate; server_max_window_bits=7"]));
    refused(verify(strict.clone(), &[plain]));
    refused(verify(strict.clone(), &["permessage-deflate; server_max_window_bits=11"]));
    assert!(verify(strict, &["permessage-deflate; server_max_window_bits=9"]).is_ok());
}

#[test]
fn the_client_offers_what_it_is_told_to_in_one_field() {
    let offer = |deflate| {
        let uri: WebSocketUri = "ws://example.com/".parse().unwrap();
        let options = ClientOptions::default().with_deflate(deflate);
        let handshake = ClientHandshake::new(&uri, Key::new([7; 16]), &options).unwrap();
        let fields: Vec<HeaderValue> =
            handshake.request().headers().get_all(SEC_WEBSOCKET_EXTENSIONS).iter().cloned().collect();
        fields
    };
    assert!(offer(None).is_empty());
    assert_eq!(offer(Some(DeflateOptions::default())), ["permessage-deflate; client_max_window_bits"]);
    let ten = options(|options| options.server_max_window_bits = bits(10));
    let both = "permessage-deflate; server_max_window_bits=10; client_max_window_bits, \
                permessage-deflate; client_max_window_bits";
    assert_eq!(offer(Some(ten)), [both]);
    let all = options(|options| {
        options.server_no_context_takeover = true;
        options.client_no_context_takeover = true;
        options.server_max_window_bits = bits(10);
        options.client_max_window_bits = bits(11);
        options.fallback = false;
    });
    let every = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=10; client_max_window_bits=11";
    assert_eq!(offer(Some(all)), [every]);
}
