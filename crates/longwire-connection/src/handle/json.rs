//! Sending values as JSON.

use std::sync::Arc;

use longwire_protocol::Message;
use serde_core::Serialize;

use crate::{Error, Sender, Transport, WebSocket};

impl<T: Transport> WebSocket<T> {
    /// Sends a value as JSON, in a text message, as [`send`](Self::send) does. The value is encoded by the call
    /// itself, not by the future.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the value has no form in JSON; otherwise as for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # use longwire_connection::{Config, Error, testing::pair};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut client, mut server) = pair(Config::default());
    /// client.send_json(&("tea", 3)).await?;
    /// let message = server.recv().await?.ok_or("closed")?;
    /// assert_eq!(message.json::<(String, u32)>()?, ("tea".to_owned(), 3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_json<'a, V: Serialize + ?Sized>(
        &'a mut self,
        value: &V,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'a, T, V> {
        let message = message(value);
        async move { self.send(message?).await }
    }
}

impl Sender {
    /// Sends a value as JSON, in a text message, as [`send`](Self::send) does. The value is encoded by the call
    /// itself, not by the future.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the value has no form in JSON; otherwise as for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub fn send_json<'a, V: Serialize + ?Sized>(
        &'a self,
        value: &V,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'a, V> {
        let message = message(value);
        async move { self.send(message?).await }
    }
}

fn message<V: Serialize + ?Sized>(value: &V) -> Result<Message, Error> {
    Message::from_json(value).map_err(|error| Error::Json(Arc::new(error)))
}
