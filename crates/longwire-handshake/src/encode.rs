//! Encodes HTTP/1.1 heads as bytes (RFC 9112).
//!
//! The types of `http` guarantee that no name or value contains a line break.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

/// Encodes a request without a body; `Host` comes first.
///
/// The target is the URI's path and query, or for a CONNECT its host and port (RFC 9112 §3.2).
pub fn encode_request<B>(request: &Request<B>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(request.method().as_str().as_bytes());
    out.put_u8(b' ');
    match request.uri().authority() {
        Some(authority) if request.method() == Method::CONNECT => {
            out.put_slice(authority.as_str().as_bytes());
        }
        _ => {
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
            if !target.starts_with('/') {
                out.put_u8(b'/');
            }
            out.put_slice(target.as_bytes());
        }
    }
    out.put_slice(b" HTTP/1.1\r\n");
    for value in request.headers().get_all(HOST) {
        put_field(&mut out, &HOST, value);
    }
    put_fields(&mut out, request.headers(), |name| name != HOST);
    out.put_slice(b"\r\n");
    out.freeze()
}

/// Encodes the head of a response unchanged, such as the 101 that completes a handshake.
pub fn encode_response<B>(response: &Response<B>) -> Bytes {
    let mut out = status_line(response.status());
    put_fields(&mut out, response.headers(), |_| true);
    out.put_slice(b"\r\n");
    out.freeze()
}

/// Encodes the last response of a connection: with `Connection: close`, an exact `Content-Length`, and its body.
///
/// Fields of the response that would change its framing are omitted. A 204 or 304 has no body.
pub fn encode_refusal<B: AsRef<[u8]>>(response: &Response<B>) -> Bytes {
    let mut out = refusal_head(response);
    if !forbids_body(response.status()) {
        out.put_slice(response.body().as_ref());
    }
    out.freeze()
}

/// Does the same as [`encode_refusal`], for a HEAD request: the length is that of the body, which is not sent.
pub(crate) fn encode_refusal_without_body<B: AsRef<[u8]>>(response: &Response<B>) -> Bytes {
    refusal_head(response).freeze()
}

fn refusal_head<B: AsRef<[u8]>>(response: &Response<B>) -> BytesMut {
    let headers = response.headers();
    let mut out = status_line(response.status());
    put_fields(&mut out, headers, |name| ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name));
    if !forbids_body(response.status()) {
        put_field(&mut out, &CONTENT_LENGTH, &HeaderValue::from(response.body().as_ref().len()));
    }
    let connection = if headers.contains_key(UPGRADE) { "close, Upgrade" } else { "close" };
    put_field(&mut out, &CONNECTION, &HeaderValue::from_static(connection));
    out.put_slice(b"\r\n");
    out
}

fn forbids_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

fn status_line(status: StatusCode) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    out
}

fn put_fields(out: &mut BytesMut, headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in headers.iter().filter(|(name, _)| wanted(name)) {
        put_field(out, name, value);
    }
}

/// Writes one field with its name in the customary capitalization: some small devices compare names
/// case-sensitively, although they must not.
fn put_field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    let (start, rest) = match name.as_str().strip_prefix("sec-websocket-") {
        Some(rest) => ("Sec-WebSocket-", rest),
        None => ("", name.as_str()),
    };
    out.put_slice(start.as_bytes());
    let mut capital = true;
    for byte in rest.bytes() {
        out.put_u8(if capital { byte.to_ascii_uppercase() } else { byte });
        capital = byte == b'-';
    }
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_refusal_with_its_own_framing_only() {
        let response = Response::builder()
            .status(401)
            .header("www-authenticate", "Basic")
            .header("sec-websocket-version", "13")
            .header("connection", "keep-alive")
            .header("content-length", "7")
            .header("transfer-encoding", "chunked")
            .body("no")
            .unwrap();
        assert_eq!(
            encode_refusal(&response),
            "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Basic\r\nSec-WebSocket-Version: 13\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\nno"
        );
    }

    #[test]
    fn writes_no_body_where_the_status_forbids_one() {
        let response = Response::builder().status(204).body("ignored").unwrap();
        assert_eq!(encode_refusal(&response), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn writes_a_request_with_host_first() {
        let request = Request::get("http://example.com?a=b")
            .header("upgrade", "websocket")
            .header("host", "example.com")
            .body(())
            .unwrap();
        assert_eq!(
            encode_request(&request),
            "GET /?a=b HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\r\n"
        );
    }

    #[test]
    fn writes_a_connect_with_host_and_port() {
        let request = Request::connect("[::1]:443")
            .header("user-agent", "tool/1")
            .header("host", "[::1]:443")
            .body(())
            .unwrap();
        assert_eq!(
            encode_request(&request),
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nUser-Agent: tool/1\r\n\r\n"
        );
    }
}
