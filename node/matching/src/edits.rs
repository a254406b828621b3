//! Edits between two texts: how many characters to put in, take out, replace or swap with a neighbour.
//!
//! This is where matching spends its time, so the usual case has a way of its own: folded texts are mostly made of
//! a-z and 0-9 and short, and for those a column of the distance matrix fits a machine word (Hyyrö 2003, "A
//! Bit-Vector Algorithm for Computing Levenshtein and Damerau Edit Distances"). All others go through `strsim`,
//! whose results are the same: the test below holds that up.

/// Optimal string alignment distance.
pub(crate) fn edits(a: &str, b: &str) -> u32 {
    match bit_parallel(a.as_bytes(), b.as_bytes()) {
        Some(edits) => edits,
        None => u32::try_from(strsim::osa_distance(a, b)).unwrap_or(u32::MAX),
    }
}

fn symbol(byte: u8) -> Option<usize> {
    match byte {
        b'a'..=b'z' => Some(usize::from(byte - b'a')),
        b'0'..=b'9' => Some(26 + usize::from(byte - b'0')),
        _ => None,
    }
}

/// `None` when `a` is empty or has more than 64 characters, or either has one that isn't in a-z or 0-9.
fn bit_parallel(a: &[u8], b: &[u8]) -> Option<u32> {
    if !(1..=64).contains(&a.len()) {
        return None;
    }
    // Bit i of a symbol's word: a[i] is that symbol.
    let mut places = [0_u64; 36];
    for (at, &byte) in a.iter().enumerate() {
        places[symbol(byte)?] |= 1 << at;
    }
    let last = 1_u64 << (a.len() - 1);
    // Bits of a column, by row: where the distance is one more, or one less, than in the row above; where it is that
    // of the diagonal.
    let (mut more, mut less, mut diagonal, mut places_before) = (u64::MAX, 0_u64, 0_u64, 0_u64);
    let mut edits = a.len() as u32;
    for &byte in b {
        let here = places[symbol(byte)?];
        let swapped = ((!diagonal & here) << 1) & places_before;
        diagonal = (((here & more).wrapping_add(more)) ^ more) | here | less | swapped;
        // The same between this column and the one before.
        let (right_more, right_less) = (less | !(diagonal | more), diagonal & more);
        edits += u32::from(right_more & last != 0);
        edits -= u32::from(right_less & last != 0);
        let (right_more, right_less) = (right_more << 1 | 1, right_less << 1);
        (more, less) = (right_less | !(diagonal | right_more), right_more & diagonal);
        places_before = here;
    }
    Some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_short_texts_of_letters_and_digits_go_the_fast_way() {
        assert_eq!(bit_parallel(b"abc", b"acb"), Some(1));
        assert_eq!(bit_parallel(&[b'a'; 64], b""), Some(64));
        assert_eq!(bit_parallel(&[b'a'; 65], b"a"), None);
        assert_eq!(bit_parallel("ä".as_bytes(), b"a"), None);
        assert_eq!(bit_parallel(b"", b"a"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn both_ways_count_the_same_edits(a in "[ab1]{0,9}|[a-z0-9]{0,70}", b in "[ab1]{0,9}|[a-z0-9]{0,70}") {
            prop_assert_eq!(edits(&a, &b), strsim::osa_distance(&a, &b) as u32);
        }
    }
}
