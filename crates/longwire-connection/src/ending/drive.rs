//! Running a handler: what it sends between two yields leaves in one write, and what it drops is closed properly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;

use crate::ending::heir::{Heir, Leaving};
use crate::ending::leave::{closing, in_background};
use crate::sending::shared::Shared;
use crate::{Transport, WebSocket};

/// Runs `handler` on a socket and closes the connection when it returns.
///
/// While the handler runs, a `send` on its socket completes as soon as there is room in the queue; when the handler
/// yields, everything that it sent is written at once. Ten messages that arrived in one packet are answered with one
/// system call, and nothing waits for a task that sleeps.
///
/// `handler` is called at once; what it returns runs while this future is polled. When that is done, a close frame is
/// sent (1000 for `Ok`, 1011 for `Err`) unless one was, and this future goes on until the closing handshake is over or
/// the close timeout has passed. A handler that panics leaves 1011.
///
/// A socket or [`Receiver`](crate::Receiver) that the handler drops before it returns is closed at once, with code 1000, by
/// the task that polls this future. A socket that the handler moved to another task lives on there.
///
/// # Errors
///
/// The handler's.
///
/// # Cancel safety
///
/// If the future is dropped, so is the handler; the connection is closed in the background as for a dropped socket.
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
    let managed = Managed::new(Arc::clone(ws.shared()));
    let handler = handler(ws);
    Drive { state: State::Running { handler }, managed }
}

pin_project! {
    /// Not an async block, as every idle connection keeps one.
    struct Drive<T: Transport, Fut, O> {
        #[pin]
        state: State<Fut, O>,
        // Dropped after the handler, which leaves its socket to it.
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
                    let failed = output.is_err();
                    // This drops the handler, and with it the socket.
                    this.state.set(State::Leaving { output: Some(output) });
                    this.managed.take_over(failed);
                }
                // The handler has dropped its socket and continues without it.
                Poll::Pending if this.managed.is_left => this.managed.take_over(false),
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
    /// Set while the handler runs: it stays set if that panics.
    running: bool,
    /// Whether the socket was dropped by the end of the last turn.
    is_left: bool,
    /// The closing of the connection, once the socket was dropped.
    leaving: Option<Leaving>,
}

impl<T: Transport> Managed<T> {
    fn new(shared: Arc<Shared<T>>) -> Self {
        shared.lock().heir = Heir::Driver(Waker::noop().clone());
        Self { shared, running: false, is_left: false, leaving: None }
    }

    /// One turn of the handler.
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

    /// Starts to close the connection if its socket was left here.
    fn take_over(&mut self, failed: bool) {
        let left = self.shared.lock().heir.take_left();
        if let Some(left) = left {
            self.leaving = Some(left.estate.leave(closing(failed || left.panicked)));
        }
    }

    /// Ends the part of this task: a socket that is dropped on another thread is either left here or closed there, and
    /// what this task was to write is the receiving task's.
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
