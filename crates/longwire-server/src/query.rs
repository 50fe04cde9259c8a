//! A parameter in the query of a URL.

use std::borrow::Cow;

/// Returns the first value of a parameter in a query.
pub(crate) fn query<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
