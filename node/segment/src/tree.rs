//! The typed tree: what an expression means, for the incremental evaluation and for SQL alike.
//!
//! Every node has its type and its place. Types are settled when the tree is made, so evaluation never meets two
//! types that can't be compared. What a tree asks of a profile is a [`Fact`]; which states answer it, the
//! [plan](crate::Plan) writes into [`Read::terms`].

use std::fmt::Write;

use isthmus_domain::{EventType, value::write_json_string};

use crate::{
    fault::Place,
    like::Pattern,
    scalar::{Path, Scalar, Type},
};

/// A part of an expression.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// What it gives.
    pub ty: Type,
    /// Where it stands.
    pub at: Place,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// NULL.
    Null,
    /// A constant.
    Literal(Scalar<'static>),
    /// The time at which is evaluated.
    Now,
    /// What is known of a profile or an event.
    Read(Box<Read>),
    /// Whether the profile is in another segment.
    Segment {
        /// Its name.
        name: String,
        /// Where the plan has it; the plan sets it.
        index: usize,
    },
    /// Not.
    Not(Box<Node>),
    /// And, of at least two.
    All(Vec<Node>),
    /// Or, of at least two.
    AnyOf(Vec<Node>),
    /// Two values of one type.
    Compare {
        /// How.
        op: Comparison,
        /// The left one.
        left: Box<Node>,
        /// The right one.
        right: Box<Node>,
    },
    /// `of BETWEEN low AND high`.
    Between {
        /// What.
        of: Box<Node>,
        /// At least.
        low: Box<Node>,
        /// At most.
        high: Box<Node>,
        /// NOT BETWEEN.
        negated: bool,
    },
    /// `of IN (…)`.
    In {
        /// What.
        of: Box<Node>,
        /// Values of its type, at least one.
        among: Vec<Node>,
        /// NOT IN.
        negated: bool,
    },
    /// `of IS …`: never NULL.
    Is {
        /// What.
        of: Box<Node>,
        /// What it is or isn't; `None`: NULL, or UNKNOWN.
        truth: Option<bool>,
        /// IS NOT.
        negated: bool,
    },
    /// `of LIKE pattern`.
    Like {
        /// A text.
        of: Box<Node>,
        /// The pattern.
        pattern: Pattern,
        /// NOT LIKE.
        negated: bool,
    },
    /// The negative of a number or an interval.
    Negative(Box<Node>),
    /// Arithmetic of numbers, times and intervals.
    Arithmetic {
        /// How.
        op: Operator,
        /// The left one.
        left: Box<Node>,
        /// The right one.
        right: Box<Node>,
    },
    /// The first that is not NULL.
    Coalesce(Vec<Node>),
    /// Whether a list holds a value.
    Contains {
        /// The list.
        list: Box<Node>,
        /// The value.
        item: Box<Node>,
    },
}

/// How two values are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// As SQL writes it.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "<>",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }

    /// Whether it holds of two values in this order.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

/// What is done with two values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// Of two numbers, two intervals, or a time and an interval.
    Add,
    /// Of two numbers, two intervals, two times, or an interval from a time.
    Subtract,
    /// Of two numbers.
    Multiply,
    /// Of two numbers; NULL when the divisor is zero.
    Divide,
}

/// A reading of facts.
#[derive(Clone, Debug)]
pub struct Read {
    /// What is asked.
    pub fact: Fact,
    /// The plan's terms that answer it: one, or one for each step of a sequence. The plan sets them.
    pub terms: Vec<usize>,
}

/// What can be asked of a profile, or of an event.
#[derive(Clone, PartialEq, Debug)]
pub enum Fact {
    /// The newest value of a trait, or what lies in it.
    Trait {
        /// The trait's name.
        name: String,
        /// The keys that lead into it.
        keys: Vec<String>,
    },
    /// A property of the event that a filter looks at.
    Property(Path),
    /// The time of the oldest event.
    FirstSeen,
    /// The time of the newest event.
    LastSeen,
    /// The sum of `revenue` in a currency; zero where there was none.
    Revenue(String),
    /// What was last said about consent for a purpose; NULL where nothing was.
    Consent(String),
    /// Something about the events of a profile.
    Aggregate(Aggregate),
    /// Whether events followed each other.
    Sequence(Sequence),
}

