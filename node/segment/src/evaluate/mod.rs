//! From what is known of a profile and the time to the answers of definitions, and to how long they hold.
//!
//! An answer comes with `until`: at any time from now up to it, but not at it, the answer is the same, as long as no
//! event is added. So a profile has to be looked at again at the smallest `until` of its definitions, and at no other
//! time.
//!
//! **Logic** is SQL's, of three values, and a fourth: `overflow`, where a bound was passed and an answer would be a
//! guess. It goes through whatever depends on it; what doesn't (`false AND overflow`) has its answer.
//!
//! **Time** comes in by windows, whose events leave one by one, and by `now()`. A value that moves with the clock has a
//! *slope*, how many microseconds it grows by in one, and a comparison of two such values turns where they meet.

mod facts;
mod leaf;

use std::cmp::Ordering;

use isthmus_domain::Amount;

use crate::{
    plan::{Plan, Touched},
    scalar::{self, Scalar, Type},
    state::FacetState,
    tree::{Comparison, Kind, Node, Operator, Read},
};
use facts::{Facts, Sums};
use leaf::Answer;
pub(crate) use leaf::Leaf;

/// What is known of a value.
#[derive(Clone, PartialEq, Debug)]
pub enum Held<'a> {
    /// Nothing.
    Null,
    /// A bound was passed: no answer.
    Overflow,
    /// A value.
    Is(Scalar<'a>),
    /// A list.
    List(Vec<Scalar<'a>>),
}

impl Held<'_> {
    /// The same in memory of its own.
    pub fn into_owned(self) -> Held<'static> {
        match self {
            Self::Null => Held::Null,
            Self::Overflow => Held::Overflow,
            Self::Is(scalar) => Held::Is(scalar.into_owned()),
            Self::List(items) => Held::List(items.into_iter().map(Scalar::into_owned).collect()),
        }
    }

    /// Whether a profile is in a segment of which this is the answer.
    pub fn membership(&self) -> Membership {
        match self {
            Self::Is(Scalar::Boolean(true)) => Membership::In,
            Self::Overflow => Membership::Overflow,
            _ => Membership::Out,
        }
    }
}

/// Whether a profile is in a segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Membership {
    /// No, or unknown as SQL has it.
    #[default]
    Out,
    /// Yes.
    In,
    /// A bound was passed: it can't be said. Counts as out, and is told.
    Overflow,
}

/// A value, how long it holds, and how it moves.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Timed<'a> {
    pub(crate) held: Held<'a>,
    /// Microseconds since the epoch; `i64::MAX`: for ever.
    pub(crate) until: i64,
    /// Of times and intervals: microseconds for each microsecond.
    pub(crate) slope: i32,
}

impl<'a> Timed<'a> {
    /// A value that time doesn't change.
    pub(crate) fn fixed(held: Held<'a>) -> Self {
        Self { held, until: i64::MAX, slope: 0 }
    }

    pub(crate) fn until(held: Held<'a>, until: i64) -> Self {
        Self { held, until, slope: 0 }
    }

    fn truth(truth: Option<bool>, until: i64) -> Self {
        Self::until(truth.map_or(Held::Null, |truth| Held::Is(Scalar::Boolean(truth))), until)
    }

    fn is(&self, truth: bool) -> bool {
        matches!(self.held, Held::Is(Scalar::Boolean(held)) if held == truth)
    }
}

/// What an expression is evaluated against.
pub(crate) trait Source {
    /// Microseconds since the epoch.
    fn now(&self) -> i64;
    /// What is known.
    fn read<'s>(&'s self, read: &'s Read, ty: Type) -> Timed<'s>;
    /// The answer of a segment.
    fn segment(&self, index: usize) -> Timed<'static>;
    /// A comparison of a count of a window with a number, which may hold longer than the count does.
    fn compare_count(&self, _: &Read, _: Comparison, _: &Amount) -> Option<Timed<'static>> {
        None
    }
}

