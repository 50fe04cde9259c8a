//! One connection, from beginning to end: messages out, messages in, deliveries and closing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use longwire_connection::{CloseFrame, Error, Pong, Receiver, Sender, Transport, WebSocket, race};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::inbox::Filling;
use super::outbox::Outbox;
use super::settings::OnMessage;
use super::{Confirm, Gap, Outage};

/// The end of a connection.
pub(super) enum End {
    Outage(Outage),
    /// This end closed the connection, with this result.
    Closed(Result<(), Error>),
}

/// The context in which a connection is served.
pub(super) struct Serving<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) incoming: &'a Filling,
    /// The outage that was not yet reported to the application.
    pub(super) missed: &'a mut Option<Missed>,
    pub(super) closing: &'a mut watch::Receiver<Option<CloseFrame>>,
    pub(super) on_message: &'a mut Option<OnMessage>,
    pub(super) confirm: Confirm,
    pub(super) delivery_timeout: Option<Duration>,
    pub(super) close_timeout: Duration,
}

/// An outage to report to the application as soon as it is over.
pub(super) struct Missed {
    pub(super) outage: Arc<Outage>,
    pub(super) last_failure: Arc<Outage>,
    pub(super) since: Instant,
    pub(super) attempts: u32,
    /// The time at which there was a connection again.
    pub(super) until: Instant,
}

impl Serving<'_> {
    /// Serves one connection.
    pub(super) async fn run<T: Transport>(self, ws: WebSocket<T>) -> End {
        let (sender, mut receiver) = ws.split();
        let mut sending = pin!(send(self.outbox, &sender, self.confirm, self.incoming));
        let closing = none_at_close(self.closing);
        let lost = async { Some(receive(&mut receiver, self.incoming, self.missed, self.on_message).await) };
        let overdue = async {
            let limit = overdue(self.outbox, self.delivery_timeout).await;
            sender.abort();
            Some(Outage::Undelivered { limit })
        };
        let failed = async {
            let error = sending.as_mut().await;
            sender.abort();
            Some(error.into())
        };
        if let Some(outage) = race(closing, race(lost, race(overdue, failed))).await {
            return End::Outage(outage);
        }

        let frame = self.closing.borrow().clone();
        let closed = timeout(self.close_timeout, async {
            let settled = async {
                let _ = self.outbox.wait_settled().await;
                None
            };
            // The connection ended before everything was delivered.
            let ended = async { Some(discard(&mut receiver).await.and(Err(Error::Closed))) };
            let failed = async { Some(Err(sending.await)) };
            if let Some(ended) = race(settled, race(ended, failed)).await {
                return ended;
            }
            if let Some(CloseFrame { code, reason }) = frame {
                // The peer may have closed first; the receiving side reports how the connection ended.
                let _ = sender.start_close(code, &reason);
            }
            discard(&mut receiver).await
        });
        let Ok(ended) = closed.await else {
            sender.abort();
            return End::Closed(Err(Error::CloseTimeout));
        };
        End::Closed(ended)
    }
}

/// Waits until the application closes the client, and returns `None`, for a [`race`] with what that interrupts.
pub(super) async fn none_at_close<T>(closing: &mut watch::Receiver<Option<CloseFrame>>) -> Option<T> {
    // Never fails: the task that runs this keeps the sender alive.
    let _ = closing.wait_for(Option::is_some).await;
    None
}

/// Receives messages until the connection ends.
async fn receive<T: Transport>(
    receiver: &mut Receiver<T>,
    incoming: &Filling,
    missed: &mut Option<Missed>,
    on_message: &mut Option<OnMessage>,
) -> Outage {
    loop {
        let mut slot = incoming.slot().await;
        if let Some(Missed { outage, last_failure, since, attempts, until }) = missed.take() {
            if let Some(slot) = slot {
                slot.gap(Gap { outage, last_failure, attempts, duration: until - since });
            }
            slot = incoming.slot().await;
        }
        match receiver.recv().await {
            Ok(Some(message)) => {
                let slot = match slot {
                    Some(slot) => Some(slot.room(message.len()).await),
                    None => None,
                };
                // Nothing is awaited from here on: this may be dropped while it waits, and a message that was noted
                // must reach the application.
                if let Some(note) = on_message {
                    note(&message);
                }
                if let Some(slot) = slot {
                    slot.message(message);
                }
            }
            // Without a close frame, `on_connect` received the error with which the connection ended.
            Ok(None) => {
                let frame = receiver.close_received().cloned();
                return frame.map_or(Outage::Lost(Error::Closed), Outage::Closed);
            }
            Err(error) => return error.into(),
        }
    }
}

/// Receives and drops messages until the connection ends.
async fn discard<T: Transport>(receiver: &mut Receiver<T>) -> Result<(), Error> {
    while receiver.recv().await?.is_some() {}
    Ok(())
}

