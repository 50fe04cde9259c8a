//! One connection, from its beginning to its end: messages out, messages in, deliveries, the closing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use longwire_connection::{CloseFrame, Error, Pong, Receiver, Sender, Transport, WebSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::inbox::Filling;
use super::outbox::Outbox;
use super::{Confirm, Gap, Outage};

/// How a connection ended.
pub(super) enum End {
    Outage(Outage),
    /// This end closed it, and that went so.
    Closed(Result<(), Error>),
}

/// What a connection is served with.
pub(super) struct Serving<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) incoming: &'a Filling,
    /// What the application was not told yet.
    pub(super) missed: &'a mut Option<Missed>,
    pub(super) closing: &'a mut watch::Receiver<Option<CloseFrame>>,
    pub(super) confirm: Confirm,
    pub(super) delivery_timeout: Option<Duration>,
    pub(super) close_timeout: Duration,
}

/// An outage that the application has to be told of as soon as it is over.
pub(super) struct Missed {
    pub(super) outage: Outage,
    pub(super) since: Instant,
    pub(super) attempts: u32,
    /// When there was a connection again.
    pub(super) until: Instant,
}

impl Serving<'_> {
    /// Serves one connection.
    pub(super) async fn run<T: Transport>(self, ws: WebSocket<T>) -> End {
        let (sender, mut receiver) = ws.split();
        let mut sending = pin!(send(self.outbox, &sender, self.confirm, self.incoming));
        tokio::select! {
            biased;
            // It fails only if nobody is left to close, and then it is closed already.
            _ = self.closing.wait_for(Option::is_some) => {}
            outage = receive(&mut receiver, self.incoming, self.missed) => return End::Outage(outage),
            limit = overdue(self.outbox, self.delivery_timeout) => {
                sender.abort();
                return End::Outage(Outage::Undelivered { limit });
            }
            error = &mut sending => {
                sender.abort();
                return End::Outage(error.into());
            }
        }

        let frame = self.closing.borrow().clone();
        let closed = timeout(self.close_timeout, async {
            tokio::select! {
                biased;
                _ = self.outbox.wait_settled() => {}
                // It ended, and not all was delivered.
                ended = discard(&mut receiver) => return ended.and(Err(Error::Closed)),
                error = &mut sending => return Err(error),
            }
            if let Some(CloseFrame { code, reason }) = frame {
                // The peer may have been first: how it ended is for the receiving side to say.
                let _ = sender.close(code, &reason);
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

/// Receives to the end of the connection.
async fn receive<T: Transport>(
    receiver: &mut Receiver<T>,
    incoming: &Filling,
    missed: &mut Option<Missed>,
) -> Outage {
    loop {
        let mut slot = incoming.slot().await;
        if let Some(Missed { outage, since, attempts, until }) = missed.take() {
            if let Some(slot) = slot {
                slot.gap(Gap { outage, attempts, duration: until - since });
            }
            slot = incoming.slot().await;
        }
        match receiver.recv().await {
            Ok(Some(message)) => {
                if let Some(slot) = slot {
                    slot.message(message).await;
                }
            }
            Ok(None) => return Outage::Closed(receiver.close_received().flatten().cloned()),
            Err(error) => return error.into(),
        }
    }
}

/// Receives to the end of the connection, for nobody.
async fn discard<T: Transport>(receiver: &mut Receiver<T>) -> Result<(), Error> {
    while receiver.recv().await?.is_some() {}
    Ok(())
}

/// Waits until a message is not delivered in time.
async fn overdue(outbox: &Outbox, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return pending().await };
    outbox.wait_overdue(limit).await;
    limit
}

/// Sends what is queued, as long as the connection takes it.
///
/// How it ended is for the receiving side to say, which may have the peer's last words to read. Only where it goes on
/// although the transport takes nothing more, and not because the application has to catch up, the error ends it.
async fn send(outbox: &Outbox, sender: &Sender, confirm: Confirm, incoming: &Filling) -> Error {
    let error = match try_send(outbox, sender, confirm).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if !matches!(error, Error::Io(_)) {
        // There is a close frame, and the connection keeps its own deadline for what is left.
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
    // Numbers of messages: the last that was handed over, and the last that a ping was sent behind.
    let (mut handed, mut asked) = (None, None);
    let mut pongs: VecDeque<(u64, Pong)> = VecDeque::new();
    loop {
        let mut batch = 0;
        while batch < BATCH
            && let Some((number, message)) = outbox.hand_over()
        {
            batch += message.len() + FRAME;
            sender.feed(message).await?;
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
                Confirm::Pong if pongs.len() < MAX_PINGS => {
                    pongs.push_back((number, sender.ping()?));
                    asked = handed;
                    sender.flush().await?;
                }
                Confirm::Pong => {}
            }
        }
        tokio::select! {
            biased;
            (number, pong) = oldest(&mut pongs) => match pong {
                Ok(_) => outbox.delivered(number),
                // Somebody else sent so many pings that this one was forgotten. If the connection ended, the next fails.
                Err(_) => asked = None,
            },
            () = outbox.wait_queued() => {}
        }
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

/// How many bytes are handed over before it is waited until they are written: as many as a connection queues by default. All of
/// them are reported as delivered at once.
const BATCH: usize = 64 * 1024;
/// What a message counts for beyond its payload: the longest header.
const FRAME: usize = 14;
/// For how many seconds a peer may go on that can be heard and not answered.
const LAST_WORDS: u32 = 5;
/// How many pings are on their way at most: half of what a connection remembers.
const MAX_PINGS: usize = Pong::MAX_PENDING / 2;
