//! Running a handler: everything that it sends between two yields is written at once, and a socket that it drops is
//! closed cleanly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use longwire_protocol::{CloseCode, CloseFrame};
use pin_project_lite::pin_project;

use crate::ending::heir::{Heir, Leaving};
use crate::ending::leave::{closing, in_background};
use crate::sending::shared::Shared;
use crate::{Transport, WebSocket};

/// Runs `handler` on a socket and closes the connection when it returns.
///
/// While the handler runs, a `send` on its socket completes as soon as there is room in the queue. When the handler
/// yields, everything that it sent is written at once. Ten messages that arrived in one packet are answered with
/// one system call, and nothing waits for a task that sleeps.
///
/// Calls `handler` at once; the future that it returns runs while this future is polled. When the handler is done,
/// a close frame is sent (1000 for `Ok`, 1011 for `Err`) unless one was sent before, and this future continues
/// until the closing handshake is over or the close timeout has passed. If the handler panics, the connection is
/// closed with 1011.
///
/// If the handler drops a socket or [`Receiver`](crate::Receiver) before it returns, the task that polls this
/// future closes the connection at once, with code 1000. A socket that the handler moved to another task lives on
/// there.
///
/// # Errors
///
/// The error that the handler returned.
///
/// # Cancel safety
///
/// If the future is dropped, so is the handler, and the connection is closed in the background as for a dropped
/// socket.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, Handover, drive, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let (mut client, server) = pair(Config::default());
/// tokio::spawn(drive(server, |mut ws| async move {
///     while let Some(message) = ws.recv().await? {
///         ws.send(message).await?;
///     }
///     Ok::<_, Error>(())
/// }));
/// client.send("hello").await?;
/// assert_eq!(client.recv().await?, Some("hello".into()));
/// client.close(1000, "").await?;
/// # Ok(())
/// # }
/// ```
pub fn drive<T, F, Fut, E>(
    ws: WebSocket<T>,
    handler: F,
) -> impl Future<Output = Result<(), E>> + use<T, F, Fut, E>
where
    T: Transport,
    F: FnOnce(WebSocket<T>) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    drive_killable(ws, handler)
}

/// Runs `handler` as [`drive`] does, for a task that drops it once the connection was [killed](crate::Sender::kill).
#[doc(hidden)]
pub fn drive_killable<T, F, Fut, E>(
    ws: WebSocket<T>,
    handler: F,
) -> impl Driven<Output = Result<(), E>> + use<T, F, Fut, E>
where
    T: Transport,
    F: FnOnce(WebSocket<T>) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let managed = Managed::new(Arc::clone(ws.shared()));
    let handler = handler(ws);
    Drive { state: State::Running { handler }, managed }
}

/// The run of a handler.
#[doc(hidden)]
pub trait Driven: Future {
    /// Returns whether the connection was [killed](crate::Sender::kill).
    fn is_killed(&self) -> bool;
}

impl<T, Fut, E> Driven for Drive<T, Fut, Result<(), E>>
where
    T: Transport,
    Fut: Future<Output = Result<(), E>>,
{
    #[inline]
    fn is_killed(&self) -> bool {
        self.managed.shared.is_killed()
    }
}

pin_project! {
    /// Not an async block, because every idle connection keeps one.
    struct Drive<T: Transport, Fut, O> {
        #[pin]
        state: State<Fut, O>,
        // Dropped after the handler, which leaves its socket to this.
        managed: Managed<T>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Fut, O> {
        Running { #[pin] handler: Fut },
        Leaving { output: Option<O> },
    }
}

impl<T, Fut, E> Future for Drive<T, Fut, Result<(), E>>
where
    T: Transport,
    Fut: Future<Output = Result<(), E>>,
{
    type Output = Result<(), E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProjection::Running { handler } = this.state.as_mut().project() {
            match this.managed.poll_handler(handler, cx) {
                Poll::Ready(output) => {
                    let code = if output.is_err() { CloseCode::INTERNAL_ERROR } else { CloseCode::NORMAL };
                    // This drops the handler, and the socket with it.
                    this.state.set(State::Leaving { output: Some(output) });
                    this.managed.take_over(code);
                }
                // The handler has dropped its socket and continues without it.
                Poll::Pending if this.managed.is_left => this.managed.take_over(CloseCode::NORMAL),
                Poll::Pending => {}
            }
        }
        let left = this.managed.poll_leaving(cx);
        match this.state.project() {
            StateProjection::Leaving { output } => {
                ready!(left);
                this.managed.resign();
                Poll::Ready(output.take().expect("polled after it was ready"))
            }
            StateProjection::Running { .. } => Poll::Pending,
        }
    }
}

/// Marks a connection as one whose dropped socket is left to this task.
struct Managed<T: Transport> {
    shared: Arc<Shared<T>>,
    /// Set while the handler is being polled, and for good if it panics.
    running: bool,
    /// Set if the socket had been dropped by the end of the last turn.
    is_left: bool,
    /// The closing of the connection, once its socket was dropped.
    leaving: Option<Leaving>,
}

impl<T: Transport> Managed<T> {
    fn new(shared: Arc<Shared<T>>) -> Self {
        shared.lock().heir = Heir::Driver(Waker::noop().clone());
        Self { shared, running: false, is_left: false, leaving: None }
    }

    /// Polls the handler for one turn.
    fn poll_handler<Fut: Future>(
        &mut self,
        handler: Pin<&mut Fut>,
        cx: &mut Context<'_>,
    ) -> Poll<Fut::Output> {
        let cork = self.shared.cork();
        self.running = true;
        let polled = handler.poll(cx);
        self.running = false;
        drop(cork);
        self.is_left = self.shared.with(|writer| writer.end_turn(cx));
        polled
    }

    /// Starts to close the connection if its socket was left here: with this code, unless a panic dropped the socket.
    fn take_over(&mut self, code: CloseCode) {
        let left = self.shared.lock().heir.take_left();
        if let Some(left) = left {
            let frame = if left.panicked { closing(true) } else { CloseFrame::new(code, "") };
            self.leaving = Some(left.estate.leave(frame));
        }
    }

    /// Ends the role of this task. A socket dropped on another thread is then either left here or closed there, and
    /// the receiving task writes what this task had left to write.
    fn resign(&mut self) {
        let left = {
            let mut writer = self.shared.lock();
            let left = writer.heir.take_left();
            writer.heir = Heir::Nobody;
            if left.is_none() && writer.has_unwritten() {
                self.shared.start_writing(&mut writer);
            }
            left
        };
        if let Some(left) = left {
            self.leaving = Some(left.estate.leave(closing(self.running || left.panicked)));
        }
        if let Some(leaving) = self.leaving.take() {
            in_background(&self.shared, leaving);
        }
    }

    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(leaving) = &mut self.leaving {
            ready!(leaving.as_mut().poll(cx));
            self.leaving = None;
        }
        Poll::Ready(())
    }
}

impl<T: Transport> Drop for Managed<T> {
    fn drop(&mut self) {
        self.resign();
    }
}
