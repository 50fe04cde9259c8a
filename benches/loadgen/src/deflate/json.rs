//! JSON like that of real services: names that repeat from message to message, values that do not.

use std::fmt::Write;

use longwire::Message;

/// Returns different messages of exactly `size` bytes each.
pub(crate) fn messages(size: usize) -> Vec<Message> {
    let mut random = Random(0x1e35_a7bd);
    let variants = u32::try_from(TOTAL / size).unwrap_or(u32::MAX).max(64);
    (0..variants).map(|number| Message::text(message(number, size, &mut random))).collect()
}

fn message(number: u32, size: usize, random: &mut Random) -> String {
    let mut text = format!(r#"{{"type":"update","sequence":{},"events":["#, 48_120_000 + number);
    while text.len() + LONGEST_EVENT < size {
        event(&mut text, random);
    }
    // The rest is a note in words.
    text.push_str(r#"],"note":""#);
    while text.len() + 2 < size {
        text.push_str(WORDS[random.below(WORDS.len())]);
        text.push(' ');
    }
    text.truncate(size.saturating_sub(2));
    text.push_str("\"}");
    text
}

fn event(text: &mut String, random: &mut Random) {
    let symbol = ["ACME", "GLOBEX", "INITECH", "UMBRELLA", "HOOLI"][random.below(5)];
    let side = ["buy", "sell"][random.below(2)];
    let separator = if text.ends_with('[') { "" } else { "," };
    write!(
        text,
        r#"{separator}{{"id":"{:08x}-{:04x}","symbol":"{symbol}","side":"{side}","price":{}.{:02},"quantity":{},"user":{{"name":"{} {}","active":{}}}}}"#,
        random.next(),
        random.below(65_536),
        random.below(900) + 100,
        random.below(100),
        random.below(5000),
        WORDS[random.below(WORDS.len())],
        WORDS[random.below(WORDS.len())],
        random.below(2) == 0,
    )
    .expect("a string takes everything");
}

/// A generator with the same output on every machine (xorshift).
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }
}

const WORDS: [&str; 24] = [
    "amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "juniper", "kelp",
    "lagoon", "maple", "nectar", "onyx", "pepper", "quartz", "river", "saffron", "tundra", "umber", "violet",
    "willow", "zephyr",
];

/// The total length of the messages: no window of 32 KiB holds the same message when its turn comes again.
const TOTAL: usize = 1 << 19;

const LONGEST_EVENT: usize = 180;
