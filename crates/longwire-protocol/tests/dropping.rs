//! Broadcasts that may be dropped: queued ones, and ones deferred until a message in parts ends.

use bytes::Bytes;
use longwire_protocol::{Dropped, MessageKind, Outbound, PreparedMessage};

/// Too long to be gathered, so it is queued by reference.
const LONG: usize = 20_000;

/// The length of a broadcast of `LONG` bytes with its header.
const FRAME: usize = LONG + 4;

fn news(byte: u8) -> PreparedMessage {
    PreparedMessage::new(vec![byte; LONG])
}

/// Returns the first byte of the payload of each queued broadcast.
fn queued(outbound: &mut Outbound) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !outbound.queue().is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let filled = outbound.queue().chunks(&mut slices);
        let before = bytes.len();
        bytes.extend(slices[..filled].iter().flat_map(|slice| slice.iter()));
        outbound.written(bytes.len() - before);
    }
    bytes.split(|byte| *byte == 0x7e).skip(1).map(|frame| frame[2]).collect()
}

#[test]
fn a_part_waits_only_for_the_queue_before_it() {
    let mut outbound = Outbound::new(None);
    outbound.begin(MessageKind::Binary).unwrap();
    assert_eq!((outbound.queue_cost(), outbound.cost()), (0, 0));
    outbound.part(Bytes::from_static(b"part")).unwrap();
    let cost = outbound.queue_cost();
    assert_eq!(cost, outbound.cost());
    for byte in 0..3 {
        outbound.prepared(&news(byte)).unwrap();
    }
    assert_eq!(outbound.queue_cost(), cost, "the deferred broadcasts follow the message");
    assert!(outbound.cost() >= cost + 3 * FRAME);
    outbound.last_part(Bytes::new()).unwrap();
    assert_eq!(outbound.queue_cost(), outbound.cost());
}

#[test]
fn the_oldest_broadcast_is_dropped_first_wherever_it_waits() {
    let mut outbound = Outbound::new(None);
    for byte in 0..2 {
        outbound.prepared(&news(byte)).unwrap();
    }
    outbound.begin(MessageKind::Binary).unwrap();
    outbound.part(Bytes::from_static(b"part")).unwrap();
    for byte in 2..5 {
        outbound.prepared(&news(byte)).unwrap();
    }
    let pending = outbound.pending();
    let in_queue = Some(Dropped { len: FRAME, queued: true });
    let deferred = Some(Dropped { len: FRAME, queued: false });
    assert_eq!(outbound.drop_oldest(), in_queue);
    outbound.queue_mut().advance(1);
    assert_eq!(outbound.drop_oldest(), deferred, "the one in the queue has begun to be written");
    assert_eq!(outbound.drop_oldest(), deferred);
    assert_eq!(outbound.pending(), pending - 1 - 3 * FRAME);
    outbound.last_part(Bytes::new()).unwrap();
    assert_eq!(outbound.drop_oldest(), in_queue, "once it is queued");
    assert_eq!(outbound.drop_oldest(), None);
    outbound.prepared(&news(5)).unwrap();
    assert_eq!(queued(&mut outbound), [1, 5]);
    assert_eq!((outbound.drop_oldest(), outbound.pending(), outbound.cost()), (None, 0, 0));
}

#[test]
fn room_is_foreseen_before_anything_is_dropped() {
    let mut outbound = Outbound::new(None);
    assert_eq!(outbound.droppable_cost(), 0);
    assert!(outbound.fits_by_dropping(FRAME, 10), "an empty queue takes any message");
    for byte in 0..2 {
        outbound.prepared(&news(byte)).unwrap();
    }
    assert_eq!(outbound.droppable_cost(), outbound.cost());
    assert!(outbound.fits_by_dropping(FRAME, 10), "nothing is left after dropping");
    outbound.message(vec![0; LONG].into()).unwrap();
    outbound.begin(MessageKind::Binary).unwrap();
    outbound.prepared(&news(2)).unwrap();
    for _ in 0..4 {
        let (cost, droppable) = (outbound.cost(), outbound.droppable_cost());
        let remaining = cost - droppable;
        assert!((FRAME..FRAME + 200).contains(&remaining), "{remaining}");
        assert!(outbound.fits_by_dropping(100, remaining + 100));
        assert!(!outbound.fits_by_dropping(101, remaining + 100));
        if let Some(Dropped { len, .. }) = outbound.drop_oldest() {
            let freed = cost - outbound.cost();
            assert!(freed >= len && outbound.droppable_cost() == droppable - freed);
        }
    }
    assert_eq!(outbound.droppable_cost(), 0);
    // A message that is partly written stays.
    let mut outbound = Outbound::new(None);
    outbound.prepared(&news(0)).unwrap();
    outbound.queue_mut().advance(1);
    assert_eq!(outbound.droppable_cost(), 0);
    assert!(!outbound.fits_by_dropping(100, FRAME));
}
