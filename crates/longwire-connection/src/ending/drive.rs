//! Running a handler: what it sends between two yields leaves in one write, and what it drops is closed properly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use longwire_protocol::{CloseCode, CloseFrame};
use pin_project_lite::pin_project;

use crate::ending::leave::Leave;
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
/// the close timeout has passed. A handler that panics leaves 1011. A socket that the handler moved to another task
/// lives on there.
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
    Drive { state: State::Running { handler: handler(ws) }, managed }
}

pin_project! {
    /// Not an async block, as every idle connection keeps one.
    struct Drive<T: Transport, Fut, O> {
        #[pin]
        state: State<T, Fut, O>,
        // Dropped behind the handler, which leaves its socket here.
        managed: Managed<T>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<T: Transport, Fut, O> {
        Running { #[pin] handler: Fut },
        Leaving { output: Option<O>, leave: Option<Leave<T>> },
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
            let output = ready!(this.managed.poll_handler(handler, cx));
            let code = if output.is_ok() { CloseCode::NORMAL } else { CloseCode::INTERNAL_ERROR };
            // This drops the handler, and with it the socket.
            this.state.set(State::Leaving { output: Some(output), leave: None });
            if let StateProjection::Leaving { leave, .. } = this.state.as_mut().project() {
                *leave = this.managed.leave(code);
            }
        }
        match this.state.project() {
            StateProjection::Leaving { output, leave } => {
                if let Some(leave) = leave {
                    ready!(Pin::new(leave).poll(cx));
                }
                *leave = None;
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
}

impl<T: Transport> Managed<T> {
    fn new(shared: Arc<Shared<T>>) -> Self {
        shared.set_managed(true);
        Self { shared, running: false }
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
        self.shared.lock().end_turn(cx);
        polled
    }

    /// Closes the connection of a socket that was dropped here.
    fn leave(&self, code: CloseCode) -> Option<Leave<T>> {
        let reader = self.shared.lock().parked.take()?;
        Some(Leave::new(reader, CloseFrame::new(code, "")))
    }
}

impl<T: Transport> Drop for Managed<T> {
    fn drop(&mut self) {
        self.shared.set_managed(false);
        let code = if self.running { CloseCode::INTERNAL_ERROR } else { CloseCode::NORMAL };
        if let Some(leave) = self.leave(code) {
            leave.in_background();
        }
    }
}
