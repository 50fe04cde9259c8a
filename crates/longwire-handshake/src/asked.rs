//! Values of a request's header that applications ask for: a cookie, a token.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};

/// Returns the value of a cookie (RFC 6265 §5.4) as the client sent it, without quotes around it. If there are several
/// of the same name, the first one counts, which is the one with the longest path.
///
/// A browser sends a site's cookies with every WebSocket request, also one by a page of another site. A server that
/// trusts cookies should list the [origins](crate::OriginPolicy) that it serves.
///
/// # Examples
///
/// ```
/// use http::HeaderMap;
/// use longwire_handshake::cookie;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("cookie", "theme=dark; session=abc".parse()?);
/// assert_eq!(cookie(&headers, "session"), Some("abc"));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // The grammar of a request's cookies is one line long (RFC 6265 §4.2.1). Libraries for cookies are about
    // `Set-Cookie`, whose dates need a calendar.
    // HTTP/2 may send several fields (RFC 9113 §8.2.3). One value that is not text must not hide the others.
    let fields = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    let mut pairs = fields.flat_map(|field| field.split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    let value = std::str::from_utf8(value).ok()?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value))
}

/// Returns the token of `Authorization: Bearer` (RFC 6750 §2.1), if the field is there once. Browsers cannot send it
/// with a WebSocket request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
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
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect()
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
            (&["name=é; id=7"], Some("7")),
            (&["id=é"], Some("é")),
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
