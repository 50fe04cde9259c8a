//! Messages as JSON, over `serde_json`.

use serde_core::{Deserialize, Serialize};

use crate::{Message, MessageRef};

impl Message {
    /// Reads the payload, of either kind, as JSON. The value may borrow from the message.
    ///
    /// # Errors
    ///
    /// The error of `serde_json` if the payload is not JSON or does not fit `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_protocol::Message;
    ///
    /// # fn main() -> Result<(), serde_json::Error> {
    /// let message = Message::from("[\"tea\", 3]");
    /// let (order, count): (&str, u32) = message.json()?;
    /// assert_eq!((order, count), ("tea", 3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        MessageRef::from(self).json()
    }

    /// Creates a text message with a value as JSON, without spaces.
    ///
    /// # Errors
    ///
    /// The error of `serde_json` if the value has no form in JSON, such as a map whose keys are lists.
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_protocol::Message;
    ///
    /// # fn main() -> Result<(), serde_json::Error> {
    /// assert_eq!(Message::from_json(&("tea", 3))?, Message::text("[\"tea\",3]"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::from)
    }
}

impl<'a> MessageRef<'a> {
    /// Reads the payload, of either kind, as JSON. The value may borrow from the payload.
    ///
    /// # Errors
    ///
    /// As for [`Message::json`].
    pub fn json<T: Deserialize<'a>>(self) -> Result<T, serde_json::Error> {
        match self {
            // Checking the text for UTF-8 a second time costs time.
            Self::Text(text) => serde_json::from_str(text),
            Self::Binary(bytes) => serde_json::from_slice(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_messages_are_read() {
        for message in [Message::from("[1,2]"), b"[1,2]".into()] {
            assert_eq!(message.json::<Vec<u8>>().unwrap(), [1, 2]);
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for message in [Message::from("[1,2"), b"\"\xff\"".into(), "".into(), "[1] 2".into()] {
            assert!(message.json::<serde_json::Value>().is_err(), "{message:?}");
        }
    }
}
