//! Measures operations that concern all clients, and how long they hold up others, with 100 000 clients. It
//! prints results and checks nothing:
//!
//! ```text
//! cargo test --release -p longwire-hub --test many -- --ignored --nocapture
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use longwire_connection::{Config, Error, Handover, WebSocket};
use longwire_hub::{ClientInfo, Hub, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{coop, yield_now};

const CLIENTS: usize = 100_000;
const ROUNDS: usize = 5;

/// The number of writes to all transports.
static WRITES: AtomicUsize = AtomicUsize::new(0);

/// A transport that accepts everything and yields nothing.
struct Sink;

impl AsyncRead for Sink {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // As a socket of tokio does.
        ready!(coop::poll_proceed(cx)).made_progress();
        WRITES.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn join(hub: &Hub) -> Socket<Sink> {
    let ws = WebSocket::new(Sink, Handover::server(), &Config::default());
    hub.admit(ws, ClientInfo::default()).expect("there is a place")
}

/// Returns the least of several rounds: other work on the machine can only add time.
fn least(mut round: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let _done = work();
    begun.elapsed()
}

/// Formats the median, the 99th percentile and the maximum of some times, and their sum.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!(
        "{:?}, {:?}, {:?} of {} in {:?}",
        at(50),
        at(99),
        at(100),
        times.len(),
        times.iter().sum::<Duration>()
    )
}

/// Returns the duration of each poll of a future.
async fn polls(future: impl Future) -> Vec<Duration> {
    let mut future = pin!(future);
    let mut times = Vec::new();
    poll_fn(|cx| {
        let begun = Instant::now();
        let polled = future.as_mut().poll(cx);
        times.push(begun.elapsed());
        polled.map(drop)
    })
    .await;
    times
}

/// Measures how long clients take to join and leave while another thread repeats `busy`.
fn join_meanwhile(hub: &Hub, busy: impl Fn(&Hub) + Send + 'static) -> String {
    let stop = Arc::new(AtomicBool::new(false));
    let working = thread::spawn({
        let (hub, stop) = (hub.clone(), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                busy(&hub);
            }
        }
    });
    let times = (0..2000).map(|_| timed(|| drop(join(hub)))).collect();
    stop.store(true, Ordering::Relaxed);
    working.join().expect("it ends");
    spread(times)
}

#[test]
#[ignore = "it measures"]
fn a_hundred_thousand_clients() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let hub = Hub::default();
    let _sockets: Vec<_> = (0..CLIENTS).map(|_| join(&hub)).collect();

    println!(
        "first snapshot: {:?}",
        least(|| {
            drop(join(&hub));
            timed(|| hub.clients())
        })
    );
    println!("broadcast: {:?}", least(|| timed(|| hub.broadcast("to all"))));
    let polls = runtime.block_on(polls(hub.broadcast_waiting("to all", Duration::ZERO)));
    println!("turns of broadcast_waiting, median, 99th percentile and longest: {}", spread(polls));
    println!("stats: {:?}", least(|| timed(|| hub.stats())));
    println!("traffic: {:?}", least(|| timed(|| hub.traffic())));
    println!("join and leave, median, 99th percentile and longest");
    println!("  alone: {}", join_meanwhile(&hub, |_| thread::sleep(Duration::from_millis(1))));
    println!("  beside stats: {}", join_meanwhile(&hub, |hub| _ = hub.stats()));
    println!("  beside traffic: {}", join_meanwhile(&hub, |hub| _ = hub.traffic()));
    println!("  beside broadcasts: {}", join_meanwhile(&hub, |hub| _ = hub.broadcast("to all")));
}

/// The time for which another task of the thread waits for its turn while a handler's broadcast is sent.
#[test]
#[ignore = "it measures"]
fn beside_a_handler_that_broadcasts_to_a_hundred_thousand() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let hub = Hub::default();
        let socket = || WebSocket::new(Sink, Handover::server(), &Config::default());
        for _ in 0..CLIENTS {
            tokio::spawn(hub.run(socket(), ClientInfo::default(), |mut ws| async move {
                while ws.recv().await?.is_some() {}
                Ok::<_, Error>(())
            }));
        }
        for _ in 0..3 {
            yield_now().await;
        }
        for _ in 0..ROUNDS {
            WRITES.store(0, Ordering::Relaxed);
            let other = tokio::spawn(async {
                let (mut longest, mut last) = (Duration::ZERO, Instant::now());
                let begun = last;
                poll_fn(|cx| {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    if WRITES.load(Ordering::Relaxed) >= CLIENTS {
                        return Poll::Ready(());
                    }
                    // It is polled whenever it is its turn.
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                (longest, begun.elapsed())
            });
            yield_now().await;
            let broadcast = tokio::spawn(hub.run(socket(), ClientInfo::default(), |ws| async move {
                let took = timed(|| ws.hub().broadcast_except(ws.id(), "to all"));
                println!("the call: {took:?}");
                std::future::pending::<Result<(), Error>>().await
            }));
            let (longest, all) = other.await.expect("it ends");
            println!("another task waits for its turn: {longest:?} of {all:?}");
            broadcast.abort();
            let _ = broadcast.await;
        }
    });
}