/// Waits until a message exceeds its time limit, and returns the limit.
async fn overdue(outbox: &Outbox, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return pending().await };
    outbox.wait_overdue(limit).await;
    limit
}

/// Sends queued messages as long as the connection accepts them.
///
/// The receiving side normally reports how the connection ended, because it may still have the peer's last messages
/// to read. This returns the error only if receiving continues for [`LAST_WORDS`] seconds after the transport failed
/// to send. Time in which the inbox is full restarts the count.
async fn send(outbox: &Outbox, sender: &Sender, confirm: Confirm, incoming: &Filling) -> Error {
    let error = match try_send(outbox, sender, confirm).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if !matches!(error, Error::Io(_)) {
        // A close frame was sent or received; the connection has its own deadline for the rest.
        return pending().await;
    }
    let mut seconds = 0;
    while seconds < LAST_WORDS {
        sleep(Duration::from_secs(1)).await;
        seconds = if incoming.is_full() { 0 } else { seconds + 1 };
    }
    error
}

async fn try_send(outbox: &Outbox, sender: &Sender, confirm: Confirm) -> Result<Infallible, Error> {
    // Message numbers: the last handed over, and the last that was flushed (`Written`) or followed by a ping
    // (`Pong`).
    let (mut handed, mut asked) = (None, None);
    let mut pongs: VecDeque<(u64, Pong)> = VecDeque::new();
    loop {
        let mut batch = 0;
        while batch < BATCH
            && let Some((number, message)) = outbox.hand_over()
        {
            batch += message.len() + FRAME;
            confirming(outbox, &mut pongs, &mut asked, sender.feed(message)).await?;
            handed = Some(number);
        }
        if let Some(number) = handed
            && handed > asked
        {
            match confirm {
                Confirm::Written => {
                    sender.flush().await?;
                    outbox.delivered(number);
                    asked = handed;
                }
                Confirm::Pong => {
                    let asking = (pongs.len() < MAX_PINGS).then(|| sender.ping());
                    match asking {
                        Some(Ok(pong)) => {
                            pongs.push_back((number, pong));
                            asked = handed;
                        }
                        // Until a pong arrives, or until pings of the application are written, messages are only
                        // written.
                        None | Some(Err(Error::QueueFull)) => {}
                        Some(Err(error)) => return Err(error),
                    }
                    confirming(outbox, &mut pongs, &mut asked, sender.flush()).await?;
                    // Meanwhile a pong may have arrived, or the ping may have been displaced.
                    if handed > asked && pongs.len() < MAX_PINGS {
                        continue;
                    }
                }
            }
        }
        let answered = async { Some(oldest(&mut pongs).await) };
        let queued = async {
            outbox.wait_queued().await;
            None
        };
        if let Some(answer) = race(answered, queued).await {
            confirm_by(outbox, &mut asked, answer);
        }
    }
}

/// Completes a step of sending. Pongs that arrive meanwhile confirm their messages at once: a line that is never idle
/// would otherwise delay each confirmation by the time that the next message takes.
async fn confirming<T>(
    outbox: &Outbox,
    pongs: &mut VecDeque<(u64, Pong)>,
    asked: &mut Option<u64>,
    step: impl Future<Output = T>,
) -> T {
    let mut step = pin!(step);
    loop {
        let completed = async { Ok(step.as_mut().await) };
        let answered = async { Err(oldest(pongs).await) };
        match race(completed, answered).await {
            Ok(output) => return output,
            Err(answer) => confirm_by(outbox, asked, answer),
        }
    }
}

/// Records what the answer to a ping confirms.
fn confirm_by(outbox: &Outbox, asked: &mut Option<u64>, (number, pong): (u64, Result<Duration, Error>)) {
    match pong {
        Ok(_) => outbox.delivered(number),
        // Other pings displaced this one. If the connection has ended instead, the next ping fails.
        Err(_) => *asked = None,
    }
}

/// Waits for the oldest pong.
async fn oldest(pongs: &mut VecDeque<(u64, Pong)>) -> (u64, Result<Duration, Error>) {
    let (number, pong) = poll_fn(|cx| {
        let Some((number, pong)) = pongs.front_mut() else { return Poll::Pending };
        Poll::Ready((*number, ready!(Pin::new(pong).poll(cx))))
    })
    .await;
    pongs.pop_front();
    (number, pong)
}

/// The number of bytes to hand over before waiting until they are written: the default size of a connection's send
/// queue. All of them are reported as delivered together.
const BATCH: usize = 64 * 1024;
/// The cost of a message beyond its payload: the longest header.
const FRAME: usize = 14;
/// The number of seconds that a peer may continue to send after sending to it has failed.
const LAST_WORDS: u32 = 5;
/// The maximum number of unanswered pings: half of the number that a connection remembers.
const MAX_PINGS: usize = Pong::MAX_PENDING / 2;