/// The answer of a definition.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluated {
    /// Which of the plan's definitions.
    pub definition: usize,
    /// Of a computed trait its value, of a segment whether it holds.
    pub held: Held<'static>,
    /// Until when it holds if no event is added, microseconds since the epoch; `i64::MAX`: for ever.
    pub until: i64,
}

/// The answer of a segment, as much of it as is kept of a profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// Which of the plan's definitions.
    pub definition: usize,
    answer: Answer,
}

impl Judged {
    /// Whether a profile is in the segment.
    pub fn membership(&self) -> Membership {
        self.answer.truth.membership()
    }

    /// As [`Evaluated::until`].
    pub fn until(&self) -> i64 {
        self.answer.until
    }
}

impl From<&Evaluated> for Judged {
    fn from(of: &Evaluated) -> Self {
        let answer = Answer::of_timed(&Timed::until(of.held.clone(), of.until));
        Self { definition: of.definition, answer }
    }
}

impl From<&Self> for Judged {
    fn from(of: &Self) -> Self {
        *of
    }
}

impl Plan {
    /// Answers definitions of a profile at a time, which must not be before what was last told to [`Plan::expire`].
    /// `facets` are the states of all facets of the profile; of one facet there may be several, of different events.
    ///
    /// Answers come in the order of the plan. What they build on is worked out beside them.
    pub fn evaluate(&self, facets: &[&FacetState], now: i64, which: &Touched) -> Vec<Evaluated> {
        let sums = Sums::default();
        let facts = Facts { plan: self, facets, now, answers: &[], sums: &sums };
        let traits = which.iter().take_while(|index| !self.is_segment(*index)).filter_map(|index| {
            let Timed { held, until, .. } = node(&self.definitions().get(index)?.tree, &facts);
            Some(Evaluated { definition: index, held: held.into_owned(), until })
        });
        let segments = self.judge(facets, now, which).into_iter().map(|Judged { definition, answer }| {
            let Timed { held, until, .. } = answer.timed();
            Evaluated { definition, held, until }
        });
        traits.chain(segments).collect()
    }

    /// As [`Self::evaluate`], of segments alone, and less of each.
    pub fn judge(&self, facets: &[&FacetState], now: i64, which: &Touched) -> Vec<Judged> {
        let mut needed = which.clone();
        let building = self.building.iter().filter(|index| which.contains(**index));
        for definition in building.filter_map(|index| self.definitions().get(*index)) {
            definition.needs.iter().for_each(|index| needed.insert(*index));
        }
        let mut answers: Vec<Judged> = Vec::with_capacity(needed.len());
        let sums = Sums::default();
        for index in needed.iter().filter(|index| self.is_segment(*index)) {
            let Some((definition, leaves)) = self.definition(index) else { break };
            let facts = Facts { plan: self, facets, now, answers: &answers, sums: &sums };
            let answer = leaf::answer(leaves, &facts)
                .unwrap_or_else(|| Answer::of_timed(&node(&definition.tree, &facts)));
            answers.push(Judged { definition: index, answer });
        }
        if needed.len() > which.len() {
            answers.retain(|answer| which.contains(answer.definition));
        }
        answers
    }
}

