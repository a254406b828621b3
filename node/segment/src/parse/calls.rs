//! Functions of the language.

use std::collections::BTreeMap;

use isthmus_domain::EventType;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments,
    ObjectNamePart, UnaryOperator,
};

use super::{
    lower::{Lower, Lowered, NAME_BYTES_MAX, Scope, keys_of, length_of, text_of},
    typing,
};
use crate::{
    duration,
    fault::{Fault, Place, suggestion},
    scalar::{Path, Scalar, Type, count},
    term::ENTRIES_MAX,
    tree::{Aggregate, Comparison, Events, Fact, Function, Kind, Node, Sequence},
};

/// The functions that expressions have.
const FUNCTIONS: [&str; 21] = [
    "avg",
    "average",
    "coalesce",
    "consent",
    "contains",
    "count",
    "did",
    "distinct_count",
    "distinct_list",
    "events",
    "first",
    "last",
    "max",
    "min",
    "most_frequent",
    "now",
    "revenue",
    "segment",
    "sequence",
    "sum",
    "current_timestamp",
];
/// The most names of one set of events, and the most steps of a sequence.
const NAMES_MAX: usize = 32;
const STEPS_MAX: usize = 8;
/// The longest distinct list of an expression.
const LIST_MAX: u32 = 100;

/// The arguments of a call.
struct Args<'e> {
    at: Place,
    usage: &'static str,
    positional: std::collections::VecDeque<&'e Expr>,
    named: BTreeMap<String, &'e Expr>,
    distinct: bool,
}

impl<'e> Args<'e> {
    fn next(&mut self) -> Option<&'e Expr> {
        self.positional.pop_front()
    }

    /// The next one, which must be there.
    fn needed(&mut self) -> Result<&'e Expr, Fault> {
        self.next().ok_or_else(|| self.wrong())
    }

    fn wrong(&self) -> Fault {
        Fault::new(self.at, format!("the arguments don't fit: write {}", self.usage))
    }

    /// There must be nothing left.
    fn done(&self) -> Result<(), Fault> {
        match self.named.keys().next() {
            Some(name) => {
                Err(Fault::new(self.at, format!("there is no argument {name}: write {}", self.usage)))
            }
            None if self.positional.is_empty() => Ok(()),
            None => Err(self.wrong()),
        }
    }
}

