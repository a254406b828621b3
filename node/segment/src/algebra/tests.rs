//! The algebra of sets against a model of each customer by itself.

use proptest::prelude::*;

use super::*;

const KNOWN: [&str; 4] = ["a", "b", "c", "not"];
/// The profiles are 0 to 11.
const PROFILES: u32 = 12;

/// Each segment's members, and those of whom it is unknown.
type Shard = [(RoaringBitmap, RoaringBitmap); 4];

fn all() -> RoaringBitmap {
    RoaringBitmap::from_iter(0..PROFILES)
}

/// Who is in a set, and of how many that is unknown. Members and counts have to agree.
fn both(algebra: &Algebra, shard: &Shard) -> (Vec<u32>, u64) {
    let of = |name: &str| {
        let (members, unknown) = &shard[KNOWN.iter().position(|known| *known == name)?];
        Some(Sets { members, unknown })
    };
    let all = all();
    let set = algebra.members(&of, &all);
    let (count, unknown) = algebra.count(&of, &all);
    assert_eq!(count, set.len(), "{algebra:?}");
    (set.iter().collect(), unknown)
}

fn asked(text: &str, shard: &Shard) -> (Vec<u32>, u64) {
    both(&Algebra::parse(text, KNOWN).unwrap(), shard)
}

fn members(text: &str) -> Vec<u32> {
    let sets = [[1, 2, 3, 4], [3, 4, 5, 6], [4, 6, 7, 8], [1, 8, 9, 10]].map(RoaringBitmap::from_iter);
    let (members, unknown) = asked(text, &sets.map(|members| (members, RoaringBitmap::new())));
    assert_eq!(unknown, 0, "{text}");
    members
}

#[test]
fn sets_are_joined_crossed_and_taken_away() {
    assert_eq!(members("a"), [1, 2, 3, 4]);
    assert_eq!(members("count(a and b not c)"), [3]);
    assert_eq!(members("a AND NOT b"), [1, 2]);
    assert_eq!(members("a or b and c"), [1, 2, 3, 4, 6]);
    assert_eq!(members("(a or b) and c"), [4, 6]);
    assert_eq!(members("not a"), [0, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(members("not (a or b) not \"not\""), [0, 7, 11]);
    assert_eq!(members("c and \"not\""), [8]);
}

#[test]
fn of_whom_it_is_unknown_is_neither_in_a_segment_nor_in_its_opposite() {
    let set = |numbers: &[u32]| numbers.iter().copied().collect::<RoaringBitmap>();
    let nobody = || (set(&[]), set(&[]));
    // Of 2 and 3 it is unknown whether they are in a; b has 3 and 4.
    let shard = [(set(&[1]), set(&[2, 3])), (set(&[3, 4]), set(&[])), nobody(), nobody()];
    let asked = |text: &str| asked(text, &shard);
    assert_eq!(asked("a"), (vec![1], 2));
    assert_eq!(asked("not a"), (vec![0, 4, 5, 6, 7, 8, 9, 10, 11], 2));
    assert_eq!(asked("not (not a)"), asked("a"));
    // Whoever is in b is in one of the two, and whoever isn't is not in both, whatever a says.
    assert_eq!(asked("a or b"), (vec![1, 3, 4], 1));
    assert_eq!(asked("a and b"), (vec![], 1));
    assert_eq!(asked("b not a"), (vec![4], 1));
    assert_eq!(asked("a not b"), (vec![1], 1));
    // No law says that the two halves are all: of 2 and 3 neither is known.
    assert_eq!(asked("a or not a").1, 2);
    assert_eq!(asked("c"), (vec![], 0));
}

#[test]
fn faults_point_at_their_place() {
    let fault = |text: &str| Algebra::parse(text, KNOWN).unwrap_err().to_string();
    assert_eq!(fault("a and"), "line 1, column 6: a segment is needed here");
    assert_eq!(fault("a b"), "line 1, column 3: write and, or or not between two segments");
    assert_eq!(fault("a\n and bb"), "line 2, column 6: there is no segment bb; did you mean b?");
    assert_eq!(fault("(a"), "line 1, column 3: the parenthesis of line 1, column 1 is not closed");
    assert_eq!(fault("a)"), "line 1, column 2: this closes nothing: take it out");
    assert!(fault("a + b").contains("column 3") && fault("\"a").contains("column 1"));
    assert!(fault(&"(".repeat(100)).contains("too deeply"));
    assert!(fault("").contains("needed here") && fault("a or or b").contains("column 6"));
}

/// What an expression says of one profile: whether it is in, `None` where that is unknown. `of` says so of segments.
fn said(set: &Set, of: &impl Fn(&str) -> Option<bool>) -> Option<bool> {
    let both = |a: Option<bool>, b: Option<bool>| match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    };
    let not = |a: Option<bool>| a.map(|a| !a);
    match set {
        Set::Named(name) => of(name),
        Set::Chain(first, others) => others.iter().fold(said(first, of), |sum, (other, with)| {
            let other = said(other, of);
            both(sum, if *with { other } else { not(other) })
        }),
        Set::AnyOf(sets) => {
            let all: Vec<Option<bool>> = sets.iter().map(|set| said(set, of)).collect();
            let is_unknown = all.contains(&None) && !all.contains(&Some(true));
            (!is_unknown).then(|| all.contains(&Some(true)))
        }
        Set::AllBut(set) => not(said(set, of)),
    }
}

fn drawn_set() -> impl Strategy<Value = Set> {
    let name = (0..KNOWN.len()).prop_map(|at| Set::Named(KNOWN[at].to_owned()));
    name.prop_recursive(4, 24, 3, |inner| {
        let others = prop::collection::vec((inner.clone(), any::<bool>()), 1..3);
        prop_oneof![
            (inner.clone(), others).prop_map(|(first, others)| Set::Chain(Box::new(first), others)),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Set::AnyOf),
            inner.prop_map(|set| Set::AllBut(Box::new(set))),
        ]
    })
}

proptest! {
    #[test]
    fn bitmaps_say_of_each_profile_what_kleenes_logic_says(
        set in drawn_set(),
        // By segment and profile: in, out or unknown.
        truth in prop::collection::vec(prop::collection::vec(any::<Option<bool>>(), PROFILES as usize), KNOWN.len()),
    ) {
        let with = |segment: usize, wanted: Option<bool>| {
            (0..PROFILES).filter(|number| truth[segment][*number as usize] == wanted).collect::<RoaringBitmap>()
        };
        let shard: Shard = std::array::from_fn(|at| (with(at, Some(true)), with(at, None)));
        let says = |number: &u32| {
            said(&set, &|name: &str| truth[KNOWN.iter().position(|known| *known == name)?][*number as usize])
        };
        let wanted: Vec<u32> = (0..PROFILES).filter(|number| says(number) == Some(true)).collect();
        let unknown = (0..PROFILES).filter(|number| says(number).is_none()).count() as u64;
        prop_assert_eq!(both(&Algebra(set.clone()), &shard), (wanted, unknown));
    }
}
