//! Values sent to many clients as JSON.

use longwire_connection::{Error, Message, Transport};
use serde_core::Serialize;

use crate::broadcast::Delivery;
use crate::registry::Hub;
use crate::room::Room;
use crate::socket::Socket;

impl Hub {
    /// Sends a value as JSON to every client, as [`broadcast`](Self::broadcast) does.
    ///
    /// # Errors
    ///
    /// The error of `serde_json` if the value has no form in JSON. Nothing was sent.
    pub fn broadcast_json<V: Serialize + ?Sized>(&self, value: &V) -> Result<Delivery, serde_json::Error> {
        Ok(self.broadcast(Message::from_json(value)?))
    }

    /// Sends a value as JSON to every client in a room, as [`publish`](Self::publish) does.
    ///
    /// # Errors
    ///
    /// As for [`broadcast_json`](Self::broadcast_json).
    pub fn publish_json<V: Serialize + ?Sized>(
        &self,
        room: impl AsRef<str>,
        value: &V,
    ) -> Result<Delivery, serde_json::Error> {
        Ok(self.publish(room, Message::from_json(value)?))
    }
}

impl Room {
    /// Sends a value as JSON to every client in the room, as [`publish`](Self::publish) does.
    ///
    /// # Errors
    ///
    /// As for [`Hub::broadcast_json`].
    pub fn publish_json<V: Serialize + ?Sized>(&self, value: &V) -> Result<Delivery, serde_json::Error> {
        Ok(self.publish(Message::from_json(value)?))
    }
}

impl<T: Transport> Socket<T> {
    /// Sends a value as JSON, as [`WebSocket::send_json`](longwire_connection::WebSocket::send_json) does.
    ///
    /// # Errors
    ///
    /// As for [`WebSocket::send_json`](longwire_connection::WebSocket::send_json).
    ///
    /// # Cancel safety
    ///
    /// As for [`WebSocket::send`](longwire_connection::WebSocket::send).
    pub fn send_json<'a, V: Serialize + ?Sized>(
        &'a mut self,
        value: &V,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'a, T, V> {
        (**self).send_json(value)
    }
}