/// Evaluates a tree.
pub(crate) fn node<'s, S: Source>(node: &'s Node, source: &'s S) -> Timed<'s> {
    match &node.kind {
        Kind::Null => Timed::fixed(Held::Null),
        Kind::Literal(scalar) => Timed::fixed(Held::Is(scalar.share())),
        Kind::Now => Timed { held: Held::Is(Scalar::Time(source.now())), until: i64::MAX, slope: 1 },
        Kind::Read(read) => source.read(read, node.ty),
        Kind::Segment { index, .. } => source.segment(*index),
        Kind::Not(of) => {
            let of = self::node(of, source);
            let held = match of.held {
                Held::Is(Scalar::Boolean(truth)) => Held::Is(Scalar::Boolean(!truth)),
                held => held,
            };
            Timed::until(held, of.until)
        }
        Kind::All(nodes) => chain(nodes, false, source),
        Kind::AnyOf(nodes) => chain(nodes, true, source),
        Kind::Compare { op, left, right } => {
            if let (Kind::Read(read), Kind::Literal(Scalar::Number(number))) = (&left.kind, &right.kind)
                && let Some(answer) = source.compare_count(read, *op, number)
            {
                return answer;
            }
            compare(*op, &self::node(left, source), &self::node(right, source), source.now())
        }
        Kind::Between { of, low, high, negated } => {
            let [of, low, high] = [of, low, high].map(|node| self::node(node, source));
            let low = compare(Comparison::AtLeast, &of, &low, source.now());
            let high = compare(Comparison::AtMost, &of, &high, source.now());
            negate_if(*negated, settle(vec![low, high], false))
        }
        Kind::In { of, among, negated } => {
            let of = self::node(of, source);
            let equal =
                |item: &'s Node| compare(Comparison::Equal, &of, &self::node(item, source), source.now());
            negate_if(*negated, settle(among.iter().map(equal).collect(), true))
        }
        Kind::Is { of, truth, negated } => {
            let of = self::node(of, source);
            let is = match truth {
                _ if of.held == Held::Overflow => return Timed::until(Held::Overflow, of.until),
                Some(truth) => of.is(*truth),
                None => of.held == Held::Null,
            };
            Timed::truth(Some(is != *negated), of.until)
        }
        Kind::Like { of, pattern, negated } => {
            let of = self::node(of, source);
            match &of.held {
                Held::Is(Scalar::Text(text)) => {
                    Timed::truth(Some(pattern.matches(text) != *negated), of.until)
                }
                Held::Overflow => Timed::until(Held::Overflow, of.until),
                _ => Timed::truth(None, of.until),
            }
        }
        Kind::Negative(of) => {
            let of = self::node(of, source);
            let held = match of.held {
                Held::Is(Scalar::Number(n)) => Held::Is(Scalar::Number(scalar::negative(&n))),
                Held::Is(Scalar::Interval(t)) => {
                    t.checked_neg().map_or(Held::Null, |t| Held::Is(Scalar::Interval(t)))
                }
                held => held,
            };
            Timed { held, until: of.until, slope: -of.slope }
        }
        Kind::Arithmetic { op, left, right } => {
            arithmetic(*op, self::node(left, source), self::node(right, source))
        }
        Kind::Coalesce(nodes) => {
            let mut until = i64::MAX;
            for of in nodes {
                let of = self::node(of, source);
                until = until.min(of.until);
                if of.held != Held::Null {
                    return Timed { until, ..of };
                }
            }
            Timed::until(Held::Null, until)
        }
        Kind::Contains { list, item } => {
            let (list, item) = (self::node(list, source), self::node(item, source));
            let until = list.until.min(item.until);
            match (&list.held, &item.held) {
                (Held::Overflow, _) | (_, Held::Overflow) => Timed::until(Held::Overflow, until),
                (Held::List(items), Held::Is(item)) => Timed::truth(Some(items.contains(item)), until),
                _ => Timed::truth(None, until),
            }
        }
    }
}

