//! `longwire bench`: a small load test of an echo server.
//!
//! All connections are in one process, which shares the machine with the server that it measures: the figures compare
//! servers and settings, and say nothing about the most that a server can do.

use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use longwire::handshake::WebSocketUri;
use longwire::{CloseCode, CloseFrame, Message};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout_at};

use crate::args::{BenchArgs, Endpoint};
use crate::connect;
use crate::display::count;
use crate::link::{Event, Incoming, Link, Outgoing};
use crate::report;
use crate::signals;
use crate::status::{FAILURE, Failure, INTERRUPTED};
use crate::style::{Paint, Style};

/// Connects, sends until the time is up, and prints the figures; returns the exit status.
///
/// # Errors
///
/// If the server is not on this machine, or a connection cannot be made or fails.
pub(crate) async fn run(mut args: BenchArgs) -> Result<u8, Failure> {
    // The proxies of the environment are other machines.
    args.endpoint.no_proxy = args.endpoint.proxy.is_none();
    if !args.yes_i_may && !is_on_this_machine(&args.endpoint)? {
        return Err(Failure::usage(
            "this loads a server that is not on this machine: use --yes-i-may if its owner agrees",
        ));
    }
    let (interrupt, mut interrupts) = mpsc::unbounded_channel();
    signals::forward(&interrupt)?;
    let figures = tokio::select! {
        figures = measure(Arc::new(args)) => figures?,
        _ = interrupts.recv() => return Ok(INTERRUPTED),
    };
    if figures.round_trips.is_empty() {
        return Err(Failure::new(FAILURE, "no message came back: does the server echo?"));
    }
    print(&figures);
    Ok(0)
}

/// Returns whether the URL leads to this machine: a Unix socket, a loopback address, or `localhost`, without proxies
/// and redirects.
fn is_on_this_machine(endpoint: &Endpoint) -> Result<bool, Failure> {
    let url = connect::url(endpoint)?;
    let redirects = endpoint.location || endpoint.max_redirects.is_some();
    if redirects || endpoint.proxy.is_some() {
        return Ok(false);
    }
    if endpoint.unix.is_some() || url.starts_with("ws+unix:") {
        return Ok(true);
    }
    let uri = WebSocketUri::parse(&url).map_err(|error| Failure::usage(format!("invalid URL: {error}")))?;
    let host = uri.host();
    let is_local_name =
        host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    Ok(is_local_name || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback()))
}

/// The most connections that are being made at a time.
const CONNECTING: usize = 50;
/// The time for the last messages to come back.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// The result.
struct Figures {
    args: Arc<BenchArgs>,
    /// In nanoseconds.
    handshakes: Histogram<u64>,
    /// In nanoseconds.
    round_trips: Histogram<u64>,
    /// Messages that did not come back in time.
    missing: u64,
    /// From the first message to the last reply.
    time: Duration,
}

async fn measure(args: Arc<BenchArgs>) -> Result<Figures, Failure> {
    let progress = Progress::new(&args);
    let (handshakes, links) = connect_all(&args, &progress).await?;
    let start = Instant::now();
    let end = start + args.duration;
    let message = message(&args);
    let replies = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for link in links {
        let load = Load {
            message: message.clone(),
            in_flight: args.in_flight as usize,
            end,
            replies: Arc::clone(&replies),
        };
        tasks.spawn(load.run(link));
    }
    let mut figures = Figures { handshakes, round_trips: histogram(), missing: 0, time: args.duration, args };
    let mut last = start;
    let watching = progress.watch(start, end, &replies);
    let joining = async {
        while let Some(joined) = tasks.join_next().await {
            let one = joined.map_err(|error| Failure::other("a connection's task failed", &error))??;
            figures.missing += one.missing;
            last = last.max(one.last);
            figures
                .round_trips
                .add(one.round_trips)
                .map_err(|error| Failure::other("cannot count", &error))?;
        }
        Ok::<_, Failure>(())
    };
    tokio::select! {
        joined = joining => joined?,
        never = watching => match never {},
    }
    progress.bar.finish_and_clear();
    figures.time = last - start;
    Ok(figures)
}