impl Lower<'_> {
    pub(super) fn call(&mut self, call: &Call, at: Place) -> Lowered {
        let name = match &call.name.0[..] {
            [ObjectNamePart::Identifier(name)] => name.value.to_lowercase(),
            _ => return Err(Fault::new(at, "functions have one name, without a point")),
        };
        if !FUNCTIONS.contains(&name.as_str()) {
            let what = if name == "property" || name == "trait" {
                "write its name alone, in double quotes where it is not a word".to_owned()
            } else if name == "event" {
                "event(…) is a step of a sequence: write did(…) or events(…)".to_owned()
            } else {
                format!("there is no function {name}{}", suggestion(&name, FUNCTIONS))
            };
            return Err(Fault::new(at, what));
        }
        let mut args = arguments(call, at)?;
        if args.distinct && name != "count" {
            return Err(Fault::new(at, "DISTINCT is only for count(DISTINCT property, 'Name', 'window')"));
        }
        if name == "coalesce" {
            return self.coalesce(args, at);
        }
        let Scope::Profile(names) = self.scope else {
            let what = format!("a filter knows the event alone: {name} is not there; compare properties");
            return Err(Fault::new(at, what));
        };
        match name.as_str() {
            "now" | "current_timestamp" => {
                args.usage = "now()";
                args.done()?;
                Ok(Node { kind: Kind::Now, ty: Type::Time, at })
            }
            "segment" => {
                args.usage = "segment('name')";
                let other = text_of(args.needed()?).ok_or_else(|| args.wrong())?;
                args.done()?;
                if !names.segments.contains(other) {
                    let known = names.segments.iter().map(String::as_str);
                    let what = format!("there is no segment {other}{}", suggestion(other, known));
                    return Err(Fault::new(at, what));
                }
                let kind = Kind::Segment { name: other.to_owned(), index: usize::MAX };
                Ok(Node { kind, ty: Type::Boolean, at })
            }
            "consent" => {
                args.usage = "consent('purpose')";
                let purpose = self.word(&mut args)?;
                Ok(Node::read(Fact::Consent(purpose), Type::Boolean, at))
            }
            "revenue" => {
                args.usage = "revenue('EUR')";
                let currency = self.word(&mut args)?;
                if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
                    return Err(Fault::new(at, "a currency has three upper-case letters, such as 'EUR'"));
                }
                Ok(Node::read(Fact::Revenue(currency), Type::Number, at))
            }
            "contains" => {
                args.usage = "contains(list, value)";
                let (list, item) = (args.needed()?, args.needed()?);
                args.done()?;
                let (list, item) = (self.node(list)?, self.node(item)?);
                self.contains(list, item, at)
            }
            "sequence" => self.sequence(args, at),
            "did" => {
                args.usage = "did('Name', 'window', filter)";
                let count_of = self.aggregate(Function::Count, args, at)?;
                let none = Node::literal(Scalar::Number(count(0)), at);
                let kind = Kind::Compare {
                    op: Comparison::Greater,
                    left: Box::new(count_of),
                    right: Box::new(none),
                };
                Ok(Node { kind, ty: Type::Boolean, at })
            }
            "events" => {
                args.usage = "events('Name', 'window', filter)";
                self.aggregate(Function::Count, args, at)
            }
            "count" if args.distinct => {
                args.usage = "count(DISTINCT property, 'Name', 'window', filter)";
                self.aggregate(Function::DistinctCount, args, at)
            }
            "count" => {
                args.usage = "count('Name', 'window', filter)";
                self.aggregate(Function::Count, args, at)
            }
            other => {
                args.usage = "a property, then as in events: sum(amount, 'Name', 'window', filter)";
                let function = if other == "avg" { Some(Function::Average) } else { Function::parse(other) };
                let function =
                    function.ok_or_else(|| Fault::new(at, format!("there is no function {other}")))?;
                self.aggregate(function, args, at)
            }
        }
    }

    /// One text, and nothing else.
    fn word(&self, args: &mut Args<'_>) -> Result<String, Fault> {
        let text = text_of(args.needed()?).ok_or_else(|| args.wrong())?;
        args.done()?;
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(Fault::new(args.at, format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        Ok(text.to_owned())
    }

    fn coalesce(&mut self, mut args: Args<'_>, at: Place) -> Lowered {
        args.usage = "coalesce(value, other, …)";
        let exprs: Vec<&Expr> = std::mem::take(&mut args.positional).into();
        args.done()?;
        if exprs.len() < 2 {
            return Err(args.wrong());
        }
        let mut nodes = exprs.into_iter().map(|expr| self.node(expr)).collect::<Result<Vec<_>, _>>()?;
        let ty = self.alike(&mut nodes)?;
        if ty == Type::List {
            return Err(Fault::new(at, "coalesce is not for lists"));
        }
        Ok(Node { kind: Kind::Coalesce(nodes), ty, at })
    }

    fn aggregate(&mut self, function: Function, mut args: Args<'_>, at: Place) -> Lowered {
        let mut of_type = typing::default_type(function);
        let of = match function {
            Function::Count => None,
            _ => {
                let (path, cast) = property(args.needed()?, at, args.usage)?;
                of_type = cast.unwrap_or(of_type);
                Some(path)
            }
        };
        let numbers = matches!(function, Function::Sum | Function::Average);
        if numbers && of_type != Type::Number {
            return Err(Fault::new(at, "only numbers can be added up"));
        }
        let bound = match args.named.remove("limit") {
            Some(limit) if function == Function::DistinctList => match self.node(limit)?.kind {
                Kind::Literal(Scalar::Number(n)) => {
                    (1..=LIST_MAX).find(|limit| count(u64::from(*limit)) == n).ok_or_else(|| {
                        Fault::new(at, format!("the limit of a list is a whole number from 1 to {LIST_MAX}"))
                    })?
                }
                _ => return Err(args.wrong()),
            },
            Some(_) => return Err(Fault::new(at, "only distinct_list has a limit")),
            None if function == Function::DistinctList => LIST_MAX,
            None => ENTRIES_MAX,
        };
        let (events, window) = self.events(&mut args)?;
        args.done()?;
        let ty = function.gives(of_type);
        let aggregate = Aggregate { function, events, of, of_type, window, bound };
        Ok(Node::read(Fact::Aggregate(aggregate), ty, at))
    }

    /// Names, window and filter, by place or by name.
    fn events(&mut self, args: &mut Args<'_>) -> Result<(Events, Option<i64>), Fault> {
        let named = args.named.remove("type");
        let kind = match named {
            None => Some(EventType::Track),
            Some(expr) => {
                let kind = text_of(expr).and_then(type_named);
                kind.ok_or_else(|| Fault::new(self.place(expr), format!("a type is {TYPES}")))?
            }
        };
        let mut names = Vec::new();
        // Behind `type` the names may be left out; the first text is a name all the same.
        if let Some(first) = args.positional.front().copied()
            && let Some(found) = self.names(first)?
        {
            names = found;
            args.next();
        }
        if names.is_empty() && named.is_none() {
            return Err(args.wrong());
        }
        let mut window = args.named.remove("window");
        if window.is_none()
            && let Some(next) = args.positional.front().copied()
            && (text_of(next).is_some() || matches!(next, Expr::Interval(_)))
        {
            window = args.next();
        }
        let window = match window {
            None => None,
            Some(expr) => {
                let at = self.place(expr);
                let micros = length_of(expr, at)?;
                Some(duration::window(micros).map_err(|what| Fault::new(at, what))?)
            }
        };
        let filter = args.named.remove("filter").or_else(|| args.next());
        let filter = filter.map(|expr| self.filter(expr)).transpose()?.map(Box::new);
        Ok((Events { kind, names, filter }, window))
    }

    fn filter(&mut self, expr: &Expr) -> Lowered {
        let outer = std::mem::replace(&mut self.scope, Scope::Event);
        let node = self.boolean(expr);
        self.scope = outer;
        node
    }

    /// One name or several, sorted; `None`: it is neither.
    fn names(&self, expr: &Expr) -> Result<Option<Vec<String>>, Fault> {
        let texts: Option<Vec<&str>> = match expr {
            Expr::Tuple(items) => items.iter().map(text_of).collect(),
            Expr::Array(array) => array.elem.iter().map(text_of).collect(),
            one => text_of(one).map(|text| vec![text]),
        };
        let Some(texts) = texts else { return Ok(None) };
        if texts.len() > NAMES_MAX || texts.iter().any(|t| t.is_empty() || t.len() > NAME_BYTES_MAX) {
            let what = format!("write 1 to {NAMES_MAX} names of events, each of 1 to {NAME_BYTES_MAX} bytes");
            return Err(Fault::new(self.place(expr), what));
        }
        let mut names: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        Ok(Some(names))
    }

    fn sequence(&mut self, mut args: Args<'_>, at: Place) -> Lowered {
        args.usage = "sequence('A', 'B', within => '1 day'), or NOT 'B' for the last";
        let duration = |lower: &Self, expr: &Expr| {
            let at = lower.place(expr);
            let micros = length_of(expr, at)?;
            duration::window(micros).map_err(|what| Fault::new(at, what))
        };
        let within = args.named.remove("within").ok_or_else(|| args.wrong())?;
        let within = duration(self, within)?;
        let window = args.named.remove("window").map(|expr| duration(self, expr)).transpose()?;
        let (mut steps, mut without_last) = (Vec::new(), false);
        while let Some(step) = args.next() {
            if without_last {
                return Err(Fault::new(at, "nothing comes behind the step that must not happen"));
            }
            let step = match step {
                Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                    without_last = true;
                    expr
                }
                step => step,
            };
            steps.push(self.step(step, &args)?);
        }
        args.done()?;
        if steps.len() < 2 || steps.len() > STEPS_MAX || (without_last && steps.len() != 2) {
            let what = format!("a sequence has 2 to {STEPS_MAX} steps; with NOT, it has 2: {}", args.usage);
            return Err(Fault::new(at, what));
        }
        if without_last && window.is_some_and(|window| window <= within) {
            let what = "the window must be longer than within, or nothing is ever in it";
            return Err(Fault::new(at, what));
        }
        let sequence = Sequence { steps, without_last, within, window, bound: ENTRIES_MAX };
        Ok(Node::read(Fact::Sequence(sequence), Type::Boolean, at))
    }

    /// A step: a name, several, or `event(name, filter)`.
    fn step(&mut self, expr: &Expr, args: &Args<'_>) -> Result<Events, Fault> {
        if let Some(names) = self.names(expr)? {
            return Ok(Events { kind: Some(EventType::Track), names, filter: None });
        }
        let at = self.place(expr);
        let Expr::Function(call) = expr else { return Err(Fault::new(at, format!("write {}", args.usage))) };
        let named = matches!(&call.name.0[..], [ObjectNamePart::Identifier(n)] if n.value.eq_ignore_ascii_case("event"));
        if !named {
            return Err(Fault::new(at, "a step is a name in quotes, or event('Name', filter)"));
        }
        let mut args = arguments(call, at)?;
        args.usage = "event('Name', filter)";
        if args.named.contains_key("window") {
            return Err(Fault::new(at, "a step has no window of its own: write window behind within"));
        }
        let (events, window) = self.events(&mut args)?;
        args.done()?;
        match window {
            None => Ok(events),
            Some(_) => Err(Fault::new(at, "a step has no window of its own: write window behind within")),
        }
    }
}