fn negate_if(negated: bool, of: Timed<'_>) -> Timed<'_> {
    match of.held {
        Held::Is(Scalar::Boolean(truth)) => Timed::truth(Some(truth != negated), of.until),
        _ => of,
    }
}

/// AND for `decides` false, OR for true: one that decides is enough, and holds for as long as it does.
fn chain<'s, S: Source>(nodes: &'s [Node], decides: bool, source: &'s S) -> Timed<'s> {
    let mut open = Timed::truth(Some(!decides), i64::MAX);
    for of in nodes {
        let of = node(of, source);
        if of.is(decides) {
            return of;
        }
        open = weaker(open, of);
    }
    open
}

/// As [`chain`], of answers that are there already.
fn settle(answers: Vec<Timed<'_>>, decides: bool) -> Timed<'_> {
    let mut open = Timed::truth(Some(!decides), i64::MAX);
    for of in answers {
        if of.is(decides) {
            return of;
        }
        open = weaker(open, of);
    }
    open
}

/// Of two answers that don't decide: overflow before NULL before the rest, for as long as both hold.
fn weaker<'a>(a: Timed<'a>, b: Timed<'a>) -> Timed<'a> {
    let until = a.until.min(b.until);
    let held = match (a.held, b.held) {
        (Held::Overflow, _) | (_, Held::Overflow) => Held::Overflow,
        (Held::Null, _) | (_, Held::Null) => Held::Null,
        (held, _) => held,
    };
    Timed::until(held, until)
}

fn compare<'r>(op: Comparison, left: &Timed<'_>, right: &Timed<'_>, now: i64) -> Timed<'r> {
    let until = left.until.min(right.until);
    let (l, r) = match (&left.held, &right.held) {
        (Held::Overflow, _) | (_, Held::Overflow) => return Timed::until(Held::Overflow, until),
        (Held::Is(l), Held::Is(r)) => (l, r),
        _ => return Timed::truth(None, until),
    };
    let truth = op.holds(l.cmp(r));
    let slope = left.slope - right.slope;
    let turn = match (l, r) {
        (Scalar::Time(l), Scalar::Time(r)) | (Scalar::Interval(l), Scalar::Interval(r)) if slope != 0 => {
            turns(op, i128::from(*l) - i128::from(*r), slope, now)
        }
        _ => i64::MAX,
    };
    Timed::truth(Some(truth), until.min(turn))
}

/// The first time after now at which a comparison answers differently: of a difference that grows by `slope` each
/// microsecond.
fn turns(op: Comparison, difference: i128, slope: i32, now: i64) -> i64 {
    let slope = i128::from(slope);
    let at = |later: i128| op.holds((difference + slope * later).cmp(&0));
    let truth = at(0);
    // The sign changes where the difference reaches zero, or is past it, and one later.
    let meets = if difference.signum() == -slope.signum() {
        match slope.abs() {
            1 => difference.abs(),
            slope => (difference.abs() + slope - 1) / slope,
        }
    } else {
        0
    };
    let turn = [meets, meets + 1].into_iter().find(|later| *later > 0 && at(*later) != truth);
    turn.and_then(|later| i64::try_from(i128::from(now) + later).ok()).unwrap_or(i64::MAX)
}

fn arithmetic<'a>(op: Operator, left: Timed<'a>, right: Timed<'a>) -> Timed<'a> {
    let until = left.until.min(right.until);
    let (l, r) = match (left.held, right.held) {
        (Held::Overflow, _) | (_, Held::Overflow) => return Timed::until(Held::Overflow, until),
        (Held::Is(l), Held::Is(r)) => (l, r),
        _ => return Timed::until(Held::Null, until),
    };
    let slope = if op == Operator::Subtract { left.slope - right.slope } else { left.slope + right.slope };
    let micros = |l: i64, r: i64| match op {
        Operator::Subtract => l.checked_sub(r),
        _ => l.checked_add(r),
    };
    let value = match (l, r) {
        (Scalar::Number(l), Scalar::Number(r)) => {
            let value = match op {
                Operator::Add => Some(scalar::sum(&l, &r)),
                Operator::Subtract => Some(scalar::sum(&l, &scalar::negative(&r))),
                Operator::Multiply => scalar::product(&l, &r),
                Operator::Divide => scalar::quotient(&l, &r),
            };
            value.map(Scalar::Number)
        }
        (Scalar::Time(l), Scalar::Time(r)) | (Scalar::Interval(l), Scalar::Interval(r)) => {
            micros(l, r).map(Scalar::Interval)
        }
        (Scalar::Time(l), Scalar::Interval(r)) => micros(l, r).map(Scalar::Time),
        (Scalar::Interval(l), Scalar::Time(r)) => micros(l, r).map(Scalar::Time),
        _ => None,
    };
    Timed { held: value.map_or(Held::Null, Held::Is), until, slope }
}

/// How a list of values that fit is put in order.
pub(crate) fn by_count(a: &(Scalar<'_>, u64), b: &(Scalar<'_>, u64)) -> Ordering {
    // The most frequent first, of several the least.
    b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0))
}
