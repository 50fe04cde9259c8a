//! A connection that its hub knows: the socket that handlers get, and the membership that it carries.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use longwire_connection::{CloseCode, Compress, Error, Message, Sender, Transport, WebSocket, drive};
use pin_project_lite::pin_project;

use crate::entry::Entry;
use crate::{Client, ClientId, Hub, HubError, RunError};

/// A [`WebSocket`] that is registered with a [`Hub`].
///
/// Everything that a `WebSocket` can do by reference works here as well. The client stays registered until the socket is
/// dropped and, where a handler is run on it, the connection is closed.
pub struct Socket<T: Transport> {
    ws: WebSocket<T>,
    member: Member,
}

impl<T: Transport> Socket<T> {
    pub(crate) fn new(ws: WebSocket<T>, member: Member) -> Self {
        Self { ws, member }
    }

    /// The client's name within its hub.
    pub fn id(&self) -> ClientId {
        self.member.entry.id
    }

    /// The hub that the client is registered with.
    pub fn hub(&self) -> &Hub {
        self.member.entry.hub()
    }

    /// The hub of the server that this socket came from: the same as [`hub`](Self::hub).
    pub fn server(&self) -> &Hub {
        self.hub()
    }

    /// The handle that others have of this client.
    pub fn client(&self) -> Client {
        Client { entry: Arc::clone(&self.member.entry) }
    }

    /// What the application keeps for this client, as [`Client::data`] gives it.
    pub fn data<D: Any + Send + Sync>(&self) -> Option<&D> {
        self.member.entry.data()
    }

    /// Sets what the application keeps for this client, once, as [`Client::set_data`] does.
    ///
    /// # Errors
    ///
    /// What was given, if there is something already.
    pub fn set_data<D: Any + Send + Sync>(&self, data: D) -> Result<(), D> {
        self.member.entry.set_data(data)
    }

    /// Lets this client into a room, as [`Client::join`] does.
    ///
    /// # Errors
    ///
    /// As for [`Client::join`].
    pub fn join(&self, room: impl AsRef<str>) -> Result<bool, HubError> {
        self.member.entry.join(room.as_ref())
    }

    /// Lets this client out of a room, as [`Client::leave`] does.
    pub fn leave(&self, room: impl AsRef<str>) -> bool {
        self.member.entry.leave(room.as_ref())
    }

    // The methods of `WebSocket` that take arguments by `&mut self`. An argument may borrow the socket, as in
    // `ws.send(format!("{}", ws.id()))`, only if the method is the socket's own: through `DerefMut` it is borrowed before the
    // arguments are evaluated.

