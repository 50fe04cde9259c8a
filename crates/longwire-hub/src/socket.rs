//! A registered connection: the socket that handlers get, and its membership in the hub.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use longwire_connection::{
    CloseCode, Compress, Driven, Error, Message, Sender, Transport, WebSocket, drive_killable,
};
use pin_project_lite::pin_project;

use crate::entry::{ClientHandle, Entry};
use crate::error::{HubError, RunError};
use crate::id::ClientId;
use crate::registry::Hub;
use crate::sync::Ordering;
use crate::turn::Turn;

/// A [`WebSocket`] that is registered with a [`Hub`].
///
/// All methods of `WebSocket` that take a reference work here as well. The client stays registered until the
/// socket is dropped and, if a handler runs on it, the connection is closed.
pub struct Socket<T: Transport> {
    ws: WebSocket<T>,
    member: Member,
}

impl<T: Transport> Socket<T> {
    pub(crate) fn new(ws: WebSocket<T>, member: Member) -> Self {
        Self { ws, member }
    }

    /// Returns the client's ID.
    pub fn id(&self) -> ClientId {
        self.member.entry.id
    }

    /// Returns the hub with which the client is registered.
    pub fn hub(&self) -> &Hub {
        self.member.entry.hub()
    }

    /// Returns a handle to this client, for other tasks.
    pub fn client(&self) -> ClientHandle {
        self.member.client()
    }

    /// Returns the application's data for this client, as [`ClientHandle::data`] does.
    pub fn data<D: Any + Send + Sync>(&self) -> Option<&D> {
        self.member.entry.data()
    }

    /// Sets the application's data for this client, once, as [`ClientHandle::set_data`] does.
    ///
    /// # Errors
    ///
    /// As for [`ClientHandle::set_data`].
    pub fn set_data<D: Any + Send + Sync>(&self, data: D) -> Result<(), D> {
        self.member.entry.set_data(data)
    }

    /// Adds this client to a room, as [`ClientHandle::join`] does.
    ///
    /// # Errors
    ///
    /// As for [`ClientHandle::join`].
    pub fn join(&self, room: impl AsRef<str>) -> Result<bool, HubError> {
        self.member.entry.join(room.as_ref())
    }

    /// Removes this client from a room, as [`ClientHandle::leave`] does.
    pub fn leave(&self, room: impl AsRef<str>) -> bool {
        self.member.entry.leave(room.as_ref())
    }

    /// Sets this client's key, as [`ClientHandle::set_key`] does.
    ///
    /// # Errors
    ///
    /// As for [`ClientHandle::set_key`].
    pub fn set_key(&self, key: impl AsRef<str>) -> Result<(), HubError> {
        self.member.entry.set_key(key.as_ref())
    }

    // The methods of `WebSocket` that take `&mut self` and further arguments. An argument may borrow the socket,
    // as in `ws.send(format!("{}", ws.id()))`, only if the method is defined on `Socket` itself: a call through
    // `DerefMut` borrows the socket before the arguments are evaluated.

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

    /// Sends one message and waits until it is written, as [`WebSocket::send_flushed`] does.
    ///
    /// # Errors
    ///
    /// As for [`WebSocket::send_flushed`].
    ///
    /// # Cancel safety
    ///
    /// As for [`WebSocket::send_flushed`].
    pub fn send_flushed(
        &mut self,
        message: impl Into<Message>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.ws.send_flushed(message)
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

    /// Splits the socket into a sending handle, which can be cloned, and the receiving side. The client stays
    /// registered until the receiving side is dropped.
    pub fn split(self) -> (Sender, SocketReceiver<T>) {
        let (sender, receiver) = self.ws.split();
        (sender, SocketReceiver { receiver, _member: self.member })
    }

    /// Drops the connection at once, without a close frame: the peer sees code 1006.
    pub fn abort(self) {
        self.ws.abort();
    }

    /// Gives up the registration and returns the bare connection. If a handler runs on the socket, the client
    /// stays registered until the handler has ended.
    pub fn into_inner(self) -> WebSocket<T> {
        self.ws
    }

    /// Runs a handler on this socket, as [`Hub::run`] does.
    ///
    /// # Errors
    ///
    /// [`RunError::Handler`] with the handler's error; [`RunError::Aborted`] if the client had not left by the
    /// deadline of a shutdown.
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
        self.into_run(handler)
    }

