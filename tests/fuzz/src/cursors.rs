//! Cursors, tokens and tickets: what clients hand back unread.
//!
//! What is read is written as the text that it was, but for the case of its digits; nothing else is taken. Of a cursor of
//! the change feed the sum is put right first, or nearly no input would get further. Of tickets of Flight SQL none is read that
//! was not sealed.

use std::str;

use isthmus_domain::{IdentityKey, Stamp, slot::SLOT_COUNT};
use isthmus_node::fuzzing::{
    CursorKind, flight_ticket, flight_ticket_of, page_cursor, page_cursor_of, watch_cursor, watch_cursor_of,
};
use isthmus_router::FeedPosition;
use isthmus_shard::feed::Place;

const CLUSTER: [u8; 16] = [3; 16];
const KEY: IdentityKey = IdentityKey::new([7; 32]);

/// The target.
pub fn run(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        as_text(text);
    }
    let mut summed = bytes.to_vec();
    summed.extend(crc32fast::hash(bytes).to_be_bytes());
    as_text(&hexadecimal(&summed));
    as_text(&hexadecimal(bytes));
    match flight_ticket(bytes, &KEY) {
        Ok((written, values)) => assert_eq!((written.as_slice(), values), (bytes, 2)),
        Err(reason) => assert_eq!(reason, "INVALID_TICKET"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn as_text(text: &str) {
    match page_cursor(text) {
        Ok(Some((kind, place))) => assert_eq!(page_cursor_of(kind, &place), text.to_ascii_lowercase()),
        Ok(None) => assert!(text.is_empty()),
        Err(reason) => assert_eq!(reason, "INVALID_CURSOR"),
    }
    match watch_cursor(&CLUSTER, text) {
        // Neighbours at one place are one range when they are written again.
        Ok(position) => {
            let written = watch_cursor_of(&CLUSTER, &position);
            assert!(watch_cursor(&CLUSTER, &written).is_ok_and(|again| again == position));
            assert!(position.behind(&position).is_none());
        }
        Err(reason) => assert_eq!(reason, "INVALID_CURSOR"),
    }
    if let Ok(stamp) = text.parse::<Stamp>() {
        assert_eq!(stamp.to_string(), text.to_ascii_lowercase());
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let place = |stamp| Place { stamp: Stamp(stamp), number: 7 };
    let range = |start, end| isthmus_domain::SlotRange::new(start, end).unwrap();
    let whole = FeedPosition::all(place(5));
    let two = FeedPosition::new(vec![(range(0, 100), place(5)), (range(100, SLOT_COUNT), place(9))]).unwrap();
    let mut seeds: Vec<Vec<u8>> = vec![
        page_cursor_of(CursorKind::Profiles, &[1; 16]).into_bytes(),
        page_cursor_of(CursorKind::Timeline, &[2; 40]).into_bytes(),
        b"00000000000000ff".to_vec(),
        flight_ticket_of("SELECT * FROM events WHERE name = $2 LIMIT $1", &KEY).unwrap(),
    ];
    for position in [whole, two] {
        let text = watch_cursor_of(&CLUSTER, &position);
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        seeds.push(bytes[..bytes.len() - 4].to_vec());
        seeds.push(text.into_bytes());
    }
    seeds
}
