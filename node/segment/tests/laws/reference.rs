//! The plain reference: each answer from the list of all events of a profile, with nothing kept from before.

use std::cmp::Ordering;

use bigdecimal::RoundingMode;
use isthmus_domain::{Amount, EventType};
use isthmus_segment::{
    Held, Plan, Scalar, Type, sql,
    tree::{Aggregate, Events, Fact, Function, Kind, Node, Operator, Read, Sequence},
};

/// An event as it was sent.
#[derive(Clone)]
pub struct Sent {
    pub kind: EventType,
    pub name: String,
    pub timestamp: i64,
    pub key: [u8; 16],
    pub source: String,
    pub message_id: String,
    pub properties: String,
    pub context: String,
    /// Canonical JSON; empty for a removal.
    pub traits: Vec<(String, String)>,
    pub revenue: Option<Amount>,
    pub currency: String,
}

/// All that the reference looks at.
pub struct World<'a> {
    pub plan: &'a Plan,
    pub events: &'a [&'a Sent],
    pub now: i64,
}

pub type Answer = Held<'static>;

fn truth(truth: Option<bool>) -> Answer {
    truth.map_or(Held::Null, |truth| Held::Is(Scalar::Boolean(truth)))
}

fn is(answer: &Answer, wanted: bool) -> bool {
    *answer == truth(Some(wanted))
}

fn number(n: u64) -> Answer {
    Held::Is(Scalar::Number(n.to_string().parse().unwrap()))
}

