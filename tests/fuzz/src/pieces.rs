//! An input in pieces: a byte that chooses, then strings with their lengths in front. A fuzzer keeps that apart well
//! enough, and what is cut short is what is left.

/// Reads an input.
pub struct Pieces<'a>(pub &'a [u8]);

impl<'a> Pieces<'a> {
    /// The next byte; 0 when there is none.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next two bytes, big-endian.
    pub fn short(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    /// The next string: two bytes of length, then as many bytes.
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let length = self.short();
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }
}

/// Strings as [`Pieces`] reads them back.
pub fn pieces<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for string in strings {
        let length = u16::try_from(string.len()).unwrap();
        bytes.extend(length.to_be_bytes());
        bytes.extend(string);
    }
    bytes
}

/// What was read and written again has to read the same: `decode` of anything that `encode` made is there, and is
/// written as the same bytes.
pub fn stable<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let read = decode(bytes)?;
    let written = encode(&read);
    let again = decode(&written).unwrap_or_else(|| panic!("what was written can't be read: {written:02x?}"));
    assert_eq!(encode(&again), written, "read again it is written in another way");
    Some(read)
}

/// [`stable`] of a protobuf message.
pub fn stable_message<M: prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    stable(bytes, |bytes| M::decode(bytes).ok(), M::encode_to_vec)
}
