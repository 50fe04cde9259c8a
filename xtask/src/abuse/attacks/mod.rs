//! The attacks, in the order in which they run.
//!
//! Owns the list. Each attack is a function in the module of its target: frames, compression, the handshake, or the
//! connection beneath.

mod compression;
mod connection;
mod frames;
mod handshake;

use super::Attack;

/// Returns all attacks.
pub(super) fn all() -> Vec<Attack> {
    let mut attacks = Vec::new();
    attacks.extend(frames::attacks());
    attacks.extend(compression::attacks());
    attacks.extend(handshake::attacks());
    attacks.extend(connection::attacks());
    attacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_attacks_apart_and_no_attack_may_end_in_any_way() {
        let attacks = all();
        for (i, attack) in attacks.iter().enumerate() {
            assert!(attacks[..i].iter().all(|other| other.name != attack.name), "{}", attack.name);
            assert!(!attack.ends.is_empty() && attack.ends.len() < 6, "{}", attack.name);
        }
    }

    #[test]
    fn memory_is_bounded_by_64_mib_but_for_two_named_reasons() {
        for attack in all() {
            let most = match attack.name {
                "fifty bombs" | "fifty fragmented" => 128 << 20,
                "never reads, messages of 1 MiB" => connection::NEVER_READS_GROWTH,
                _ => 64 << 20,
            };
            assert_eq!(attack.growth, most, "{}", attack.name);
        }
    }
}