/// The types that events may be asked for by.
pub(crate) const TYPES: &str = "track, identify, page, screen, group, alias or any";

/// A type of events by its name; within, `None`: any.
pub(crate) fn type_named(name: &str) -> Option<Option<EventType>> {
    if name == "any" { Some(None) } else { EventType::parse(name).map(Some) }
}

/// A property, perhaps with a CAST.
pub(super) fn property(expr: &Expr, at: Place, usage: &str) -> Result<(Path, Option<Type>), Fault> {
    match expr {
        Expr::Identifier(name) => Ok((Path::new(keys_of(std::slice::from_ref(name), at)?), None)),
        Expr::CompoundIdentifier(names) => Ok((Path::new(keys_of(names, at)?), None)),
        Expr::Nested(of) => property(of, at, usage),
        Expr::Cast { expr, data_type, .. }
            if matches!(**expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) =>
        {
            let (path, _) = property(expr, at, usage)?;
            Ok((path, Some(typing::named(data_type, at)?)))
        }
        _ => Err(Fault::new(at, format!("this is no name of a property: {usage}"))),
    }
}

fn arguments(call: &Call, at: Place) -> Result<Args<'_>, Fault> {
    let plain = call.filter.is_none()
        && call.over.is_none()
        && call.null_treatment.is_none()
        && call.within_group.is_empty()
        && !call.uses_odbc_syntax
        && matches!(call.parameters, FunctionArguments::None);
    let bad = "functions have plain arguments here: no FILTER, OVER, WITHIN GROUP, ORDER BY or subquery";
    let bad = || Fault::new(at, bad);
    if !plain {
        return Err(bad());
    }
    let mut args = Args {
        at,
        usage: "",
        positional: std::collections::VecDeque::new(),
        named: BTreeMap::new(),
        distinct: false,
    };
    let list = match &call.args {
        FunctionArguments::None => return Ok(args),
        FunctionArguments::Subquery(_) => return Err(bad()),
        FunctionArguments::List(list) => list,
    };
    if !list.clauses.is_empty() {
        return Err(bad());
    }
    args.distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    for arg in &list.args {
        let (name, value) = match arg {
            FunctionArg::Named { name, arg, .. } => (Some(&name.value), arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (Some(&name.value), arg),
            FunctionArg::Unnamed(arg) => (None, arg),
            FunctionArg::ExprNamed { .. } => return Err(bad()),
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(Fault::new(at, "* is no argument: write a name in quotes, or type => 'page'"));
        };
        match name {
            None => args.positional.push_back(value),
            Some(name) => {
                if args.named.insert(name.to_lowercase(), value).is_some() {
                    return Err(Fault::new(at, format!("the argument {name} is there twice")));
                }
            }
        }
    }
    Ok(args)
}
