//! One connection of any kind: over HTTP/1.1, over HTTP/2, or one that is made again when it is lost.

use bytes::Bytes;
use longwire::client::ClientStream;
use longwire::connection::Error;
use longwire::hyper::Http2Stream;
use longwire::reconnect::{self, Gap, Reconnecting};
use longwire::{CloseFrame, Incoming as Received, Message, Pong, Receiver, Sender};

use crate::status::Failure;

/// An open connection.
pub(crate) struct Link {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    pub(crate) subprotocol: Option<String>,
    pub(crate) extensions: Option<String>,
}

/// The receiving half. The senders start the close.
pub(crate) enum Incoming {
    Http1(Receiver<ClientStream>, Sender),
    Http2(Receiver<Http2Stream>, Sender),
    Again(Reconnecting),
}

/// An event of the connection.
pub(crate) enum Event {
    Message(Message),
    Ping(Bytes),
    Pong(Bytes),
    /// Messages may be missing here.
    Gap(Gap),
}

impl Incoming {
    /// Receives the next event, or `None` at a clean end. May be dropped without loss.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            let event = match self {
                Self::Http1(receiver, _) => receiver.next_event().await?.map(event),
                Self::Http2(receiver, _) => receiver.next_event().await?.map(event),
                Self::Again(reconnecting) => reconnecting.next_event().await?.map(event_or_gap),
            };
            match event {
                None => return Ok(None),
                Some(Some(event)) => return Ok(Some(event)),
                // A kind of event that this program does not know.
                Some(None) => {}
            }
        }
    }

    /// Starts the closing handshake; the end follows among the events. A connection that is already closing is left
    /// alone.
    pub(crate) async fn close(&mut self, frame: Option<CloseFrame>) {
        // Any failure also ends the connection, and is reported there.
        let _ = match self {
            Self::Http1(_, sender) | Self::Http2(_, sender) => sender.start_close_with(frame),
            Self::Again(reconnecting) => {
                let frame = frame.unwrap_or_else(|| CloseFrame::new(1000.into(), ""));
                reconnecting.close(frame.code, &frame.reason).await
            }
        };
    }

    /// Returns the peer's close frame, if it has sent one.
    pub(crate) fn close_received(&self) -> Option<CloseFrame> {
        match self {
            Self::Http1(receiver, _) => receiver.close_received().cloned(),
            Self::Http2(receiver, _) => receiver.close_received().cloned(),
            Self::Again(_) => None,
        }
    }
}

fn event(received: Received) -> Option<Event> {
    match received {
        Received::Message(message) => Some(Event::Message(message)),
        Received::Ping(payload) => Some(Event::Ping(payload)),
        Received::Pong(payload) => Some(Event::Pong(payload)),
        _ => None,
    }
}

fn event_or_gap(event: reconnect::Event) -> Option<Event> {
    match event {
        reconnect::Event::Message(message) => Some(Event::Message(message)),
        reconnect::Event::Reconnected(gap) => Some(Event::Gap(gap)),
        _ => None,
    }
}

/// The sending half.
#[derive(Clone)]
pub(crate) enum Outgoing {
    Once(Sender),
    Again(reconnect::Sender),
}

impl Outgoing {
    /// Sends a message. Waits while the peer does not read.
    pub(crate) async fn send(&self, message: Message) -> Result<(), Error> {
        match self {
            Self::Once(sender) => sender.send(message).await,
            Self::Again(sender) => sender.feed(message).await,
        }
    }

    /// Waits until everything is written.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        match self {
            Self::Once(sender) => sender.flush().await,
            Self::Again(sender) => sender.flush().await,
        }
    }

    /// Sends a ping; the answer follows.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(crate) fn ping(&self) -> Result<Pong, String> {
        match self {
            Self::Once(sender) => sender.ping().map_err(|error| error.to_string()),
            Self::Again(_) => Err("with --reconnect, the library sends the pings".to_owned()),
        }
    }

    /// Sends a pong.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(crate) fn pong(&self, payload: &[u8]) -> Result<(), String> {
        match self {
            Self::Once(sender) => sender.pong(payload).map_err(|error| error.to_string()),
            Self::Again(_) => Err("with --reconnect, no pongs are sent".to_owned()),
        }
    }

    /// Returns the number of bytes of messages and parts of messages received, if it is known.
    pub(crate) fn bytes_received(&self) -> Option<u64> {
        match self {
            Self::Once(sender) => Some(sender.stats().bytes_received),
            Self::Again(_) => None,
        }
    }
}
