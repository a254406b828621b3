//! The one place that touches raft-rs's protobuf codec.
//!
//! Messages travel as opaque bytes in our own protos. Decoding shares the buffer that arrived (`Bytes`), so an
//! entry's payload isn't copied on its way from the wire to the log, the cache and the state machine.

use bytes::{BufMut, Bytes, BytesMut};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Message};

/// Encodes a message for the wire.
pub(crate) fn encode(message: &Message) -> Result<Bytes, protobuf::ProtobufError> {
    message.write_to_bytes().map(Bytes::from)
}

/// Decodes a message; its entries' payloads are slices of `bytes`.
pub(crate) fn decode(bytes: &Bytes) -> Result<Message, protobuf::ProtobufError> {
    let mut input = protobuf::CodedInputStream::from_carllerche_bytes(bytes);
    let mut message = Message::default();
    message.merge_from(&mut input)?;
    input.check_eof()?;
    Ok(message)
}

/// The change of members that an entry's payload holds. This crate writes raft-rs's second form alone.
pub(crate) fn conf_change(data: &[u8]) -> Result<ConfChangeV2, protobuf::ProtobufError> {
    let mut change = ConfChangeV2::default();
    change.merge_from_bytes(data)?;
    Ok(change)
}

/// Encodes a change of members as an entry's payload.
pub(crate) fn encode_conf_change(change: &ConfChangeV2) -> Result<Bytes, protobuf::ProtobufError> {
    change.write_to_bytes().map(Bytes::from)
}

/// Encodes a group's members, for state machines that keep them.
pub fn encode_conf(conf: &ConfState) -> Bytes {
    // Writing to memory fails only for messages with required fields, and this one has none.
    conf.write_to_bytes().map(Bytes::from).unwrap_or_default()
}

/// Decodes [`encode_conf`]; no bytes are no members.
///
/// # Errors
/// Bytes that are no members, for people.
pub fn decode_conf(bytes: &Bytes) -> Result<ConfState, String> {
    let mut conf = ConfState::default();
    conf.merge_from_bytes(bytes).map_err(|error| format!("a group's members can't be read: {error}"))?;
    Ok(conf)
}

/// `Snapshot.data`: the snapshot's id (8 bytes, big-endian), then the state machine's manifest.
pub(crate) fn snapshot_data(id: u64, manifest: &[u8]) -> Bytes {
    let mut data = BytesMut::with_capacity(8 + manifest.len());
    data.put_u64(id);
    data.put_slice(manifest);
    data.freeze()
}

/// Takes [`snapshot_data`] apart; `None` if it is too short.
pub(crate) fn split_snapshot_data(data: &Bytes) -> Option<(u64, Bytes)> {
    let id: [u8; 8] = data.get(..8)?.try_into().ok()?;
    Some((u64::from_be_bytes(id), data.slice(8..)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use raft::eraftpb::Entry;

    use super::*;

    #[test]
    fn a_decoded_payload_shares_the_buffer_that_arrived() {
        let mut message = Message::default();
        let entry = Entry { index: 7, data: Bytes::from(vec![9; 1000]), ..Default::default() };
        message.set_entries(vec![entry].into());
        let wire = encode(&message).unwrap();
        let decoded = decode(&wire).unwrap();
        assert_eq!(decoded, message);
        let (at, payload) = (wire.as_ptr() as usize, decoded.entries[0].data.as_ptr() as usize);
        assert!((at..at + wire.len()).contains(&payload));
    }

    #[test]
    fn snapshot_data_comes_apart_as_it_was_put_together() {
        let data = snapshot_data(0x0102_0304_0506_0708, b"manifest");
        assert_eq!(
            split_snapshot_data(&data),
            Some((0x0102_0304_0506_0708, Bytes::from_static(b"manifest")))
        );
        assert_eq!(split_snapshot_data(&Bytes::from_static(b"short")), None);
    }

    proptest! {
        #[test]
        fn decoding_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            if let Ok(message) = decode(&bytes) {
                prop_assert!(encode(&message).is_ok());
            }
        }
    }
}
