//! The cost of queueing one message of 1 KiB for a thousand clients, prepared once or made anew for each.
//!
//! `cargo bench -p longwire-protocol --all-features`

use std::fmt::Write;

use divan::{Bencher, counter::ItemsCount};
use longwire_deflate::{DeflateOptions, Level, Pool, accept};
use longwire_protocol::{Compression, Message, Outbound, PreparedMessage};

fn main() {
    divan::main();
}

const CLIENTS: usize = 1000;

/// The compression of the clients' messages.
const HOW: [(&str, u8, bool); 5] = [
    ("uncompressed", 1, false),
    ("no takeover, level 1", 1, false),
    ("no takeover, level 6", 6, false),
    ("takeover, level 1", 1, true),
    ("takeover, level 6", 6, true),
];

fn clients((name, level, takeover): (&str, u8, bool)) -> Vec<Outbound> {
    let mut options = DeflateOptions::default();
    options.level = Level::new(level).unwrap_or_default();
    options.server_no_context_takeover = !takeover;
    let agreement = accept([[("client_max_window_bits", None)]], &options).expect("an offer of anything");
    let compression = Compression::new(agreement, &options, &Pool::default());
    let client = |_| {
        let mut client = Outbound::new(None);
        if name != "uncompressed" {
            client.set_compression(&compression);
        }
        client
    };
    (0..CLIENTS).map(client).collect()
}

/// Messages that differ in their numbers, more than fit into a window.
fn messages() -> Vec<Message> {
    let mut x = 1_u32;
    let mut message = || {
        let mut text = String::new();
        while text.len() < 1024 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (id, price, size) = (x >> 8, x % 9973, x % 499);
            write!(text, r#"{{"id":{id},"symbol":"ACME","price":{price},"quantity":{size}}},"#)
                .expect("a string takes everything");
        }
        text.truncate(1024);
        text.into()
    };
    (0..64).map(|_| message()).collect()
}

/// Queues for each client, which writes immediately.
fn fan_out(bencher: Bencher<'_, '_>, how: (&str, u8, bool), send: impl Fn(&mut [Outbound], &Message) + Sync) {
    let messages = messages();
    let mut messages = messages.iter().cycle();
    let mut clients = clients(how);
    bencher.counter(ItemsCount::new(CLIENTS)).bench_local(|| {
        send(&mut clients, messages.next().expect("a cycle has no end"));
        for client in &mut clients {
            client.written(client.queue().len());
        }
    });
}

#[divan::bench(args = HOW)]
fn prepared(bencher: Bencher<'_, '_>, how: (&str, u8, bool)) {
    fan_out(bencher, how, |clients, message| {
        let prepared = PreparedMessage::new(message.clone());
        for client in clients {
            client.prepared(&prepared).expect("an open connection");
        }
    });
}

#[divan::bench(args = HOW)]
fn for_each(bencher: Bencher<'_, '_>, how: (&str, u8, bool)) {
    fan_out(bencher, how, |clients, message| {
        for client in clients {
            client.message(message.clone()).expect("an open connection");
        }
    });
}
