//! Header fields: tokens, lists of tokens, and fields that may occur only once (RFC 9110 §5.6).

use http::{HeaderMap, HeaderName, HeaderValue};

/// The occurrences of a field that must be unique.
pub(crate) enum Field<'a> {
    Missing,
    One(&'a HeaderValue),
    Repeated,
}

impl<'a> Field<'a> {
    pub(crate) fn of(headers: &'a HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Missing,
            (Some(value), None) => Self::One(value),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

/// Returns whether the list of tokens in all `name` fields contains `token`, ignoring case.
///
/// Browsers and proxies send `Connection: keep-alive, Upgrade` and may split the list over several fields.
pub(crate) fn list_has(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .any(|element| trim(element).eq_ignore_ascii_case(token.as_bytes()))
}

/// Strips optional whitespace (RFC 9110 §5.6.3) from both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Returns whether `bytes` is a token: one or more `tchar` (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Creates a value from text that this crate has checked or composed.
pub(crate) fn ascii_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("tokens, base64 and checked hosts are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let tokens: Vec<u8> = (0..=255).filter(|&byte| is_token_byte(byte)).collect();
        assert_eq!(
            tokens,
            b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~".as_slice()
        );
        assert!(!is_token(b""));
    }

    #[test]
    fn finds_a_token_in_a_list_over_several_fields() {
        for (case, values, found) in [
            ("alone", &["upgrade"][..], true),
            ("other case", &["UpGrade"], true),
            ("in a list", &["keep-alive, Upgrade"], true),
            ("tabs and empty elements", &["keep-alive,\t,,\tUpgrade\t,"], true),
            ("in the second field", &["keep-alive", "Upgrade"], true),
            ("part of a longer token", &["upgraded, not-upgrade"], false),
            ("two words", &["upgrade now"], false),
            ("other separator", &["keep-alive; upgrade"], false),
            ("empty", &[""], false),
            ("no field", &[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(http::header::CONNECTION, HeaderValue::from_static(value));
            }
            assert_eq!(list_has(&headers, &http::header::CONNECTION, "upgrade"), found, "{case}");
        }
    }
}
