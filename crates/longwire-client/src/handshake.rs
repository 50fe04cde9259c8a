//! Drives the opening handshake over a stream.
//!
//! This module owns the order of writes and reads; `longwire-handshake` interprets the bytes.

use http::Response;
use longwire_connection::{Handover, WebSocket, random::masking_key};
use longwire_handshake::{
    ClientHandshake, HeadLimits, ResponseError, ResponseHead, ResponseParser, WebSocketUri,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use tracing::debug;

use crate::body::{BodyFraming, BodyReader};
use crate::deadline::Deadline;
use crate::stage::Stage;
use crate::{Config, Error};

/// The settings of a handshake, apart from its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) deadline: &'a Deadline,
    pub(crate) head_limits: &'a HeadLimits,
    pub(crate) max_refusal_body: usize,
    pub(crate) config: &'a Config,
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<&'a longwire_handshake::deflate::DeflateOptions>,
}

/// Sends the request and reads the head of the response.
pub(crate) async fn ask(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    uri: &WebSocketUri,
    handshake: &ClientHandshake,
    settings: Settings<'_>,
) -> Result<ResponseHead, Error> {
    settings.deadline.enter(Stage::Response);
    settings.deadline.run(uri, exchange(io, handshake, settings.head_limits)).await
}

/// Verifies the response and creates the connection. Stores `uri` in the response's extensions.
pub(crate) async fn conclude<T: longwire_connection::Transport>(
    mut io: T,
    mut head: ResponseHead,
    uri: WebSocketUri,
    handshake: &ClientHandshake,
    settings: Settings<'_>,
) -> Result<(WebSocket<T>, Response<()>), Error> {
    head.parts.extensions.insert(uri.clone());
    match handshake.verify(&head.parts) {
        Ok(agreement) => {
            let subprotocol = agreement.subprotocol.map(|name| name.as_str().to_owned());
            let handover = Handover::client(masking_key).read_ahead(head.read_ahead).subprotocol(subprotocol);
            #[cfg(feature = "deflate")]
            let handover = match (agreement.deflate, settings.deflate) {
                (Some(agreement), Some(options)) => handover.deflate(agreement, options),
                _ => handover,
            };
            let ws = WebSocket::new(io, handover, settings.config);
            debug!(subprotocol = ws.subprotocol(), extensions = ws.extensions(), "upgraded to a WebSocket");
            Ok((ws, Response::from_parts(head.parts, ())))
        }
        Err(ResponseError::Status { .. }) => Err(read_refusal(&mut io, head, &uri, settings).await),
        Err(error) => Err(error.into()),
    }
}

async fn exchange(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    handshake: &ClientHandshake,
    limits: &HeadLimits,
) -> Result<ResponseHead, Error> {
    io.write_all(&handshake.request_bytes()).await?;
    io.flush().await?;
    let mut parser = ResponseParser::new(limits.clone());
    let mut buf = vec![0; READ_LEN];
    let mut is_first = true;
    loop {
        let len = io.read(&mut buf).await?;
        if len == 0 {
            return Err(Error::ClosedEarly);
        }
        // A server of another protocol may wait for its client before it sends anything that the parser refuses.
        if std::mem::take(&mut is_first)
            && let Some(error) = ResponseError::of_start(&buf[..len])
        {
            return Err(error.into());
        }
        if let Some(head) = parser.handle_bytes(&buf[..len]).map_err(ResponseError::Head)? {
            return Ok(head);
        }
    }
}

/// Reads the body of a response other than 101 until the deadline. A late body does not hide the status.
async fn read_refusal(
    io: &mut (impl AsyncRead + Unpin),
    head: ResponseHead,
    uri: &WebSocketUri,
    settings: Settings<'_>,
) -> Error {
    let mut body = BodyReader::new(BodyFraming::of(&head.parts), settings.max_refusal_body);
    body.handle_bytes(&head.read_ahead);
    let reading = settings.deadline.run(uri, async {
        let mut buf = vec![0; READ_LEN];
        while !body.is_complete() {
            match io.read(&mut buf).await? {
                0 => body.handle_eof(),
                len => body.handle_bytes(&buf[..len]),
            }
        }
        Ok(())
    });
    let body_is_whole = reading.await.is_ok() && !body.is_truncated();
    let response = Box::new(Response::from_parts(head.parts, body.into_body()));
    Error::UnexpectedResponse { response, body_is_whole }
}

/// The size of the read buffer. A head is a few hundred bytes; the buffer is freed when the handshake is done.
const READ_LEN: usize = 4096;
