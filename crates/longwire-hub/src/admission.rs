//! Admission of a client to a hub.

use longwire_connection::{CloseCode, CloseFrame, Transport, WebSocket};

use crate::census::Source;
use crate::entry::{Entry, Properties, check_key};
use crate::error::{HubError, RunError};
use crate::info::ClientInfo;
use crate::registry::Hub;
use crate::reservation::Reservation;
use crate::socket::{Member, Socket};

impl Hub {
    /// Admits a client and runs `handler` on its connection until both are done.
    ///
    /// The handler runs as under [`longwire_connection::drive`]: everything it sends between two yields leaves in
    /// one write, and when it returns, the connection is closed with 1000, or with 1011 for an error. The client
    /// is registered from this call until the future has ended or is dropped.
    ///
    /// # Errors
    ///
    /// [`RunError::Handler`] with the handler's error; [`RunError::Refused`] if the hub does not
    /// [admit](Self::admit) the client; [`RunError::Aborted`] if the client had not left by the deadline of a shutdown.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the handler; the connection is closed in the background.
    pub fn run<T, F, Fut, E>(
        &self,
        ws: WebSocket<T>,
        info: ClientInfo,
        handler: F,
    ) -> impl Future<Output = Result<(), RunError<E>>> + use<T, F, Fut, E>
    where
        T: Transport,
        F: FnOnce(Socket<T>) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let admitted = self.admit(ws, info);
        async move {
            match admitted {
                Ok(socket) => socket.run(handler).await,
                Err(error) => Err(RunError::Refused(error)),
            }
        }
    }

    /// Admits a client whose socket the caller drives. It is registered until the socket is dropped.
    ///
    /// # Errors
    ///
    /// [`HubError::ShuttingDown`]: the connection was closed with the shutdown's code. [`HubError::Full`] and
    /// [`HubError::FullForAddress`]: the limit on clients is reached, and the connection was closed with 1013
    /// (try again later). [`HubError::Key`]: the key in `info` is too long, and the connection was closed with 1011.
    pub fn admit<T: Transport>(&self, mut ws: WebSocket<T>, info: ClientInfo) -> Result<Socket<T>, HubError> {
        let ClientInfo { peer_addr, slow_policy, queue, max_rooms, data, key, reservation } = info;
        let properties = Properties { peer_addr, slow_policy, queue, max_rooms, data };
        let admitted = check_key(key.as_deref())
            .map_err(|error| (error, CloseFrame::new(CloseCode::INTERNAL_ERROR, "")))
            .and_then(|()| {
                let place = self.place_for(peer_addr.map(Source::from), reservation);
                place.map_err(|error| (error, self.refusal()))
            })
            .and_then(|place| {
                let entry = self.register(|id, home| Entry::new(id, ws.sender(), home, properties));
                let entry = entry.map_err(|frame| (HubError::ShuttingDown, frame))?;
                place.occupy();
                Ok(Member::new(entry))
            });
        match admitted {
            Ok(member) => {
                member.set_key(key.as_deref());
                Ok(Socket::new(ws, member))
            }
            Err((error, frame)) => {
                // A connection that is already closing needs no second close frame.
                let _ = ws.start_close(frame.code, &frame.reason);
                Err(error)
            }
        }
    }

    /// Returns the place that was reserved for a client from this source, or a new one.
    fn place_for(
        &self,
        source: Option<Source>,
        reserved: Option<Reservation>,
    ) -> Result<Reservation, HubError> {
        if let Some(mut reserved) = reserved
            && reserved.fits(self, source)?
        {
            return Ok(reserved);
        }
        Reservation::new(self, source)
    }
}
