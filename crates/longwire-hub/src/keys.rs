//! Sending to the clients with a key, such as all sockets of one user.

use std::sync::Arc;

use longwire_connection::{Message, PreparedMessage};

use crate::broadcast::Delivery;
use crate::entry::ClientHandle;
use crate::members::Snapshot;
use crate::publication::{Published, Target};
use crate::registry::Hub;

impl Hub {
    /// Returns the clients with this [key](ClientHandle::set_key), in the order in which they connected.
    pub fn clients_of(&self, key: impl AsRef<str>) -> Arc<[ClientHandle]> {
        self.inner.keys.find(key.as_ref()).map(|clients| clients.members()).unwrap_or_default()
    }

    /// Sends a message to every client with this [key](ClientHandle::set_key), as
    /// [`broadcast`](Self::broadcast) does to all. Without such a client, the message is not even framed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use longwire_connection::{Config, Error, testing::pair};
    /// # use longwire_hub::{ClientInfo, Hub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = Hub::default();
    /// let (mut ada, server) = pair(Config::default());
    /// let socket = hub.admit(server, ClientInfo::default().key("user 7"))?;
    /// assert_eq!(hub.send_to("user 7", "hello, Ada").accepted, 1);
    /// assert_eq!(hub.send_to("user 8", "hello").accepted, 0);
    /// assert_eq!(ada.recv().await?, Some("hello, Ada".into()));
    /// # drop(socket);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_to(&self, key: impl AsRef<str>, message: impl Into<Message>) -> Delivery {
        let (key, message) = (key.as_ref(), message.into());
        if self.is_relayed(Published::new(Target::Key(key), &message)) {
            return Delivery::default();
        }
        match self.members_by_key(key) {
            Some(clients) => self.deliver_to(&clients, &PreparedMessage::new(message), |_| true),
            None => Delivery::default(),
        }
    }

    /// Returns the clients with a key; `None` if there is none.
    pub(crate) fn members_by_key(&self, key: &str) -> Option<Snapshot<ClientHandle>> {
        self.inner.keys.find(key).map(|clients| clients.snapshot())
    }
}
