//! Offers of a client (RFC 7692 §5.1, §7.1).
//!
//! Owns an offer as a value. Choosing an offer and the server's answer belong to `negotiate.rs`.

use std::fmt;

use crate::params::{ParamError, Params};

/// One offer of `permessage-deflate`: an element of a request's `Sec-WebSocket-Extensions`.
///
/// Its [`Display`](fmt::Display) form is that element, such as `permessage-deflate; client_max_window_bits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offer(pub(crate) Params);

impl Offer {
    /// Reads the parameters of an offer, in their original order, without the extension's name.
    ///
    /// A value is passed without quotes: `client_max_window_bits="10"` and `client_max_window_bits=10` are the same
    /// (RFC 7692 §5.1 and RFC 6455 §9.1).
    ///
    /// # Errors
    ///
    /// [`ParamError`] for a parameter that is unknown or repeated, or has an invalid value.
    pub fn parse<'a>(
        params: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, ParamError> {
        Params::parse(params).map(Self)
    }

    /// Returns the same offer without its requests to the server, or `None` if it has none.
    pub(crate) fn without_demands(self) -> Option<Self> {
        let plain =
            Self(Params { server_no_context_takeover: false, server_max_window_bits: None, ..self.0 });
        (plain != self).then_some(plain)
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(params: &[(&str, Option<&str>)]) -> Result<String, ParamError> {
        Offer::parse(params.iter().copied()).map(|offer| offer.to_string())
    }

    #[test]
    fn reads_every_parameter_once_and_in_any_order() {
        for (params, header) in [
            (&[][..], "permessage-deflate"),
            (&[("client_max_window_bits", None)], "permessage-deflate; client_max_window_bits"),
            (&[("client_max_window_bits", Some("8"))], "permessage-deflate; client_max_window_bits=8"),
            (&[("server_max_window_bits", Some("15"))], "permessage-deflate; server_max_window_bits=15"),
            (
                &[
                    ("client_max_window_bits", Some("10")),
                    ("server_max_window_bits", Some("9")),
                    ("client_no_context_takeover", None),
                    ("server_no_context_takeover", None),
                ],
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=9; client_max_window_bits=10",
            ),
        ] {
            assert_eq!(parse(params).as_deref(), Ok(header));
        }
    }

    #[test]
    fn rejects_what_is_unknown_repeated_or_out_of_range() {
        let bits = ["7", "16", "0", "08", "1e1", "", "4294967305"];
        for name in ["server_max_window_bits", "client_max_window_bits"] {
            for value in bits {
                assert_eq!(parse(&[(name, Some(value))]), Err(ParamError::BadValue { name }), "{value}");
            }
            assert_eq!(parse(&[(name, Some("9")), (name, Some("9"))]), Err(ParamError::Repeated { name }));
        }
        for name in ["server_no_context_takeover", "client_no_context_takeover"] {
            assert_eq!(parse(&[(name, Some("true"))]), Err(ParamError::UnexpectedValue { name }));
            assert_eq!(parse(&[(name, None), (name, None)]), Err(ParamError::Repeated { name }));
        }
        let name = "client_max_window_bits";
        assert_eq!(parse(&[(name, None), (name, Some("9"))]), Err(ParamError::Repeated { name }));
        let name = "server_max_window_bits";
        assert_eq!(parse(&[(name, None)]), Err(ParamError::MissingValue { name }));
        for name in ["", "foo", "Client_max_window_bits", &"x".repeat(32)] {
            assert_eq!(parse(&[(name, None)]), Err(ParamError::Unknown { name: name.to_owned() }));
        }
        let cut = "é".repeat(32);
        assert_eq!(parse(&[(&"é".repeat(1000), None)]), Err(ParamError::Unknown { name: cut }));
    }
}
