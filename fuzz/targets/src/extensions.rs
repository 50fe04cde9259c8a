//! Lists of extensions and of subprotocols, and the negotiation of permessage-deflate.

use http::HeaderValue;
use longwire_deflate::{DeflateOptions, EXTENSION_NAME, Offer, WindowBits, accept, verify};
use longwire_handshake::{ExtensionOffer, Subprotocol};

use crate::input::Input;

/// Reads header fields as lists of extensions and of subprotocols, and negotiates compression as both ends.
///
/// - What was read reads the same after it was written again, in one field or in several.
/// - Names are tokens (RFC 9110 §5.6.2), and subprotocols are unique.
/// - A client whose offers a server has accepted accepts the answer, and both ends agree on the same; no window is
///   larger than either end allows.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let options = options(&mut input);
    let lines = input.rest().split(|byte| *byte == b'\n');
    let Ok(values) = lines.map(HeaderValue::from_bytes).collect::<Result<Vec<_>, _>>() else { return };
    if let Ok(offers) = ExtensionOffer::parse_list(&values) {
        check_list(&offers);
        check_negotiation(&offers, &options);
    }
    if let Ok(names) = Subprotocol::parse_list(&values) {
        check_names(&names);
    }
}

fn options(input: &mut Input<'_>) -> DeflateOptions {
    let (flags, windows) = (input.byte(), input.byte());
    let bits = |nibble: u8| WindowBits::new(8 + nibble % 8).expect("8 to 15");
    DeflateOptions::default()
        .with_server_no_context_takeover(flags & 1 != 0)
        .with_client_no_context_takeover(flags & 2 != 0)
        .with_fallback(flags & 4 != 0)
        .with_server_max_window_bits(bits(windows))
        .with_client_max_window_bits(bits(windows >> 4))
}

fn check_list(offers: &[ExtensionOffer]) {
    let shown: Vec<_> = offers.iter().map(ToString::to_string).collect();
    for offer in offers {
        let params = offer.params().iter().flat_map(|param| [Some(param.name()), param.value()]);
        let tokens = [Some(offer.name())].into_iter().chain(params).flatten();
        for token in tokens {
            assert!(is_token(token), "{token:?}");
        }
    }
    let value = |text: &str| HeaderValue::from_str(text).expect("tokens are visible");
    let in_one = [value(&shown.join(", "))];
    let in_several: Vec<_> = shown.iter().map(|text| value(text)).collect();
    if !offers.is_empty() {
        assert_eq!(ExtensionOffer::parse_list(&in_one).as_deref(), Ok(offers));
        assert_eq!(ExtensionOffer::parse_list(&in_several).as_deref(), Ok(offers));
    }
}

fn is_token(text: &str) -> bool {
    let delimiters = "\"(),/:;<=>?@[\\]{}";
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !delimiters.contains(c))
}

fn check_names(names: &[Subprotocol]) {
    assert!(names.iter().all(|name| is_token(name.as_str())));
    assert!(names.iter().enumerate().all(|(at, name)| !names[..at].contains(name)), "{names:?}");
    if let Some(value) = Subprotocol::list_to_header_value(names) {
        assert_eq!(Subprotocol::parse_list([&value]).as_deref(), Ok(names));
    }
}

fn params(offer: &ExtensionOffer) -> impl Iterator<Item = (&str, Option<&str>)> {
    offer.params().iter().map(|param| (param.name(), param.value()))
}

fn check_negotiation(offers: &[ExtensionOffer], options: &DeflateOptions) {
    // A peer's offers, and our server.
    let deflate: Vec<_> = offers.iter().filter(|offer| offer.name() == EXTENSION_NAME).collect();
    if let Some(agreement) = accept(deflate.iter().map(|offer| params(offer)), options) {
        let parsed: Vec<_> = deflate.iter().filter_map(|offer| Offer::parse(params(offer)).ok()).collect();
        let answer = agreement.to_string();
        let answer = ExtensionOffer::parse_list([&HeaderValue::from_str(&answer).expect("visible")])
            .expect("well-formed");
        assert_eq!(verify(params(&answer[0]), &parsed), Ok(agreement), "{offers:?}");
        let (down, up) = (agreement.server_to_client(), agreement.client_to_server());
        // A server cannot write with a window of 8 bits, and takes 9.
        assert!(down.window_bits.get() <= options.server_max_window_bits.get().max(9), "{agreement}");
        assert!(!(options.server_no_context_takeover && down.context_takeover), "{agreement}");
        assert!(!(options.client_no_context_takeover && up.context_takeover), "{agreement}");
    }
    // Our offers, and a peer's answer.
    let ours = options.offers();
    for answer in deflate {
        let Ok(agreement) = verify(params(answer), &ours) else { continue };
        let named = |name: &str| answer.params().iter().find(|param| param.name() == name);
        let bits = |name: &str| named(name).map_or(Some(15), |param| param.value()?.parse::<u8>().ok());
        let (down, up) = (agreement.server_to_client(), agreement.client_to_server());
        assert_eq!(Some(down.window_bits.get()), bits("server_max_window_bits"), "{answer}");
        // This end may promise less than the answer demands.
        assert!(Some(up.window_bits.get()) <= bits("client_max_window_bits"), "{answer}");
        assert!(up.window_bits <= options.client_max_window_bits, "{answer}");
        assert_eq!(down.context_takeover, named("server_no_context_takeover").is_none(), "{answer}");
        let is_named = named("client_no_context_takeover").is_some() || options.client_no_context_takeover;
        assert_eq!(up.context_takeover, !is_named, "{answer}");
    }
}
