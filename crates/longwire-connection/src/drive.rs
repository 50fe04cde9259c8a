//! Running a handler: what it sends between two yields leaves in one write, and what it drops is closed properly.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use longwire_protocol::{CloseCode, CloseFrame};

use crate::leave::{Leave, leave_behind};
use crate::shared::Shared;
use crate::{Transport, WebSocket};

/// Runs `handler` on a socket and closes the connection when it returns.
///
/// While the handler runs, a `send` on its socket completes as soon as there is room in the queue; when the handler
/// yields, everything that it sent is written at once. Ten messages that arrived in one packet are answered with one
/// system call, and nothing waits for a task that sleeps.
///
/// When the handler returns, a close frame is sent (1000 for `Ok`, 1011 for `Err`) unless one was, and this future goes
/// on until the closing handshake is over or the close timeout has passed. A handler that panics leaves 1011. A socket
/// that the handler moved to another task lives on there.
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
pub async fn drive<T, F, Fut, E>(ws: WebSocket<T>, handler: F) -> Result<(), E>
where
    T: Transport,
    F: FnOnce(WebSocket<T>) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let managed = Managed::new(Arc::clone(ws.shared()));
    let shared = &managed.shared;
    let output = {
        let mut handler = pin!(handler(ws));
        poll_fn(|cx| {
            let cork = shared.cork();
            let polled = handler.as_mut().poll(cx);
            drop(cork);
            shared.lock().end_turn(cx);
            polled
        })
        .await
    };
    if let Some(reader) = managed.take_parked() {
        let code = if output.is_ok() { CloseCode::NORMAL } else { CloseCode::INTERNAL_ERROR };
        Leave::new(reader, CloseFrame::new(code, "")).await;
    }
    output
}

/// Marks a connection as one whose dropped socket is left to this task.
struct Managed<T: Transport> {
    shared: Arc<Shared<T>>,
}

impl<T: Transport> Managed<T> {
    fn new(shared: Arc<Shared<T>>) -> Self {
        shared.set_managed(true);
        Self { shared }
    }

    fn take_parked(&self) -> Option<Box<crate::reader::Reader<T>>> {
        self.shared.lock().parked.take()
    }
}

impl<T: Transport> Drop for Managed<T> {
    fn drop(&mut self) {
        self.shared.set_managed(false);
        if let Some(reader) = self.take_parked() {
            leave_behind(reader);
        }
    }
}
