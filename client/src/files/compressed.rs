//! Compressed input, told by its first bytes: gzip (RFC 1952, several members too) and Zstandard (RFC 8878).
//!
//! What is damaged or cut off is an error where it ends; the rows before it were handed out by then.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read};

/// Any reader.
pub type Reader = Box<dyn Read + Send>;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As `gzip` does.
    Gzip,
    /// As `zstd` does.
    Zstd,
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const PARQUET: &[u8] = b"PAR1";

impl Compression {
    /// What a file's name says, and the name without that.
    pub fn of_name(name: &str) -> (Option<Self>, &str) {
        let endings = [(".gz", Self::Gzip), (".zst", Self::Zstd), (".zstd", Self::Zstd)];
        for (ending, compression) in endings {
            let at = name.len().saturating_sub(ending.len());
            if at > 0 && name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(ending)) {
                return (Some(compression), &name[..at]);
            }
        }
        (None, name)
    }

    /// What the first bytes of a file say.
    fn of_bytes(first: &[u8]) -> Option<Self> {
        match first {
            _ if first.starts_with(GZIP) => Some(Self::Gzip),
            _ if first.starts_with(ZSTD) => Some(Self::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Whether these are the first bytes of a Parquet file.
pub fn is_parquet(first: &[u8]) -> bool {
    first.starts_with(PARQUET)
}

/// The same input, unpacked if it is compressed; it is `said` to be by its name.
///
/// # Errors
/// When it can't be read, isn't what its name says, or is Parquet, which can't be read front to back.
pub fn unpacked(input: impl Read + Send + 'static, said: Option<Compression>) -> io::Result<Reader> {
    let mut input = BufReader::with_capacity(64 << 10, input);
    let first = first_bytes(&mut input)?;
    if is_parquet(&first) {
        let what = "this is Parquet, which can't be read from a pipe: name the file, or say --format parquet";
        return Err(Error::new(ErrorKind::InvalidData, what));
    }
    let input = io::Cursor::new(first.clone()).chain(input);
    match (Compression::of_bytes(&first), said) {
        (None, Some(said)) => {
            let what = format!("is named as if it were {0}, and isn't {0}: rename it", said.name());
            Err(Error::new(ErrorKind::InvalidData, what))
        }
        (None, None) => Ok(Box::new(input)),
        (Some(found @ Compression::Gzip), _) => {
            Ok(Box::new(Unpacking { input: flate2::bufread::MultiGzDecoder::new(input), how: found }))
        }
        (Some(found @ Compression::Zstd), _) => {
            Ok(Box::new(Unpacking { input: zstd::stream::read::Decoder::with_buffer(input)?, how: found }))
        }
    }
}

/// The first bytes, taken out; fewer when the input is shorter.
fn first_bytes(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    input.take(PARQUET.len() as u64).read_to_end(&mut first)?;
    Ok(first)
}

/// Says in which words a failure belongs to the compression.
struct Unpacking<R> {
    input: R,
    how: Compression,
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.input.read(out).map_err(|error| match error.kind() {
            ErrorKind::Interrupted => error,
            kind => {
                let what = format!(
                    "the {} data is damaged or cut off ({error}): fetch the file again",
                    self.how.name()
                );
                Error::new(kind, what)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(plain).unwrap();
        out.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        // With a checksum, as the program `zstd` writes it.
        let mut out = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        out.include_checksum(true).unwrap();
        out.write_all(plain).unwrap();
        out.finish().unwrap()
    }

    fn read(packed: Vec<u8>, said: Option<Compression>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unpacked(io::Cursor::new(packed), said)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn what_is_cut_off_damaged_or_misnamed_is_told() {
        let plain: Vec<u8> = (0..200_000_u32).flat_map(|n| (n ^ n << 7).to_le_bytes()).collect();
        for packed in [gzip(&plain), zstd(&plain)] {
            let cut = read(packed[..packed.len() - 9].to_vec(), None).unwrap_err().to_string();
            assert!(cut.contains("cut off"), "{cut}");
            let mut damaged = packed.clone();
            for byte in &mut damaged[packed.len() / 2..packed.len() / 2 + 64] {
                *byte ^= 0xff;
            }
            assert!(read(damaged, None).is_err());
        }
        let misnamed = read(b"{}\n".to_vec(), Some(Compression::Gzip)).unwrap_err().to_string();
        assert!(misnamed.contains("isn't gzip"), "{misnamed}");
        assert!(read(b"PAR1....".to_vec(), None).unwrap_err().to_string().contains("Parquet"));
    }

    #[test]
    fn names_say_how_a_file_is_compressed() {
        assert_eq!(Compression::of_name("a.jsonl.GZ"), (Some(Compression::Gzip), "a.jsonl"));
        assert_eq!(Compression::of_name("a.csv.zst"), (Some(Compression::Zstd), "a.csv"));
        assert_eq!(Compression::of_name("a.csv"), (None, "a.csv"));
        assert_eq!(Compression::of_name(".gz"), (None, ".gz"));
        assert_eq!(Compression::of_name("é.gz"), (Some(Compression::Gzip), "é"));
    }

    proptest! {
        #[test]
        fn compressed_input_reads_as_the_plain_one(plain in prop::collection::vec(any::<u8>(), 0..2_000), cut in 0_usize..2_000) {
            prop_assume!(Compression::of_bytes(&plain).is_none() && !is_parquet(&plain));
            prop_assert_eq!(&read(plain.clone(), None).unwrap(), &plain);
            for pack in [gzip, zstd] {
                let (one, other) = plain.split_at(cut.min(plain.len()));
                prop_assert_eq!(&read(pack(&plain), None).unwrap(), &plain);
                // Several members one behind the other are one file.
                prop_assert_eq!(&read([pack(one), pack(other)].concat(), None).unwrap(), &plain);
            }
        }
    }
}
