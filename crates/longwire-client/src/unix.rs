//! URLs of Unix sockets: `ws+unix:/path/to/socket:/request?path`.

use std::path::PathBuf;

use crate::InvalidOption;

/// Splits such a URL into the path of the socket and the `ws` URL to request; `None` for any other kind of URL.
pub(crate) fn parse(url: &str) -> Option<Result<(PathBuf, String), InvalidOption>> {
    let (scheme, rest) = url.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("ws+unix") {
        return None;
    }
    // Skip an empty authority.
    let rest = if rest.starts_with("///") { &rest[2..] } else { rest };
    let (path, target) = rest.split_once(':').unwrap_or((rest, "/"));
    let is_path = !path.is_empty() && !path.starts_with("//") && !path.contains(['?', '#', '\0']);
    let is_target = target.is_empty() || target.starts_with(['/', '?']);
    if !is_path || !is_target {
        return Some(Err(InvalidOption::UnixSocket));
    }
    Some(Ok((path.into(), format!("ws://localhost{target}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        for (url, expected) in [
            ("ws+unix:/run/socket:/chat?room=1", Some(("/run/socket", "ws://localhost/chat?room=1"))),
            ("ws+unix:///run/socket:/chat", Some(("/run/socket", "ws://localhost/chat"))),
            ("WS+UNIX:/run/socket", Some(("/run/socket", "ws://localhost/"))),
            ("ws+unix:relative:", Some(("relative", "ws://localhost"))),
            ("ws+unix:/socket:?a:b", Some(("/socket", "ws://localhost?a:b"))),
            ("ws+unix:/socket:/a:b", Some(("/socket", "ws://localhost/a:b"))),
            ("ws+unix:", None),
            ("ws+unix::/chat", None),
            ("ws+unix://host/socket", None),
            ("ws+unix:/socket?a:/b", None),
            ("ws+unix:/socket:chat", None),
            ("ws+unix:/socket:@evil.example/", None),
        ] {
            let parsed = parse(url).unwrap().ok();
            let expected = expected.map(|(path, url)| (PathBuf::from(path), url.to_owned()));
            assert_eq!(parsed, expected, "{url}");
        }
        assert!(parse("ws://host/").is_none() && parse("").is_none());
    }
}