/// Which events. NULL of a filter is no.
#[derive(Clone, PartialEq, Debug)]
pub struct Events {
    /// Of this type; `None`: of any.
    pub kind: Option<EventType>,
    /// With one of these names; none: with any, or none.
    pub names: Vec<String>,
    /// For which this holds: a tree of properties alone.
    pub filter: Option<Box<Node>>,
}

/// What events come to. Values that are NULL don't count, as in SQL.
#[derive(Clone, PartialEq, Debug)]
pub struct Aggregate {
    /// What is worked out.
    pub function: Function,
    /// Of which events.
    pub events: Events,
    /// Of which property; `None` when events are counted.
    pub of: Option<Path>,
    /// As what the property is read.
    pub of_type: Type,
    /// Only of events with a timestamp later than this many microseconds before now; `None`: of all. There is no upper
    /// end: an event whose time is still to come counts as one that has just happened.
    pub window: Option<i64>,
    /// How many events of a window, or distinct values, are kept; beyond that the answer is `overflow`. Of
    /// [`Function::DistinctList`]: how many values the list has at most.
    pub bound: u32,
}

/// What is worked out of events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Function {
    /// How many there are; never NULL.
    Count,
    /// The exact sum; NULL of none.
    Sum,
    /// The mean; NULL of none.
    Average,
    /// The least value; NULL of none.
    Min,
    /// The largest value; NULL of none.
    Max,
    /// The value of the oldest event by (timestamp, event key); NULL of none.
    First,
    /// The value of the newest event by (timestamp, event key); NULL of none.
    Last,
    /// The value that came most often, of several the least; NULL of none.
    MostFrequent,
    /// How many values there are; never NULL.
    DistinctCount,
    /// The values whose first events are the oldest by (timestamp, event key), in that order; never NULL.
    DistinctList,
}

impl Function {
    const NAMES: [(Self, &'static str); 10] = [
        (Self::Count, "count"),
        (Self::Sum, "sum"),
        (Self::Average, "average"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::First, "first"),
        (Self::Last, "last"),
        (Self::MostFrequent, "most_frequent"),
        (Self::DistinctCount, "distinct_count"),
        (Self::DistinctList, "distinct_list"),
    ];

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(function, _)| *function == self).map_or("", |(_, name)| *name)
    }

    /// The function with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(function, _)| *function)
    }

    /// All names.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(_, name)| *name)
    }

    /// What it gives for values of a type.
    pub fn gives(self, of: Type) -> Type {
        match self {
            Self::Count | Self::Sum | Self::Average | Self::DistinctCount => Type::Number,
            Self::Min | Self::Max | Self::First | Self::Last | Self::MostFrequent => of,
            Self::DistinctList => Type::List,
        }
    }
}

/// Events one after the other.
#[derive(Clone, PartialEq, Debug)]
pub struct Sequence {
    /// At least two. Each is later than the one before, and the last at most [`Self::within`] after the first.
    pub steps: Vec<Events>,
    /// The last of two steps must *not* happen: there is a first event, `within` has passed since, and none of the
    /// second came in that time.
    pub without_last: bool,
    /// Microseconds.
    pub within: i64,
    /// Only first events with a timestamp later than this many microseconds before now; `None`: all.
    pub window: Option<i64>,
    /// How many events of a step are kept; beyond that the answer is `overflow`.
    pub bound: u32,
}

impl Node {
    /// A constant.
    pub fn literal(scalar: Scalar<'static>, at: Place) -> Self {
        Self { ty: scalar.type_of(), kind: Kind::Literal(scalar), at }
    }

    /// A reading.
    pub fn read(fact: Fact, ty: Type, at: Place) -> Self {
        Self { kind: Kind::Read(Box::new(Read { fact, terms: Vec::new() })), ty, at }
    }

    /// Hands each node of the tree to `f`, filters of events left out.
    pub fn visit_mut(&mut self, f: &mut impl FnMut(&mut Self)) {
        f(self);
        match &mut self.kind {
            Kind::Null | Kind::Literal(_) | Kind::Now | Kind::Read(_) | Kind::Segment { .. } => {}
            Kind::Not(of) | Kind::Negative(of) => of.visit_mut(f),
            Kind::All(nodes) | Kind::AnyOf(nodes) | Kind::Coalesce(nodes) => {
                nodes.iter_mut().for_each(|node| node.visit_mut(f));
            }
            Kind::Compare { left, right, .. } | Kind::Arithmetic { left, right, .. } => {
                left.visit_mut(f);
                right.visit_mut(f);
            }
            Kind::Contains { list, item } => {
                list.visit_mut(f);
                item.visit_mut(f);
            }
            Kind::Between { of, low, high, .. } => [of, low, high].into_iter().for_each(|n| n.visit_mut(f)),
            Kind::In { of, among, .. } => {
                of.visit_mut(f);
                among.iter_mut().for_each(|node| node.visit_mut(f));
            }
            Kind::Is { of, .. } | Kind::Like { of, .. } => of.visit_mut(f),
        }
    }
}

