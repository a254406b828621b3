//! The cursor of the change feed: each slot's place, as text that clients hand back unread.
//!
//! Hexadecimal digits of: a version byte, 5 for the kind (lists have others), the first 8 bytes of the cluster's id; then
//! for ranges of slots, in order, the slot behind the last (2 bytes), stamp (8) and number (4); then the CRC-32 of all
//! before. So a cursor of another cluster, one that was cut off and one that was made up are told apart and refused.

use isthmus_domain::{SlotRange, Stamp};
use isthmus_router::{FEED_RANGES_MAX, FeedPosition};
use isthmus_shard::feed::Place;

use crate::grpc::status::Refusal;

const HEAD: [u8; 2] = [1, 5];
const CLUSTER_BYTES: usize = 8;
const RANGE_BYTES: usize = 14;
const SUM_BYTES: usize = 4;
const BYTES_MAX: usize = HEAD.len() + CLUSTER_BYTES + FEED_RANGES_MAX * RANGE_BYTES + SUM_BYTES;

/// The cursor of a position.
pub(crate) fn encode(cluster: &[u8; 16], position: &FeedPosition) -> String {
    let mut bytes = HEAD.to_vec();
    bytes.extend_from_slice(&cluster[..CLUSTER_BYTES]);
    for (slots, place) in position.ranges() {
        bytes.extend_from_slice(&slots.end_exclusive().to_be_bytes());
        bytes.extend_from_slice(&place.stamp.0.to_be_bytes());
        bytes.extend_from_slice(&place.number.to_be_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The position that a cursor names.
///
/// # Errors
/// INVALID_ARGUMENT `INVALID_CURSOR`.
pub(crate) fn decode(cluster: &[u8; 16], cursor: &str) -> Result<FeedPosition, Refusal> {
    let refused = |what: &str| Refusal::field("INVALID_CURSOR", "cursor", what);
    let bad =
        || refused("it is not a cursor of the change feed: hand back `cursor` of a response as it was given");
    let bytes = bytes(cursor).ok_or_else(bad)?;
    let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or_else(bad)?;
    let rest = body.strip_prefix(&HEAD).ok_or_else(bad)?;
    if crc32fast::hash(body).to_be_bytes() != *sum {
        return Err(bad());
    }
    let (of, ranges) = rest.split_at_checked(CLUSTER_BYTES).ok_or_else(bad)?;
    if of != &cluster[..CLUSTER_BYTES] {
        return Err(refused("it is a cursor of another cluster: take a new one here, by a watch from now"));
    }
    let mut start = 0;
    let range = |bytes: &[u8]| {
        let end = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
        let slots = SlotRange::new(std::mem::replace(&mut start, end), end).ok()?;
        let stamp = Stamp(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?));
        Some((slots, Place { stamp, number: u32::from_be_bytes(bytes.get(10..)?.try_into().ok()?) }))
    };
    let ranges: Option<Vec<_>> = ranges.chunks(RANGE_BYTES).map(range).collect();
    ranges.and_then(FeedPosition::new).ok_or_else(bad)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * BYTES_MAX || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use isthmus_domain::slot::SLOT_COUNT;
    use proptest::prelude::*;

    use super::*;

    const HERE: [u8; 16] = [3; 16];

    fn position(cuts: &[u16], stamp: u64) -> FeedPosition {
        let mut bounds = cuts.to_vec();
        bounds.extend([0, SLOT_COUNT]);
        bounds.sort_unstable();
        bounds.dedup();
        let range = |(n, pair): (u64, &[u16])| {
            (SlotRange::new(pair[0], pair[1]).unwrap(), Place { stamp: Stamp(stamp + n), number: n as u32 })
        };
        FeedPosition::new((0..).zip(bounds.windows(2)).map(range).collect()).unwrap()
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_back_and_any_other_text_refused(
            cuts in prop::collection::vec(1..SLOT_COUNT, 0..9), stamp in 0..u64::MAX / 2, at: usize, digit in 0..16_u32,
            text in "\\PC{0,90}",
        ) {
            let position = position(&cuts, stamp);
            let cursor = encode(&HERE, &position);
            prop_assert_eq!(decode(&HERE, &cursor), Ok(position));
            let mut changed: Vec<char> = cursor.chars().collect();
            let at = at % changed.len();
            changed[at] = char::from_digit(digit, 16).unwrap();
            let changed: String = changed.into_iter().collect();
            prop_assert_eq!(decode(&HERE, &changed).is_ok(), changed == cursor);
            prop_assert!(decode(&HERE, &cursor[..at]).is_err());
            prop_assert!(decode(&HERE, &text).is_err());
        }
    }

    #[test]
    fn a_cursor_of_another_cluster_is_called_so() {
        let cursor = encode(&HERE, &position(&[], 5));
        let refused = decode(&[4; 16], &cursor).unwrap_err();
        assert!(tonic::Status::from(refused).message().contains("another cluster"));
        assert!(
            decode(&HERE, &crate::grpc::cursor::encode(crate::grpc::cursor::Kind::Profiles, &[1; 16]))
                .is_err()
        );
    }
}
