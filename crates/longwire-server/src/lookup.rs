//! Values in a request that applications ask for: a parameter of the query, a cookie, a token.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

/// Returns the first value of a parameter in a query.
pub(crate) fn query<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Returns the value of a cookie.
///
/// The grammar of a request's cookies is one line long (RFC 6265 §4.2.1). Libraries for cookies are about
/// `Set-Cookie`, whose dates need a calendar.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // HTTP/2 may send several fields (RFC 9113 §8.2.3).
    let fields = headers.get_all(COOKIE).into_iter().filter_map(|field| field.to_str().ok());
    let mut cookies =
        fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = cookies.find(|(known, _)| *known == name)?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value))
}

/// Returns the bearer token, if `Authorization` is there once and has one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = field.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_query_is_decoded() {
        for (text, expected) in [
            ("token=abc", Some("abc")),
            ("a=1&token=a%20b+c&token=later", Some("a b c")),
            ("token=", Some("")),
            ("token", Some("")),
            ("to%6ben=x", Some("x")),
            ("token=%ff", Some("\u{fffd}")),
            ("Token=x&tokens=y&xtoken=z", None),
            ("", None),
        ] {
            assert_eq!(query(text, "token").as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        for (fields, expected) in [
            (&["id=7"][..], Some("7")),
            (&["a=1; id=7; id=8"], Some("7")),
            (&["a=1;id=7;"], Some("7")),
            (&["id=\"quoted\""], Some("quoted")),
            (&["id=a=b"], Some("a=b")),
            (&["id="], Some("")),
            (&["a=1", "id=7"], Some("7")),
            (&["xid=7; id2=8; ID=9; id"], None),
            (&[], None),
        ] {
            assert_eq!(cookie(&headers(&COOKIE, fields), "id"), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_bearer_token_stands_alone() {
        for (fields, expected) in [
            (&["Bearer abc.def"][..], Some("abc.def")),
            (&["bearer  abc"], Some("abc")),
            (&["Bearer "], None),
            (&["Bearer"], None),
            (&["Basic YTpi"], None),
            (&["Bearer a", "Bearer b"], None),
            (&[], None),
        ] {
            assert_eq!(bearer(&headers(&AUTHORIZATION, fields)), expected, "{fields:?}");
        }
    }
}