/// Trees are equal when they mean the same; places don't count.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        let text = |node: &Self| {
            let mut text = String::new();
            node.describe(&mut text);
            text
        };
        text(self) == text(other)
    }
}

fn refs(nodes: &[Node]) -> Vec<&Node> {
    nodes.iter().collect()
}

/// Texts as JSON writes them, a space in front of each.
pub(crate) fn quoted<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, out: &mut String) {
    for text in texts {
        let mut json = vec![b' '];
        write_json_string(text.as_ref(), &mut json);
        out.push_str(&String::from_utf8_lossy(&json));
    }
}

impl Events {
    /// A text that is the same for the same events, and different for others. Terms are found by it again in what is
    /// stored, so what is written must not change.
    pub(crate) fn describe(&self, out: &mut String) {
        let kind = self.kind.map_or("any", EventType::name);
        // Writing into a String can't fail.
        let _ = write!(out, "({kind}");
        quoted(&self.names, out);
        if let Some(filter) = &self.filter {
            out.push(' ');
            filter.describe(out);
        }
        out.push(')');
    }
}

impl Node {
    /// As [`Events::describe`]. Only filters are stored under it; the rest serves comparisons.
    pub(crate) fn describe(&self, out: &mut String) {
        let list = |head: &str, nodes: &[&Self], out: &mut String| {
            let _ = write!(out, "({head}");
            for node in nodes {
                out.push(' ');
                node.describe(out);
            }
            out.push(')');
        };
        let not = |negated: bool| if negated { "not-" } else { "" };
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Literal(Scalar::Text(text)) => quoted([text], out),
            Kind::Literal(Scalar::Number(n)) => _ = write!(out, "{n}"),
            Kind::Literal(Scalar::Boolean(b)) => _ = write!(out, "{b}"),
            Kind::Literal(Scalar::Time(t)) => _ = write!(out, "(time {t})"),
            Kind::Literal(Scalar::Interval(t)) => _ = write!(out, "(interval {t})"),
            Kind::Now => out.push_str("(now)"),
            Kind::Read(read) => match &read.fact {
                Fact::Property(path) => {
                    let _ = write!(out, "({}", self.ty.name());
                    quoted(path.keys(), out);
                    out.push(')');
                }
                fact => _ = write!(out, "({} {fact:?})", self.ty.name()),
            },
            Kind::Segment { name, .. } => {
                out.push_str("(segment");
                quoted([name], out);
                out.push(')');
            }
            Kind::Not(of) => list("not", &[of], out),
            Kind::All(nodes) => list("and", &refs(nodes), out),
            Kind::AnyOf(nodes) => list("or", &refs(nodes), out),
            Kind::Compare { op, left, right } => list(op.sql(), &[left, right], out),
            Kind::Between { of, low, high, negated } => {
                list(&format!("{}between", not(*negated)), &[of, low, high], out);
            }
            Kind::In { of, among, negated } => {
                let mut nodes = vec![&**of];
                nodes.extend(among);
                list(&format!("{}in", not(*negated)), &nodes, out);
            }
            Kind::Is { of, truth, negated } => {
                let what = truth.map_or("null", |truth| if truth { "true" } else { "false" });
                list(&format!("is-{}{what}", not(*negated)), &[of], out);
            }
            Kind::Like { of, pattern, negated } => {
                let fold = if pattern.folds_case() { "i" } else { "" };
                let mut head = format!("{}{fold}like", not(*negated));
                quoted([pattern.text()], &mut head);
                list(&head, &[of], out);
            }
            Kind::Negative(of) => list("negative", &[of], out),
            Kind::Arithmetic { op, left, right } => {
                let head = match op {
                    Operator::Add => "+",
                    Operator::Subtract => "-",
                    Operator::Multiply => "*",
                    Operator::Divide => "/",
                };
                list(head, &[left, right], out);
            }
            Kind::Coalesce(nodes) => list("coalesce", &refs(nodes), out),
            Kind::Contains { list: of, item } => list("contains", &[of, item], out),
        }
    }
}
