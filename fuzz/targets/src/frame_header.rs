//! Frame headers and masks.

use longwire_frame::{FirstByte, FrameHeader, MaskingKey, Role, mask};

use crate::header_model;
use crate::input::{Input, pieces};

/// Reads a header, for both roles, and masks the bytes in pieces.
///
/// - A verdict is reached at the same byte as in the model, and more bytes do not change it.
/// - A header is written as it was read, and reads as the model reads it.
/// - Masking is the same for every split, in place or copied, and undoes itself.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let (way, key) =
        (input.byte(), MaskingKey::new([input.byte(), input.byte(), input.byte(), input.byte()]));
    let bytes = input.rest();
    for role in [Role::Client, Role::Server] {
        check_header(bytes, role);
    }
    check_mask(bytes, key, way);
}

fn check_header(bytes: &[u8], role: Role) {
    let mut verdict = None;
    for end in 0..=bytes.len().min(FrameHeader::MAX_LEN + 2) {
        let seen = &bytes[..end];
        let parsed = FrameHeader::parse(seen, role);
        let broken = header_model::breaks_a_rule(seen, role);
        assert_eq!(parsed.is_err(), broken, "{role} reads {seen:02x?}: {parsed:?}");
        let complete = if broken { None } else { header_model::read(seen) };
        assert_eq!(matches!(parsed, Ok(Some(_))), complete.is_some(), "{role} reads {seen:02x?}: {parsed:?}");
        if let (Ok(Some((header, len))), Some(model)) = (parsed, complete) {
            check_read(&seen[..len], header, model);
        }
        if let Some(verdict) = verdict {
            assert_eq!(parsed, verdict, "{role}: another byte has changed the verdict on {seen:02x?}");
        } else if parsed != Ok(None) {
            verdict = Some(parsed);
        }
    }
}

fn check_read(bytes: &[u8], header: FrameHeader, model: header_model::Header) {
    assert_eq!(bytes.len(), model.own_len, "{bytes:02x?}");
    assert_eq!(header.len(), model.len, "{bytes:02x?}");
    assert_eq!(header.mask().map(MaskingKey::bytes), model.key, "{bytes:02x?}");
    assert_eq!(header.opcode().bits(), model.first & 0x0f, "{bytes:02x?}");
    let flags = (header.fin(), header.rsv1());
    assert_eq!(flags, (model.first & 0x80 != 0, model.first & 0x40 != 0), "{bytes:02x?}");
    assert_eq!(*header.encode(), *bytes, "is not written as it was read");

    let (opcode, fin, rsv1) = (header.opcode(), header.fin(), header.rsv1());
    let built = if opcode.is_control() {
        FrameHeader::control(opcode, header.len(), header.mask())
    } else {
        FrameHeader::data(FirstByte { opcode, fin, rsv1 }, header.len(), header.mask())
    };
    assert_eq!(built, Ok(header), "what may be received may be sent");
}

fn check_mask(bytes: &[u8], key: MaskingKey, way: u8) {
    let offset = usize::from(way & 3);
    let expected: Vec<u8> =
        bytes.iter().enumerate().map(|(at, byte)| byte ^ key.bytes()[(offset + at) % 4]).collect();
    let (mut in_place, mut copied, mut done) = (Vec::new(), Vec::new(), offset);
    for piece in pieces(bytes, way) {
        let start = in_place.len();
        in_place.extend_from_slice(piece);
        mask::apply(&mut in_place[start..], key, done);
        mask::extend(&mut copied, piece, key, done);
        done += piece.len();
    }
    assert_eq!(in_place, expected, "in place");
    assert_eq!(copied, expected, "copied");
    mask::apply(&mut in_place, key, offset);
    assert_eq!(in_place, bytes, "twice");
}
