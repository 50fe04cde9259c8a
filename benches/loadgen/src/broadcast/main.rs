//! A load for servers that forward each message to every other client: one publisher, many readers, one thread.
//!
//! Every reader must get every message complete and in order; each byte is compared. The server is measured from
//! outside, as by `loadgen`. The result is lines of alternating words and numbers.

#![forbid(unsafe_code)]

#[path = "../connection.rs"]
mod connection;
mod fanout;
#[allow(dead_code, reason = "shared with `loadgen`, which uses all of it")]
#[path = "../frames.rs"]
mod frames;
mod latency;
#[allow(dead_code, reason = "shared with `deflate-load`, which uses all of it")]
#[path = "../process.rs"]
mod process;
mod reader;
mod stalled;
mod window;

use std::{
    net::SocketAddr,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use connection::connect_all;
use fanout::Fanout;
use process::{Memory, cpu_nanoseconds, user_nanoseconds};

/// The result of a part of the work, or the reason why it failed.
type Outcome<T = ()> = Result<T, String>;

#[derive(Parser)]
#[command(about = "A load for WebSocket servers that broadcast")]
struct Arguments {
    /// The address of the server.
    addr: SocketAddr,
    /// The server's process, whose CPU time and memory are measured.
    #[arg(long, value_name = "PID")]
    server_pid: u32,
    /// Clients that read, in addition to the publisher.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    conns: u32,
    /// Payload bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = window::sizes)]
    size: usize,
    /// Messages that are published before all readers have the first of them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// The duration of the measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Measure this many messages instead, and the server's memory meanwhile.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    messages: Option<u64>,
    /// Messages before measuring.
    #[arg(long, value_name = "N", default_value_t = 8)]
    warm_up: u64,
    /// Add a client that never reads. It is drained at the end, and the way it ended is reported.
    #[arg(long)]
    stalled: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    connection::raise_descriptor_limit();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("broadcast-load: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let pid = arguments.server_pid;
    let mut streams = connect_all(arguments.addr, arguments.conns + 1 + u32::from(arguments.stalled))?;
    let publisher = streams.pop().ok_or("there is no publisher")?;
    let stalled = if arguments.stalled { streams.pop() } else { None };
    // The server may learn of a client a moment later than the client does, and would not send to it.
    thread::sleep(SETTLE);
    let mut fanout = Fanout::new(publisher, streams, arguments.size, arguments.in_flight)?;
    fanout.run(|published| published < arguments.warm_up)?;
    fanout.forget();

    let (started, cpu, user) = (Instant::now(), cpu_nanoseconds(pid)?, user_nanoseconds(pid)?);
    let before = Memory::of(pid)?.rss;
    let mut growth = 0;
    match arguments.messages {
        None => {
            let end = started + Duration::from_secs_f64(arguments.seconds);
            fanout.run(|_| Instant::now() < end)?;
        }
        Some(messages) => {
            let mut next_sample = started;
            while fanout.published() < messages {
                // As long as a sample lasts.
                fanout.run(|published| published < messages && Instant::now() < next_sample)?;
                growth = growth.max(Memory::of(pid)?.rss.saturating_sub(before));
                next_sample = Instant::now() + SAMPLE_EVERY;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let (cpu, user) = (cpu_nanoseconds(pid)? - cpu, user_nanoseconds(pid)? - user);
    let deliveries = fanout.deliveries();
    if deliveries == 0 {
        return Err("nothing was measured".to_owned());
    }
    #[allow(clippy::cast_precision_loss, reason = "no count and no time comes near 2^52")]
    let [cpu_us, user_us, rate, busy] = [
        cpu as f64 / 1e3 / deliveries as f64,
        user as f64 / 1e3 / deliveries as f64,
        deliveries as f64 / seconds,
        cpu as f64 / 1e9 / seconds,
    ];
    let latency = fanout.latency();
    let [half, most, all] = [0.5, 0.99, 1.0].map(|part| latency.quantile(part));
    println!(
        "deliveries {deliveries} seconds {seconds:.4} deliveries_per_second {rate:.0} cpu_us {cpu_us:.4} \
         user_us {user_us:.4} server_busy {busy:.3} latency_us_p50 {half} latency_us_p99 {most} \
         latency_us_max {all} memory_growth {growth}"
    );
    if let Some(stalled) = stalled {
        println!("{}", stalled::drain(stalled, arguments.size)?);
    }
    Ok(())
}

/// The server's time to finish what it does after an answer.
const SETTLE: Duration = Duration::from_millis(500);

const SAMPLE_EVERY: Duration = Duration::from_millis(250);
