//! Loom models of a budget that connections on several threads share. `cargo xtask loom` runs them. The comment on each
//! model names a fault of the code with which the model was seen to fail.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

use loom::thread::spawn;

use super::*;
use crate::stepped::{block_on, model};

/// A connection that is gone: its memory is held, but nothing can be sent on it.
struct Nobody;

impl Member for Nobody {
    fn shed(&self) {}
    #[cfg(feature = "deflate")]
    fn shed_compressor(&self) {}
    #[cfg(feature = "deflate")]
    fn park(&self) -> bool {
        true
    }
}

fn holding(budget: &MemoryBudget) -> Holding {
    Holding::new(budget.clone())
}

/// Returns the ways to reach such a connection, which has this waker.
fn contact(waker: &Waker) -> Contact<'_> {
    Contact { waker, member: &|| Weak::<Nobody>::new() }
}

/// Checks that the budget is as it was when it was new.
fn assert_unused(budget: &MemoryBudget) {
    let shared = &budget.shared;
    let [used, leaving, holders] =
        [&shared.used, &shared.leaving, &shared.holders].map(|count| count.load(Ordering::Relaxed));
    assert_eq!((used, leaving, holders, lock(&shared.large).len()), (0, 0, 0, 0));
}

/// A connection that waits holds most of the budget when another needs memory. Fails if the task of the connection that
/// is chosen is woken before it can see that it was chosen, or if a connection can see the bytes of another in the sum
/// without seeing that it holds some.
#[test]
fn who_is_chosen_is_woken() {
    model(3, || {
        let budget = MemoryBudget::new(100_000);
        let waiting = {
            let mut large = holding(&budget);
            spawn(move || {
                block_on(poll_fn(|cx| {
                    if large.hold(90_000, contact(cx.waker())) { Poll::Pending } else { Poll::Ready(()) }
                }));
                large.release();
            })
        };
        let mut small = holding(&budget);
        assert!(small.hold(12_000, contact(Waker::noop())), "it has less than its share");
        waiting.join().unwrap();
        assert_eq!(budget.used(), 12_000);
        assert_eq!(budget.shared.leaving.load(Ordering::Relaxed), 0);
        drop(small);
        assert_unused(&budget);
    });
}

/// Three connections hold more than there is, grow and shrink. Fails if the bytes of a connection that is chosen are
/// recorded after others can see that it was chosen, or if the sum is read and written in two steps.
#[test]
fn the_sum_is_bounded_and_every_byte_is_given_back() {
    model(3, || {
        let budget = MemoryBudget::new(100_000);
        let start = |sizes: &'static [usize]| {
            let mut holding = holding(&budget);
            spawn(move || {
                for &size in sizes {
                    if !holding.hold(size, contact(Waker::noop())) {
                        holding.release();
                        break;
                    }
                }
                holding
            })
        };
        let threads = [start(&[60_000, 20_000]), start(&[50_000])];
        let mut third = holding(&budget);
        if !third.hold(45_000, contact(Waker::noop())) {
            third.release();
        }
        let mut all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        all.push(third);
        assert_eq!(budget.used(), all.iter().map(|holding| holding.held).sum::<usize>());
        assert!(budget.used() <= budget.shared.most());
        drop(all);
        assert_unused(&budget);
    });
}

#[cfg(feature = "deflate")]
mod compressors {
    use std::io;
    use std::pin::Pin;
    use std::task::Context;

    use longwire_protocol::Compression;
    use longwire_protocol::deflate::{DeflateOptions, Pool, PoolOptions, verify};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;
    use crate::{Config, Handover, WebSocket};

    /// A transport that takes everything and brings nothing. It counts the writes to all transports, so that loom lets
    /// other threads run during a write, when the connection is locked.
    struct Sink(Arc<AtomicUsize>);

    impl AsyncRead for Sink {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Two connections send compressed messages, and the budget has room for the compressor of one. Fails if the search
    /// for a compressor to give back ends at a connection that is busy.
    #[test]
    fn compressors_stay_within_the_budget() {
        model(3, || {
            let options = DeflateOptions::default();
            let agreement = verify([], &options.offers()).unwrap();
            let pool = Pool::new(PoolOptions::default());
            let budget = MemoryBudget::new(COMPRESSOR + COMPRESSOR / 2);
            let writes = Arc::new(AtomicUsize::new(0));
            let connect = || {
                let handover = Handover::server().compression(Compression::new(agreement, &options, &pool));
                WebSocket::new(
                    Sink(Arc::clone(&writes)),
                    handover,
                    &Config::default().with_memory(budget.clone()),
                )
            };
            let sockets = [connect(), connect()];
            let send = |socket: &WebSocket<Sink>, messages| {
                let sender = socket.sender();
                move || {
                    for _ in 0..messages {
                        block_on(sender.send("la".repeat(1000))).unwrap();
                    }
                }
            };
            let sending = spawn(send(&sockets[0], 2));
            send(&sockets[1], 1)();
            sending.join().unwrap();
            assert!(budget.used() <= budget.limit());
            assert!(pool.idle_compressors() <= 2);
            drop(sockets);
            assert_unused(&budget);
            assert_eq!(lock(&budget.shared.compressors).len(), 0);
        });
    }
}
