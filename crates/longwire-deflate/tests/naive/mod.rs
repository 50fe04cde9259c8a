//! A DEFLATE reader that works bit by bit (RFC 1951), for comparison: slow, and with a checked window.

/// The decompressed data of one side, and the rules that apply to it.
pub(crate) struct Reader {
    /// All data so far.
    pub(crate) plain: Vec<u8>,
    /// The first byte that may be referred to.
    base: usize,
    /// The largest distance that may be referred to.
    window: usize,
}

/// An error: the message is malformed, or ends within a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Reader {
    pub(crate) fn new(window_bits: u8) -> Self {
        Self { plain: Vec::new(), base: 0, window: 1 << window_bits }
    }

    /// Forbids references to everything so far.
    pub(crate) fn forget(&mut self) {
        self.base = self.plain.len();
    }

    /// Reads a message, or its first parts, and returns the content.
    pub(crate) fn message(&mut self, payload: &[u8], takeover_of_final: bool) -> Result<Vec<u8>, Malformed> {
        let start = self.plain.len();
        let whole = [payload, &[0x00, 0x00, 0xff, 0xff]].concat();
        let mut bits = Bits { bytes: &whole, at: 0, payload_len: payload.len() };
        while bits.at < whole.len() * 8 {
            if bits.at == payload.len() * 8 && payload.ends_with(&[0x00, 0x00, 0xff, 0xff]) {
                break;
            }
            let is_final = bits.take(1)? == 1;
            match bits.take(2)? {
                0 => self.stored(&mut bits)?,
                1 => {
                    let lens: Vec<u8> = (0..288)
                        .map(|i| [8, 9, 7, 8][[144, 256, 280].iter().filter(|&&b| i >= b).count()])
                        .collect();
                    self.compressed(&mut bits, &Code::new(&lens), &Code::new(&[5; 32]))?;
                }
                2 => {
                    let (lens, dists) = dynamic(&mut bits)?;
                    self.compressed(&mut bits, &lens, &dists)?;
                }
                _ => return Err(Malformed),
            }
            if is_final {
                bits.align();
                if bits.at == payload.len() * 8 {
                    break;
                }
                if !takeover_of_final {
                    self.forget();
                }
            }
        }
        Ok(self.plain[start..].to_vec())
    }

    fn stored(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        bits.align();
        let (len, complement) = (bits.take(16)?, bits.take(16)?);
        if len != !complement & 0xffff {
            return Err(Malformed);
        }
        for _ in 0..len {
            let byte = bits.take(8)?;
            bits.check_payload()?;
            self.plain.push(u8::try_from(byte).unwrap());
        }
        Ok(())
    }

    fn compressed(&mut self, bits: &mut Bits<'_>, lens: &Code, dists: &Code) -> Result<(), Malformed> {
        loop {
            let symbol = lens.read(bits)?;
            if symbol < 256 {
                bits.check_payload()?;
            }
            match symbol {
                0..256 => self.plain.push(u8::try_from(symbol).unwrap()),
                256 => return Ok(()),
                257..286 => {
                    let (base, extra) = LENGTHS[symbol - 257];
                    let len = base + bits.take(extra)?;
                    let &(base, extra) = DISTANCES.get(dists.read(bits)?).ok_or(Malformed)?;
                    let distance = base + bits.take(extra)?;
                    bits.check_payload()?;
                    if distance > self.window || distance > self.plain.len() - self.base {
                        return Err(Malformed);
                    }
                    for _ in 0..len {
                        self.plain.push(self.plain[self.plain.len() - distance]);
                    }
                }
                _ => return Err(Malformed),
            }
        }
    }
}

fn dynamic(bits: &mut Bits<'_>) -> Result<(Code, Code), Malformed> {
    let (lens, dists, codes) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    if lens > 286 || dists > 30 {
        return Err(Malformed);
    }
    let mut sizes = [0; 19];
    for &at in &[16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15][..codes] {
        sizes[at] = u8::try_from(bits.take(3)?).unwrap();
    }
    let code = Code::new(&sizes);
    if code.space_left() != 0 {
        return Err(Malformed);
    }
    let mut all: Vec<u8> = Vec::new();
    while all.len() < lens + dists {
        let (size, times) = match code.read(bits)? {
            16 => (*all.last().ok_or(Malformed)?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            size => (u8::try_from(size).unwrap(), 1),
        };
        all.extend(std::iter::repeat_n(size, times));
    }
    if all.len() > lens + dists || all[256] == 0 {
        return Err(Malformed);
    }
    let codes = (Code::new(&all[..lens]), Code::new(&all[lens..]));
    // A code may be incomplete only if it consists of a single symbol of one bit, or is empty.
    let fits = |code: &Code| code.space_left() == 0 || (code.space_left() > 0 && code.longest() <= 1);
    if fits(&codes.0) && fits(&codes.1) { Ok(codes) } else { Err(Malformed) }
}

/// A Huffman code in its canonical order.
struct Code {
    /// The symbols, sorted by size and then by value.
    sorted: Vec<usize>,
    /// The number of symbols of each size.
    counts: [usize; 16],
}

impl Code {
    fn new(sizes: &[u8]) -> Self {
        let mut sorted: Vec<usize> = (0..sizes.len()).filter(|&symbol| sizes[symbol] > 0).collect();
        sorted.sort_by_key(|&symbol| sizes[symbol]);
        let mut counts = [0; 16];
        for &symbol in &sorted {
            counts[usize::from(sizes[symbol])] += 1;
        }
        Self { sorted, counts }
    }

    fn space_left(&self) -> isize {
        (1..16).fold(1, |left, size| left * 2 - isize::try_from(self.counts[size]).unwrap())
    }

    fn longest(&self) -> usize {
        (1..16).rev().find(|&size| self.counts[size] > 0).unwrap_or(0)
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<usize, Malformed> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for size in 1..16 {
            code = code * 2 + bits.take(1)?;
            first *= 2;
            if code < first + self.counts[size] {
                return Ok(self.sorted[index + code - first]);
            }
            index += self.counts[size];
            first += self.counts[size];
        }
        Err(Malformed)
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The number of bytes that the sender has sent. The bytes after them carry no data.
    payload_len: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Result<usize, Malformed> {
        let mut value = 0;
        for i in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or(Malformed)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Ok(value)
    }

    fn check_payload(&self) -> Result<(), Malformed> {
        if self.at <= self.payload_len * 8 { Ok(()) } else { Err(Malformed) }
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }
}

/// The base and extra bits of the lengths (RFC 1951 §3.2.5).
#[rustfmt::skip]
const LENGTHS: [(usize, usize); 29] = [
    (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 1), (13, 1), (15, 1), (17, 1), (19, 2), (23, 2), (27, 2),
    (31, 2), (35, 3), (43, 3), (51, 3), (59, 3), (67, 4), (83, 4), (99, 4), (115, 4), (131, 5), (163, 5), (195, 5), (227, 5), (258, 0),
];

/// The base and extra bits of the distances.
#[rustfmt::skip]
const DISTANCES: [(usize, usize); 30] = [
    (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (7, 1), (9, 2), (13, 2), (17, 3), (25, 3), (33, 4), (49, 4), (65, 5), (97, 5), (129, 6),
    (193, 6), (257, 7), (385, 7), (513, 8), (769, 8), (1025, 9), (1537, 9), (2049, 10), (3073, 10), (4097, 11), (6145, 11), (8193, 12),
    (12289, 12), (16385, 13), (24577, 13),
];