    fn into_run<F, Fut, E>(self, handler: F) -> Run<impl Driven<Output = Result<(), E>> + use<T, F, Fut, E>>
    where
        F: FnOnce(Self) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let Self { ws, member } = self;
        Run {
            task: None,
            member: member.clone(),
            driven: drive_killable(ws, |ws| handler(Self { ws, member })),
        }
    }

    /// Runs a handler as [`run`](Self::run) does, and yields the client with the outcome: a task that logs how each of
    /// many connections has ended need not keep a handle of its own.
    #[doc(hidden)]
    pub fn run_to_end<F, Fut, E>(
        self,
        handler: F,
    ) -> impl Future<Output = (ClientHandle, Result<(), RunError<E>>)> + use<T, F, Fut, E>
    where
        F: FnOnce(Self) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        RunToEnd { run: self.into_run(handler) }
    }
}

pin_project! {
    /// The future of a handler's run. Written by hand because every connection holds one, and an `async fn` would
    /// store its arguments twice.
    struct Run<D> {
        #[pin]
        driven: D,
        member: Member,
        // A copy of the waker that the member's entry holds, to compare without the entry's lock.
        task: Option<Waker>,
    }
}

impl<D: Driven<Output = Result<(), E>>, E> Future for Run<D> {
    type Output = Result<(), RunError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let run = self.project();
        if !run.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *run.task = Some(cx.waker().clone());
            run.member.entry.set_task(Some(cx.waker().clone()));
        }
        // A kill before this check is seen here; a later kill wakes the task, whose waker was stored before the check.
        // The connection is asked first: the entry would be one more place in memory to wait for.
        if run.driven.is_killed() && run.member.entry.is_killed() {
            return Poll::Ready(Err(RunError::Aborted));
        }
        // At its end, the clients to which the handler has published are written to.
        let _turn = Turn::begin();
        run.driven.poll(cx).map_err(RunError::Handler)
    }
}

pin_project! {
    /// The future of a handler's run, which yields the client as well.
    struct RunToEnd<D> {
        #[pin]
        run: Run<D>,
    }
}

impl<D: Driven<Output = Result<(), E>>, E> Future for RunToEnd<D> {
    type Output = (ClientHandle, Result<(), RunError<E>>);

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut run = self.project().run;
        let ended = ready!(run.as_mut().poll(cx));
        Poll::Ready((run.member.client(), ended))
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

/// The receiving side of a [`Socket`] that was split: a registered [`longwire_connection::Receiver`].
pub struct SocketReceiver<T: Transport> {
    receiver: longwire_connection::Receiver<T>,
    _member: Member,
}

impl<T: Transport> Deref for SocketReceiver<T> {
    type Target = longwire_connection::Receiver<T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.receiver
    }
}

impl<T: Transport> DerefMut for SocketReceiver<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.receiver
    }
}

impl<T: Transport> fmt::Debug for SocketReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.fmt(f)
    }
}

/// Keeps a client in the registry. It is dropped with the task, whether that returns, panics or is canceled.
pub(crate) struct Member {
    entry: Arc<Entry>,
}

impl Member {
    /// Makes the first `Member` of an entry, which is already counted in `holders`.
    pub(crate) fn new(entry: Arc<Entry>) -> Self {
        Self { entry }
    }

    fn client(&self) -> ClientHandle {
        ClientHandle { entry: Arc::clone(&self.entry) }
    }

    /// Sets the client's key, which was checked, if it has one.
    pub(crate) fn set_key(&self, key: Option<&str>) {
        if let Some(key) = key {
            let set = self.entry.set_key(key);
            debug_assert!(set.is_ok(), "it was just registered");
        }
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
