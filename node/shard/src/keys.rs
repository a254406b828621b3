//! Keys of a shard's control rows, as ordered bytes: `table (1) | slot (2) | id …`. Stored; never changed.
//!
//! The store's number is put in front by the storage. The tables of identity resolution are
//! [`isthmus_identity::keys`]. Tables without slots (streams between shards) stay with a shard
//! that is split; those with slots go with their slot.

use isthmus_domain::{FacetId, Slot};

/// Tables of control rows.
pub mod table {
    pub use isthmus_identity::keys::table::{
        HALF_ROW, HISTORY, HOME, LINK_ROW, RECORD, RETRACTION, ROOT, SEARCH,
    };

    /// Further parts of a large row: `slot | table | the rest of its key | part (2)`; of one without a slot, `0, 0`.
    pub const PART: u8 = 0x3f;
    /// Quarantined items: `slot | id`.
    pub const QUARANTINE: u8 = 0x20;
    /// What a quarantined item said, in parts: `slot | id | part (2)`.
    pub const QUARANTINE_PART: u8 = 0x21;
    /// Pairs of profiles that may be one person: `slot of a | a (16) | b (16)`.
    pub const PAIR: u8 = 0x22;
    /// Parts of models that such pairs are found by: `slot | model (8) | part (4)`.
    pub const MODEL_PART: u8 = 0x23;
    /// Groups: `slot | group (16)`.
    pub const GROUP: u8 = 0x24;
    /// The members of groups: `slot | group (16) | member (16)`.
    pub const GROUP_MEMBER: u8 = 0x25;
    /// The groups of identifiers: `slot | member (16) | group (16)`.
    pub const MEMBER_OF: u8 = 0x26;
    /// Messages not yet known to be received: `receiver (8) | sequence (8)`.
    pub const OUTBOX: u8 = 0x80;
    /// The last sequence number given out in a stream: `receiver (8)`.
    pub const OUTBOX_LAST: u8 = 0x81;
    /// The last sequence number received in a stream: `sender (8)`.
    pub const INBOX: u8 = 0x82;
}

fn slotted(table: u8, slot: Slot, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(table);
    key.extend_from_slice(&slot.number().to_be_bytes());
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// A quarantined item: its id's top 14 bits are its slot.
pub fn quarantine(id: &[u8; 16]) -> Vec<u8> {
    slotted(table::QUARANTINE, Slot::of_hash(id), &[id])
}

/// A part of what a quarantined item said.
pub fn quarantine_part(id: &[u8; 16], part: u16) -> Vec<u8> {
    slotted(table::QUARANTINE_PART, Slot::of_hash(id), &[id, &part.to_be_bytes()])
}

/// The id of a quarantined item from its key.
pub fn quarantine_id(key: &[u8]) -> Option<[u8; 16]> {
    key.get(3..)?.try_into().ok()
}

/// A pair of profiles that may be one person.
pub fn pair(a: &FacetId, b: &FacetId) -> Vec<u8> {
    slotted(table::PAIR, a.slot(), &[a.as_bytes(), b.as_bytes()])
}

/// A part of a model.
pub fn model_part(slot: Slot, model: u64, part: u32) -> Vec<u8> {
    slotted(table::MODEL_PART, slot, &[&model.to_be_bytes(), &part.to_be_bytes()])
}

/// A group.
pub fn group(group: &FacetId) -> Vec<u8> {
    slotted(table::GROUP, group.slot(), &[group.as_bytes()])
}

/// A member of a group; without one, the beginning of all.
pub fn group_member(group: &FacetId, member: Option<&FacetId>) -> Vec<u8> {
    slotted(table::GROUP_MEMBER, group.slot(), &[group.as_bytes(), of(member)])
}

/// A group of an identifier; without one, the beginning of all.
pub fn member_of(member: &FacetId, group: Option<&FacetId>) -> Vec<u8> {
    slotted(table::MEMBER_OF, member.slot(), &[member.as_bytes(), of(group)])
}

fn of(facet: Option<&FacetId>) -> &[u8] {
    facet.map_or(&[], |facet| facet.as_bytes())
}

/// A message in the outbox.
pub fn outbox(receiver: u64, sequence: u64) -> Vec<u8> {
    let mut key = numbered(table::OUTBOX, receiver);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Receiver and sequence number from an outbox key.
pub fn outbox_parts(key: &[u8]) -> Option<(u64, u64)> {
    let receiver = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    Some((receiver, u64::from_be_bytes(key.get(9..)?.try_into().ok()?)))
}

/// A further part of a large row. Parts of rows with a slot go with it.
pub fn part(key: &[u8], part: u16) -> Vec<u8> {
    let slotted = key.first().is_some_and(|table| *table < table::OUTBOX);
    let (slot, rest) = if slotted { (&key[1..3], &key[3..]) } else { (&[0, 0][..], &key[1..]) };
    let mut out = vec![table::PART];
    out.extend_from_slice(slot);
    out.extend_from_slice(&key[..1]);
    out.extend_from_slice(rest);
    out.extend_from_slice(&part.to_be_bytes());
    out
}

/// The last number given out to a receiver.
pub fn outbox_last(receiver: u64) -> Vec<u8> {
    numbered(table::OUTBOX_LAST, receiver)
}

/// The last number received from a sender.
pub fn inbox(sender: u64) -> Vec<u8> {
    numbered(table::INBOX, sender)
}

/// The shard that an inbox or outbox-last key names.
pub fn numbered_part(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

fn numbered(table: u8, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(table);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// A hash with its top 14 bits replaced by a slot's, so that rows of a slot lie together and the rest stays uniform.
pub fn in_slot(mut hash: [u8; 16], slot: Slot) -> [u8; 16] {
    let bits = slot.number() << 2;
    hash[0] = (bits >> 8) as u8;
    hash[1] = (bits & 0xfc) as u8 | (hash[1] & 0x03);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_put_into_a_slot_is_of_that_slot_and_keeps_its_other_bits() {
        for number in [0, 1, 8191, 16_383] {
            let slot = Slot::new(number).unwrap();
            let moved = in_slot([0xab; 16], slot);
            assert_eq!(Slot::of_hash(&moved), slot);
            assert_eq!(moved[2..], [0xab; 14]);
            assert_eq!(moved[1] & 3, 0xab & 3);
        }
    }

    #[test]
    fn keys_give_back_what_they_were_made_of() {
        assert_eq!(outbox_parts(&outbox(7, 9)), Some((7, 9)));
        assert_eq!(numbered_part(&inbox(u64::MAX)), Some(u64::MAX));
        assert_eq!(quarantine_id(&quarantine(&[3; 16])), Some([3; 16]));
    }
}
