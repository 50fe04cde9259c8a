//! The route of one request.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The handler of a request, and the parameters in its path.
#[derive(Debug)]
pub(crate) struct Route {
    index: usize,
    params: Vec<(Box<str>, Box<str>)>,
}

impl Route {
    /// Returns `None` if a parameter is not UTF-8 once it is percent-decoded.
    pub(crate) fn new<'a>(index: usize, params: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let decoded = params.map(|(name, value)| {
            let value = percent_decode_str(value).decode_utf8().ok()?;
            Some((name.into(), value.into()))
        });
        Some(Self { index, params: decoded.collect::<Option<_>>()? })
    }

    /// Returns the position of the handler in the table of routes.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns the text in the path that matched `{name}` in the route.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }
}

/// Returns the reason why no request can match a route's path as it was meant, with advice.
pub(crate) fn mistake(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("a path begins with `/`: write `/{path}`"));
    }
    if path.contains('?') {
        return Some("a route has no query: read it with `Request::query`".into());
    }
    if path.contains('#') {
        return Some("clients do not send the part of a URL from `#` on".into());
    }
    path.split('/').find_map(mistake_in_segment)
}

fn mistake_in_segment(segment: &str) -> Option<String> {
    let name = |text: &str| {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        if end == 0 { "name".to_owned() } else { text[..end].to_owned() }
    };
    if let Some(rest) = segment.strip_prefix(':') {
        return Some(format!("write `{{{}}}` instead of `{segment}`", name(rest)));
    }
    if let Some(rest) = segment.strip_prefix('*') {
        return Some(format!("write `{{*{}}}` instead of `{segment}`", name(rest)));
    }
    if let Some(rest) = segment.strip_prefix('<').or_else(|| segment.strip_prefix("${")) {
        return Some(format!("write `{{{}}}` instead of `{segment}`", name(rest)));
    }
    if let Some(rest) = segment.strip_prefix('{')
        && segment.ends_with('}')
        && segment.contains([':', '?'])
    {
        return Some(format!("a parameter has no condition: write `{{{}}}`", name(rest)));
    }
    if matches!(segment, "." | "..") {
        return Some(format!("clients resolve `{segment}` before they send a path"));
    }
    let odd = segment.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`".contains(*c))?;
    let mut bytes = [0; 4];
    let escaped = utf8_percent_encode(odd.encode_utf8(&mut bytes), NON_ALPHANUMERIC);
    Some(format!("a URL has {odd:?} percent-encoded: write `{escaped}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_percent_decoded() {
        let route = Route::new(0, [("room", "a%2Fb%20%C3%A9"), ("plain", "a+b")].into_iter()).unwrap();
        assert_eq!((route.param("room"), route.param("plain")), (Some("a/b é"), Some("a+b")));
        assert!(Route::new(0, [("room", "%ff")].into_iter()).is_none());
    }

    #[test]
    fn paths_that_cannot_match_as_meant_are_explained() {
        for (path, advice) in [
            ("rooms", "write `/rooms`"),
            ("", "write `/`"),
            ("/rooms/:id", "write `{id}` instead of `:id`"),
            ("/files/*path", "write `{*path}` instead of `*path`"),
            ("/files/*", "write `{*name}`"),
            ("/rooms/<id>", "write `{id}`"),
            ("/rooms/${id}", "write `{id}`"),
            ("/rooms/{id:[0-9]+}", "write `{id}`"),
            ("/rooms/{id?}", "a route has no query"),
            ("/rooms?id=7", "Request::query"),
            ("/rooms#top", "#"),
            ("/a/../b", "`..`"),
            ("/a b", "write `%20`"),
            ("/café", "write `%C3%A9`"),
        ] {
            let mistake = mistake(path).unwrap_or_else(|| panic!("{path} was accepted"));
            assert!(mistake.contains(advice), "{path}: {mistake}");
        }
        for path in
            ["/", "/rooms/{id}", "/files/{*path}", "/v1/items:batch", "/caf%C3%A9", "/a/", "/{a}/b-{c}"]
        {
            assert_eq!(mistake(path), None, "{path}");
        }
    }
}
