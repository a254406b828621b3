//! Definitions of the most common forms, side by side in memory.
//!
//! A tree lies scattered over memory, which costs more than what it says: with a hundred definitions that an event touches,
//! nearly all of the time went into fetching nodes. So comparisons of counts, of sums of a window, and of when somebody was
//! seen are kept as [`Leaf`]s in a row, and so are sequences of which mostly nothing has happened yet; a definition that is
//! one of these, or several of them AND each other, is answered without its tree. What a leaf says is what the tree says,
//! since both ask the same functions. A leaf that is in doubt says nothing, and the tree is asked.

use isthmus_domain::Amount;

use super::{Held, Membership, Timed, facts::Facts, turns};
use crate::{
    scalar::Scalar,
    tree::{Aggregate, Comparison, Fact, Function, Kind, Node, Operator, Read},
};

/// The most leaves of a definition that are worth it.
const LEAVES_MAX: usize = 4;

/// What is true or false may also be unknown, as SQL has it, or not to be said as a bound was passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Truth {
    No,
    Yes,
    Unknown,
    Overflow,
}

/// A truth and until when it holds: so little that it is handed on in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(super) truth: Truth,
    pub(super) until: i64,
}

impl Answer {
    pub(super) fn of(truth: bool, until: i64) -> Self {
        Self { truth: if truth { Truth::Yes } else { Truth::No }, until }
    }

    pub(super) fn overflow(until: i64) -> Self {
        Self { truth: Truth::Overflow, until }
    }

    /// What a tree came to that is true or false.
    pub(super) fn of_timed(of: &Timed<'_>) -> Self {
        let truth = match of.held {
            Held::Is(Scalar::Boolean(true)) => Truth::Yes,
            Held::Is(_) => Truth::No,
            Held::Overflow => Truth::Overflow,
            _ => Truth::Unknown,
        };
        Self { truth, until: of.until }
    }

    pub(super) fn timed(self) -> Timed<'static> {
        let held = match self.truth {
            Truth::No => Held::Is(Scalar::Boolean(false)),
            Truth::Yes => Held::Is(Scalar::Boolean(true)),
            Truth::Unknown => Held::Null,
            Truth::Overflow => Held::Overflow,
        };
        Timed::until(held, self.until)
    }

    fn negate_if(self, negated: bool) -> Self {
        let truth = match self.truth {
            Truth::No if negated => Truth::Yes,
            Truth::Yes if negated => Truth::No,
            truth => truth,
        };
        Self { truth, ..self }
    }

    /// AND, of a first that is not false: one that is false is enough, and holds for as long as it does.
    fn and(self, other: Self) -> Self {
        let until = self.until.min(other.until);
        let truth = match (self.truth, other.truth) {
            (_, Truth::No) => return other,
            (Truth::Overflow, _) | (_, Truth::Overflow) => Truth::Overflow,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            _ => Truth::Yes,
        };
        Self { truth, until }
    }
}

impl Truth {
    pub(super) fn membership(self) -> Membership {
        match self {
            Self::Yes => Membership::In,
            Self::Overflow => Membership::Overflow,
            Self::No | Self::Unknown => Membership::Out,
        }
    }
}

/// A part of a definition that is true or false.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    kind: LeafKind,
    negated: bool,
}

#[derive(Clone, Debug)]
enum LeafKind {
    /// A count of events; `window`: `None` is of all.
    Count { term: usize, window: Option<i64>, bound: u32, op: Comparison, than: Number },
    /// A sum of a window.
    Sum { term: usize, window: i64, bound: u32, op: Comparison, than: Amount },
    /// When the newest or the oldest event was, against some time before now.
    Seen { term: usize, is_last: bool, op: Comparison, span: i64 },
    /// A sequence that is false as long as one of these has not happened.
    Sequence { terms: [usize; 2], window: Option<i64>, bound: u32 },
}

/// A number as the largest whole one that is not larger, and whether something is left.
pub(super) type Number = (i64, bool);