/// Makes the connections, several at a time.
async fn connect_all(
    args: &Arc<BenchArgs>,
    progress: &Progress,
) -> Result<(Histogram<u64>, Vec<Link>), Failure> {
    let limit = Arc::new(Semaphore::new(CONNECTING));
    let mut tasks = JoinSet::new();
    for _ in 0..args.connections {
        let (args, limit) = (Arc::clone(args), Arc::clone(&limit));
        tasks.spawn(async move {
            let _permit = limit.acquire().await;
            let start = Instant::now();
            let (link, _) = connect::connect(&args.endpoint).await?;
            Ok::<_, Failure>((start.elapsed(), link))
        });
    }
    let (mut handshakes, mut links) = (histogram(), Vec::new());
    while let Some(joined) = tasks.join_next().await {
        let (time, link) = joined.map_err(|error| Failure::other("a connection's task failed", &error))??;
        handshakes.saturating_record(nanoseconds(time));
        links.push(link);
        progress.connected(links.len());
    }
    Ok((handshakes, links))
}

fn message(args: &BenchArgs) -> Message {
    // Not the same byte throughout: compression would make nothing of it.
    let bytes: Vec<u8> = (b'a'..=b'z').cycle().take(args.size).collect();
    if args.binary {
        Message::binary(bytes)
    } else {
        Message::text(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The work of one connection.
struct Load {
    message: Message,
    in_flight: usize,
    end: Instant,
    replies: Arc<AtomicU64>,
}

/// The result of one connection.
struct One {
    round_trips: Histogram<u64>,
    missing: u64,
    /// The time of the last reply.
    last: Instant,
}

impl Load {
    async fn run(self, link: Link) -> Result<One, Failure> {
        let Link { mut incoming, outgoing, .. } = link;
        let mut one = One { round_trips: histogram(), missing: 0, last: Instant::now() };
        // The times of the messages that are on their way.
        let (times, mut sent) = mpsc::unbounded_channel();
        let free = Semaphore::new(self.in_flight);
        let mut sending = pin!(self.send(&outgoing, times, &free));
        let mut is_sending = true;
        // Both directions at once: a server that waits for its replies to be read must not hold up the messages.
        while is_sending || !sent.is_empty() {
            tokio::select! {
                reply = timeout_at(self.end + LAST_REPLIES, reply(&mut incoming)) => {
                    let Ok(reply) = reply else { break };
                    let start = sent.try_recv().ok();
                    let Some(start) = start.filter(|_| reply.as_ref().is_ok_and(|reply| *reply == self.message))
                    else {
                        reply?;
                        return Err(Failure::new(FAILURE, "another message came back: does the server echo?"));
                    };
                    one.last = Instant::now();
                    one.round_trips.saturating_record(nanoseconds(one.last - start));
                    self.replies.fetch_add(1, Ordering::Relaxed);
                    free.add_permits(1);
                }
                ended = &mut sending, if is_sending => {
                    ended?;
                    is_sending = false;
                }
            }
        }
        one.missing = sent.len() as u64;
        incoming.close(Some(CloseFrame::new(CloseCode::NORMAL, ""))).await;
        // The figures are complete, however the connection ends.
        while let Ok(Some(_)) = incoming.next().await {}
        Ok(one)
    }

    /// Sends until the time is up, with a limited number of messages on their way.
    async fn send(
        &self,
        outgoing: &Outgoing,
        times: mpsc::UnboundedSender<Instant>,
        free: &Semaphore,
    ) -> Result<(), Failure> {
        while let Ok(Ok(slot)) = timeout_at(self.end, free.acquire()).await {
            slot.forget();
            let now = Instant::now();
            if now >= self.end {
                break;
            }
            // The receiving half waits for this one.
            let _ = times.send(now);
            outgoing.send(self.message.clone()).await?;
        }
        Ok(())
    }
}

/// Receives the next message.
async fn reply(incoming: &mut Incoming) -> Result<Message, Failure> {
    loop {
        match incoming.next().await? {
            Some(Event::Message(message)) => return Ok(message),
            Some(_) => {}
            None => return Err(Failure::new(FAILURE, "the server closed a connection")),
        }
    }
}

/// Returns a histogram of times from 1 ns to an hour, with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HOUR, 3).expect("the bounds are valid")
}

const HOUR: u64 = 3_600_000_000_000;

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The progress bar, on a terminal.
struct Progress {
    bar: ProgressBar,
    connections: u32,
}

impl Progress {
    fn new(args: &BenchArgs) -> Self {
        let style = Style::of_stderr(args.color);
        let bar = if io::stderr().is_terminal() { ProgressBar::new(1000) } else { ProgressBar::hidden() };
        let (start, end) = (style.start(Paint::Marker), style.end());
        let template = format!("{start}{{bar:40}}{end} {{msg}}");
        bar.set_style(
            ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar, connections: args.connections }
    }

    fn connected(&self, connections: usize) {
        self.bar.set_message(format!("{connections} of {} connected", self.connections));
    }

    /// Shows the progress until it is dropped.
    async fn watch(&self, start: Instant, end: Instant, replies: &AtomicU64) -> std::convert::Infallible {
        let mut ticks = interval(Duration::from_millis(200));
        let whole = (end - start).as_secs_f64().max(1e-9);
        loop {
            ticks.tick().await;
            let passed = start.elapsed().as_secs_f64();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
            self.bar.set_position((1000.0 * (passed / whole).min(1.0)) as u64);
            let replies = replies.load(Ordering::Relaxed);
            #[allow(clippy::cast_precision_loss, reason = "for readers")]
            let rate = replies as f64 / passed.max(1e-9);
            self.bar.set_message(format!("{replies} messages, {rate:.0}/s"));
        }
    }
}

fn print(figures: &Figures) {
    let Figures { args, handshakes, round_trips, missing, time } = figures;
    let messages = round_trips.len();
    #[allow(clippy::cast_precision_loss, reason = "for readers")]
    let rate = messages as f64 / time.as_secs_f64().max(1e-9);
    #[allow(clippy::cast_precision_loss, reason = "for readers")]
    let speed = report::size(rate * args.size as f64);
    let size = report::bytes(args.size as u64);
    let (connections, in_flight) = (count(args.connections as usize, "connection"), args.in_flight);
    let mut lines = vec![
        format!("{connections}, {in_flight} in flight on each, messages of {size}"),
        format!("messages    {messages} in {}, {rate:.0}/s, {speed}/s each way", report::time(*time)),
        format!("handshakes  {}", percentiles(handshakes)),
        format!("round trips {}", percentiles(round_trips)),
    ];
    if *missing > 0 {
        lines.push(format!("missing     {missing} did not come back within {}", report::time(LAST_REPLIES)));
    }
    let text = lines.join("\n") + "\n";
    // A reader that has gone needs no figures.
    let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    let time = |nanoseconds| report::time(Duration::from_nanos(nanoseconds));
    let mut parts = vec![format!("min {}", time(histogram.min()))];
    for (name, quantile) in [("50%", 0.5), ("90%", 0.9), ("99%", 0.99), ("99.9%", 0.999)] {
        parts.push(format!("{name} {}", time(histogram.value_at_quantile(quantile))));
    }
    parts.push(format!("max {}", time(histogram.max())));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::status;

    fn parse(words: &[&str]) -> BenchArgs {
        let cli = Cli::parse_from([&["longwire", "bench"], words].concat());
        let Some(Command::Bench(args)) = cli.command else { panic!("{words:?}") };
        args
    }

    #[test]
    fn only_this_machine_is_loaded_without_leave() {
        for (words, local) in [
            (&["ws://127.0.0.1:80"][..], true),
            (&["127.8.9.10:80"], true),
            (&["ws://[::1]:80"], true),
            (&["ws://[::ffff:127.0.0.1]:80"], true),
            (&["wss://LOCALHOST/a"], true),
            (&["ws://a.localhost"], true),
            (&["ws+unix:/run/a:/"], true),
            (&["ws://example.com", "--unix", "/run/a"], true),
            (&["ws://example.com"], false),
            (&["ws://localhost.example.com"], false),
            (&["ws://10.0.0.1"], false),
            (&["ws://0.0.0.0"], false),
            (&["ws://127.0.0.1@example.com"], false),
            (&["ws://localhost", "--proxy", "http://example.com"], false),
            (&["ws://localhost", "--location"], false),
        ] {
            assert_eq!(is_on_this_machine(&parse(words).endpoint).unwrap(), local, "{words:?}");
        }
    }

    #[tokio::test]
    async fn other_machines_need_leave() {
        let failure = run(parse(&["ws://192.0.2.1"])).await.unwrap_err();
        assert_eq!(failure.status, status::USAGE);
        assert!(failure.message.contains("--yes-i-may"), "{failure}");
    }
}
