//! permessage-deflate in `Sec-WebSocket-Extensions` (RFC 7692 §5, §7.1).
//!
//! Owns the conversion from header fields to parameters and back. `longwire-deflate` decides which parameters are
//! acceptable.

use http::HeaderValue;
pub use longwire_deflate::{Agreement, AnswerError, DeflateOptions, Level, WindowBits};
use longwire_deflate::{EXTENSION_NAME, Offer};

use crate::extension::ExtensionOffer;

/// Selects one of the client's offers, as the server.
pub(crate) fn accept(offers: &[ExtensionOffer], options: &DeflateOptions) -> Option<Agreement> {
    longwire_deflate::accept(offers.iter().filter(|offer| is_deflate(offer)).map(params), options)
}

/// Checks the extensions of the server's response, as the client. Also returns those other than permessage-deflate.
pub(crate) fn verify<'a>(
    answer: &'a [ExtensionOffer],
    offers: &[Offer],
) -> Result<(Option<Agreement>, &'a [ExtensionOffer]), AnswerError> {
    match answer.split_first() {
        Some((first, rest)) if is_deflate(first) && !offers.is_empty() => {
            Ok((Some(longwire_deflate::verify(params(first), offers)?), rest))
        }
        _ => Ok((None, answer)),
    }
}

/// Returns the offers as one field.
pub(crate) fn list_value(offers: &[Offer]) -> HeaderValue {
    header_value(&offers.iter().map(Offer::to_string).collect::<Vec<_>>().join(", "))
}

pub(crate) fn header_value(text: &impl ToString) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).expect("names and numbers are visible ASCII")
}

fn is_deflate(extension: &ExtensionOffer) -> bool {
    extension.name() == EXTENSION_NAME
}

fn params(extension: &ExtensionOffer) -> impl Iterator<Item = (&str, Option<&str>)> {
    extension.params().iter().map(|param| (param.name(), param.value()))
}