impl World<'_> {
    pub fn definition(&self, index: usize) -> Answer {
        self.node(&self.plan.definitions()[index].tree, None)
    }

    fn node(&self, node: &Node, event: Option<&Sent>) -> Answer {
        let of = |node: &Node| self.node(node, event);
        match &node.kind {
            Kind::Null => Held::Null,
            Kind::Literal(scalar) => Held::Is(scalar.clone()),
            Kind::Now => Held::Is(Scalar::Time(self.now)),
            Kind::Read(read) => self.read(read, node.ty, event),
            Kind::Segment { index, .. } => self.definition(*index),
            Kind::Not(node) => match of(node) {
                Held::Is(Scalar::Boolean(truth)) => Held::Is(Scalar::Boolean(!truth)),
                other => other,
            },
            Kind::All(nodes) => all(nodes.iter().map(of).collect()),
            Kind::AnyOf(nodes) => any(nodes.iter().map(of).collect()),
            Kind::Compare { op, left, right } => compare(&of(left), &of(right), |order| op.holds(order)),
            Kind::Between { of: node, low, high, negated } => {
                let (value, low, high) = (of(node), of(low), of(high));
                let low = compare(&value, &low, Ordering::is_ge);
                negate(*negated, all(vec![low, compare(&value, &high, Ordering::is_le)]))
            }
            Kind::In { of: node, among, negated } => {
                let value = of(node);
                let equal = among.iter().map(|item| compare(&value, &of(item), Ordering::is_eq));
                negate(*negated, any(equal.collect()))
            }
            Kind::Is { of: node, truth: wanted, negated } => match (of(node), wanted) {
                (Held::Overflow, _) => Held::Overflow,
                (answer, None) => truth(Some((answer == Held::Null) != *negated)),
                (answer, Some(wanted)) => truth(Some(is(&answer, *wanted) != *negated)),
            },
            Kind::Like { of: node, pattern, negated } => match of(node) {
                Held::Is(Scalar::Text(text)) => truth(Some(pattern.matches(&text) != *negated)),
                Held::Overflow => Held::Overflow,
                _ => Held::Null,
            },
            Kind::Negative(node) => match of(node) {
                Held::Is(Scalar::Number(n)) => Held::Is(Scalar::Number(amount(-n.to_decimal()))),
                Held::Is(Scalar::Interval(t)) => Held::Is(Scalar::Interval(-t)),
                other => other,
            },
            Kind::Arithmetic { op, left, right } => arithmetic(*op, of(left), of(right)),
            Kind::Coalesce(nodes) => {
                nodes.iter().map(of).find(|held| *held != Held::Null).unwrap_or(Held::Null)
            }
            Kind::Contains { list, item } => match (of(list), of(item)) {
                (Held::Overflow, _) | (_, Held::Overflow) => Held::Overflow,
                (Held::List(items), Held::Is(item)) => truth(Some(items.contains(&item))),
                _ => Held::Null,
            },
        }
    }

    fn read(&self, read: &Read, ty: Type, event: Option<&Sent>) -> Answer {
        let timestamps = || self.events.iter().map(|event| event.timestamp);
        let time = |time: Option<i64>| time.map_or(Held::Null, |time| Held::Is(Scalar::Time(time)));
        match &read.fact {
            Fact::Property(path) => {
                let event = event.expect("a property is of an event");
                sql::read(&event.properties, path.keys(), ty).map_or(Held::Null, Held::Is)
            }
            Fact::Trait { name, keys } => {
                let said = self.events.iter().flat_map(|event| {
                    let of = event.traits.iter().filter(|(trait_name, _)| trait_name == name);
                    of.map(|(_, value)| (event.timestamp, &event.source, &event.message_id, value))
                });
                match said.max().map(|(.., value)| value.as_str()) {
                    None | Some("") => Held::Null,
                    Some(json) if ty == Type::List => {
                        sql::read_texts(json, keys).map_or(Held::Null, Held::List)
                    }
                    Some(json) => sql::read(json, keys, ty).map_or(Held::Null, Held::Is),
                }
            }
            Fact::FirstSeen => time(timestamps().min()),
            Fact::LastSeen => time(timestamps().max()),
            Fact::Revenue(currency) => {
                let of = self.events.iter().filter(|event| event.currency == *currency);
                let mut sum = Amount::zero();
                of.filter_map(|event| event.revenue.as_ref()).for_each(|amount| sum += amount);
                Held::Is(Scalar::Number(sum))
            }
            Fact::Consent(purpose) => {
                let keys = ["context", "consent", "categoryPreferences", purpose].map(str::to_owned);
                let said = self.events.iter().filter_map(|event| {
                    let Scalar::Boolean(given) = sql::read(&event.context, &keys, Type::Boolean)? else {
                        return None;
                    };
                    Some((event.timestamp, &event.source, &event.message_id, given))
                });
                truth(said.max().map(|(.., given)| given))
            }
            Fact::Aggregate(aggregate) => self.aggregate(aggregate),
            Fact::Sequence(sequence) => truth(Some(self.sequence(sequence))),
        }
    }

    fn fits(&self, events: &Events, event: &Sent) -> bool {
        events.kind.is_none_or(|kind| kind == event.kind)
            && (events.names.is_empty() || events.names.contains(&event.name))
            && events.filter.as_ref().is_none_or(|filter| is(&self.node(filter, Some(event)), true))
    }

    fn inside(&self, window: Option<i64>, event: &Sent) -> bool {
        window.is_none_or(|window| event.timestamp > self.now - window)
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Answer {
        let events = self.events.iter().filter(|event| self.inside(aggregate.window, event));
        let events: Vec<&&Sent> = events.filter(|event| self.fits(&aggregate.events, event)).collect();
        let Some(of) = &aggregate.of else {
            let over = aggregate.window.is_some() && events.len() > aggregate.bound as usize;
            return if over { Held::Overflow } else { number(events.len() as u64) };
        };
        let mut values: Vec<(i64, [u8; 16], Scalar<'static>)> = Vec::new();
        for event in events {
            if let Some(value) = sql::read(&event.properties, of.keys(), aggregate.of_type) {
                values.push((event.timestamp, event.key, value));
            }
        }
        values.sort();
        let is_list = aggregate.function == Function::DistinctList;
        if aggregate.window.is_some() && !is_list && values.len() > aggregate.bound as usize {
            return Held::Overflow;
        }
        let mut distinct: Vec<(Scalar<'static>, usize)> = Vec::new();
        for (.., value) in &values {
            match distinct.iter_mut().find(|(known, _)| known == value) {
                Some((_, n)) => *n += 1,
                None => distinct.push((value.clone(), 1)),
            }
        }
        let counted = matches!(aggregate.function, Function::MostFrequent | Function::DistinctCount);
        if counted && distinct.len() > aggregate.bound as usize {
            return Held::Overflow;
        }
        let one = |value: Option<Scalar<'static>>| value.map_or(Held::Null, Held::Is);
        let all = || values.iter().map(|(.., value)| value.clone());
        let sum = || {
            let mut sum = Amount::zero();
            for value in all() {
                if let Scalar::Number(n) = value {
                    sum += &n;
                }
            }
            sum
        };
        match aggregate.function {
            Function::Count => number(values.len() as u64),
            Function::Sum if values.is_empty() => Held::Null,
            Function::Sum => Held::Is(Scalar::Number(sum())),
            Function::Average if values.is_empty() => Held::Null,
            Function::Average => {
                arithmetic(Operator::Divide, Held::Is(Scalar::Number(sum())), number(values.len() as u64))
            }
            Function::Min => one(all().min()),
            Function::Max => one(all().max()),
            Function::First => one(all().next()),
            Function::Last => one(all().next_back()),
            Function::MostFrequent => {
                let best = distinct.iter().map(|(_, n)| *n).max();
                one(distinct.into_iter().filter(|(_, n)| Some(*n) == best).map(|(value, _)| value).min())
            }
            Function::DistinctCount => number(distinct.len() as u64),
            Function::DistinctList => Held::List(
                distinct.into_iter().map(|(value, _)| value).take(aggregate.bound as usize).collect(),
            ),
        }
    }

    fn sequence(&self, sequence: &Sequence) -> bool {
        let of = |step: usize| {
            let step = &sequence.steps[step];
            self.events.iter().filter(move |event| self.fits(step, event)).map(|event| event.timestamp)
        };
        let mut starts = self
            .events
            .iter()
            .filter(|event| self.fits(&sequence.steps[0], event) && self.inside(sequence.window, event));
        starts.any(|start| {
            let (start, end) = (start.timestamp, start.timestamp + sequence.within);
            if sequence.without_last {
                return end <= self.now && !of(1).any(|time| time > start && time <= end);
            }
            // All ends of all chains, step by step.
            let mut ends = vec![start];
            for step in 1..sequence.steps.len() {
                ends = of(step).filter(|time| ends.iter().any(|end| time > end)).collect();
                // A chain whose step comes too late comes no earlier later.
                ends.retain(|time| *time <= end);
            }
            !ends.is_empty()
        })
    }
}

fn all(answers: Vec<Answer>) -> Answer {
    match () {
        () if answers.iter().any(|answer| is(answer, false)) => truth(Some(false)),
        () if answers.contains(&Held::Overflow) => Held::Overflow,
        () if answers.contains(&Held::Null) => Held::Null,
        () => truth(Some(true)),
    }
}

fn any(answers: Vec<Answer>) -> Answer {
    negate(true, all(answers.into_iter().map(|answer| negate(true, answer)).collect()))
}

fn negate(negated: bool, answer: Answer) -> Answer {
    match answer {
        Held::Is(Scalar::Boolean(truth)) => Held::Is(Scalar::Boolean(truth != negated)),
        other => other,
    }
}

fn compare(left: &Answer, right: &Answer, holds: impl Fn(Ordering) -> bool) -> Answer {
    match (left, right) {
        (Held::Overflow, _) | (_, Held::Overflow) => Held::Overflow,
        (Held::Is(left), Held::Is(right)) => truth(Some(holds(left.cmp(right)))),
        _ => Held::Null,
    }
}

fn amount(number: bigdecimal::BigDecimal) -> Amount {
    Amount::of_decimal(number).expect("few digits")
}

fn arithmetic(op: Operator, left: Answer, right: Answer) -> Answer {
    use Scalar::{Interval, Number, Time};
    let (left, right) = match (left, right) {
        (Held::Overflow, _) | (_, Held::Overflow) => return Held::Overflow,
        (Held::Is(left), Held::Is(right)) => (left, right),
        _ => return Held::Null,
    };
    let micros = |l: i64, r: i64| if op == Operator::Subtract { l - r } else { l + r };
    Held::Is(match (left, right) {
        (Number(l), Number(r)) => {
            let (l, r) = (l.to_decimal(), r.to_decimal());
            let rounded = |n: bigdecimal::BigDecimal| n.with_scale_round(20, RoundingMode::HalfUp);
            Number(amount(match op {
                Operator::Add => l + r,
                Operator::Subtract => l - r,
                Operator::Multiply => rounded(l * r),
                Operator::Divide if r == 0 => return Held::Null,
                Operator::Divide => rounded(l / r),
            }))
        }
        (Time(l), Time(r)) | (Interval(l), Interval(r)) => Interval(micros(l, r)),
        (Time(l), Interval(r)) | (Interval(l), Time(r)) => Time(micros(l, r)),
        _ => return Held::Null,
    })
}