impl Leaf {
    /// The leaves of a definition; `None`: it is answered by its tree. Of a tree with its terms.
    pub(crate) fn of_tree(tree: &Node) -> Option<Vec<Self>> {
        let nodes = match &tree.kind {
            Kind::All(nodes) if nodes.len() <= LEAVES_MAX => nodes,
            _ => std::slice::from_ref(tree),
        };
        nodes.iter().map(Self::of_node).collect()
    }

    fn of_node(node: &Node) -> Option<Self> {
        match &node.kind {
            Kind::Not(of) => {
                let of = Self::of_node(of)?;
                Some(Self { negated: !of.negated, ..of })
            }
            Kind::Read(read) => Some(Self { kind: LeafKind::of_sequence(read)?, negated: false }),
            Kind::Compare { op, left, right } => {
                let Kind::Read(read) = &left.kind else { return None };
                Some(Self { kind: LeafKind::of_comparison(read, *op, right)?, negated: false })
            }
            _ => None,
        }
    }

    fn answer(&self, facts: &Facts<'_>) -> Option<Answer> {
        Some(self.kind.answer(facts)?.negate_if(self.negated))
    }
}

impl LeafKind {
    fn of_sequence(read: &Read) -> Option<Self> {
        let Fact::Sequence(sequence) = &read.fact else { return None };
        match (&read.terms[..], sequence.without_last) {
            ([first, second], false) => {
                let (window, bound) = (sequence.window, sequence.bound);
                Some(Self::Sequence { terms: [*first, *second], window, bound })
            }
            _ => None,
        }
    }

    fn of_comparison(read: &Read, op: Comparison, right: &Node) -> Option<Self> {
        let term = read.terms.first().copied()?;
        match (&read.fact, &right.kind) {
            (Fact::Aggregate(aggregate), Kind::Literal(Scalar::Number(number))) => {
                let Aggregate { function, window, bound, .. } = *aggregate;
                match (function, window) {
                    (Function::Count, _) => {
                        Some(Self::Count { term, window, bound, op, than: number.floor()? })
                    }
                    (Function::Sum, Some(window)) => {
                        Some(Self::Sum { term, window, bound, op, than: number.clone() })
                    }
                    _ => None,
                }
            }
            (Fact::LastSeen | Fact::FirstSeen, Kind::Arithmetic { op: Operator::Subtract, left, right }) => {
                match (&left.kind, &right.kind) {
                    (Kind::Now, Kind::Literal(Scalar::Interval(span))) => {
                        Some(Self::Seen { term, is_last: read.fact == Fact::LastSeen, op, span: *span })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn answer(&self, facts: &Facts<'_>) -> Option<Answer> {
        match self {
            Self::Count { term, window: None, op, than, .. } => facts.compare_all(*term, *op, *than),
            Self::Count { term, window: Some(window), bound, op, than } => {
                Some(facts.compare_window(*term, (*window, *bound), *op, *than))
            }
            Self::Sum { term, window, bound, op, than } => {
                Some(facts.compare_sum(*term, (*window, *bound), |sum| op.holds(sum.cmp(than))))
            }
            Self::Seen { term, is_last, op, span } => {
                let since = facts.now.checked_sub(*span)?;
                let Some((first, last)) = facts.seen(*term) else {
                    return Some(Answer { truth: Truth::Unknown, until: i64::MAX });
                };
                let seen = if *is_last { last } else { first };
                let truth = op.holds(Ord::cmp(&seen, &since));
                // What it is compared with grows as time does.
                let until = turns(*op, i128::from(seen) - i128::from(since), -1, facts.now);
                Some(Answer::of(truth, until))
            }
            Self::Sequence { terms, window, bound } => facts.has_not_begun(terms, terms, *window, *bound),
        }
    }
}

/// What the leaves of a definition come to; `None`: they don't know.
pub(super) fn answer(leaves: &[Leaf], facts: &Facts<'_>) -> Option<Answer> {
    let (first, others) = leaves.split_first()?;
    let mut open = first.answer(facts)?;
    for leaf in others {
        if open.truth == Truth::No {
            break;
        }
        open = open.and(leaf.answer(facts)?);
    }
    Some(open)
}