    /// Sends one message, as [`WebSocket::send`] does.
    ///
    /// # Errors
    ///
    /// As for [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As for [`WebSocket::send`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use longwire_connection::{Error, Transport};
    /// # use longwire_hub::Socket;
    /// async fn greet<T: Transport>(ws: &mut Socket<T>) -> Result<(), Error> {
    ///     ws.send(format!("you are client {}", ws.id())).await
    /// }
    /// ```
    #[inline]
    pub fn send(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> + Send {
        self.ws.send(message)
    }

    /// Sends one message, compressed or not, as [`WebSocket::send_with`] does.
    ///
    /// # Errors
    ///
    /// As for [`WebSocket::send_with`].
    ///
    /// # Cancel safety
    ///
    /// As for [`WebSocket::send_with`].
    #[inline]
    pub fn send_with(
        &mut self,
        message: impl Into<Message>,
        compress: Compress,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.ws.send_with(message, compress)
    }

    /// Queues one message, as [`WebSocket::feed`] does.
    ///
    /// # Errors
    ///
    /// As for [`WebSocket::feed`].
    ///
    /// # Cancel safety
    ///
    /// As for [`WebSocket::feed`].
    #[inline]
    pub fn feed(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> + Send {
        self.ws.feed(message)
    }

    /// Closes the connection, as [`WebSocket::close`] does.
    ///
    /// # Errors
    ///
    /// As for [`WebSocket::close`].
    ///
    /// # Cancel safety
    ///
    /// As for [`WebSocket::close`].
    pub fn close(
        &mut self,
        code: impl Into<CloseCode>,
        reason: &str,
    ) -> impl Future<Output = Result<(), Error>> {
        let code = code.into();
        self.ws.close(code, reason)
    }

    /// Starts the closing handshake, as [`WebSocket::start_close`] does.
    ///
    /// # Errors
    ///
    /// As for [`WebSocket::start_close`].
    pub fn start_close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.ws.start_close(code, reason)
    }

    /// Parts the socket into a handle to send, which can be cloned, and the side that receives. The client stays
    /// registered until the latter is dropped.
    pub fn split(self) -> (Sender, Receiver<T>) {
        let (sender, receiver) = self.ws.split();
        (sender, Receiver { receiver, _member: self.member })
    }

    /// Drops the connection at once, without a close frame: the peer sees code 1006.
    pub fn abort(self) {
        self.ws.abort();
    }

    /// Gives up the registration for the bare connection. Where a handler is run on it, the client stays registered
    /// until the handler has ended.
    pub fn into_inner(self) -> WebSocket<T> {
        self.ws
    }

    /// Runs a handler on this socket, as [`Hub::run`] does.
    ///
    /// # Errors
    ///
    /// [`RunError::Handler`] with the handler's error, [`RunError::Aborted`] if the hub's shutdown passed its deadline.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the handler; the connection is closed in the background.
    pub fn run<F, Fut, E>(
        self,
        handler: F,
    ) -> impl Future<Output = Result<(), RunError<E>>> + use<T, F, Fut, E>
    where
        F: FnOnce(Self) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let Self { ws, member } = self;
        Run { task: None, member: member.clone(), driven: drive(ws, |ws| handler(Self { ws, member })) }
    }
}

pin_project! {
    /// A handler's run; by hand, as every connection holds one and an `async fn` would keep its arguments twice.
    struct Run<D> {
        #[pin]
        driven: D,
        member: Member,
        // The task that the member's entry knows, to look without its lock.
        task: Option<Waker>,
    }
}

impl<D: Future<Output = Result<(), E>>, E> Future for Run<D> {
    type Output = Result<(), RunError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let run = self.project();
        let entry = &run.member.entry;
        if !run.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *run.task = Some(cx.waker().clone());
            entry.set_task(Some(cx.waker().clone()));
        }
        // A kill before this look is seen here; one after it wakes the task, which was left before it.
        if entry.is_killed() {
            return Poll::Ready(Err(RunError::Aborted));
        }
        run.driven.poll(cx).map_err(RunError::Handler)
    }
}

impl<T: Transport> Deref for Socket<T> {
    type Target = WebSocket<T>;

    #[inline]
    fn deref(&self) -> &WebSocket<T> {
        &self.ws
    }
}

impl<T: Transport> DerefMut for Socket<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut WebSocket<T> {
        &mut self.ws
    }
}

impl<T: Transport> fmt::Debug for Socket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("id", &self.id()).field("state", &self.state()).finish_non_exhaustive()
    }
}

/// The receiving side of a [`Socket`] that was split: a [`longwire_connection::Receiver`] that is registered.
pub struct Receiver<T: Transport> {
    receiver: longwire_connection::Receiver<T>,
    _member: Member,
}

impl<T: Transport> Deref for Receiver<T> {
    type Target = longwire_connection::Receiver<T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.receiver
    }
}

impl<T: Transport> DerefMut for Receiver<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.receiver
    }
}

impl<T: Transport> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.fmt(f)
    }
}

/// What keeps a client in the registry: dropped with the task, whether it returns, panics or is cancelled.
pub(crate) struct Member {
    entry: Arc<Entry>,
}

impl Member {
    /// Makes the first one of an entry, which counts it already.
    pub(crate) fn new(entry: Arc<Entry>) -> Self {
        Self { entry }
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        self.entry.holders.fetch_add(1, Ordering::Relaxed);
        Self { entry: Arc::clone(&self.entry) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.entry.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.entry.leave_hub();
            self.entry.hub().remove(&self.entry);
        }
    }
}
