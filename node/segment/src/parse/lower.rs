//! From SQL's tree to the typed one.

use std::borrow::Cow;

use isthmus_domain::Amount;
use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Ident, ObjectNamePart, SetExpr, UnaryOperator, Value,
};

use super::{DEPTH_MAX, Names, place};
use crate::{
    duration,
    fault::{Fault, Place, suggestion},
    like::Pattern,
    scalar::{Path, Scalar, Type},
    tree::{Comparison, Fact, Kind, Node, Operator},
};

/// The most nodes of one expression, filters included.
const NODES_MAX: usize = 1_000;
/// The longest name, in bytes, and how deep it may lead into an object.
pub(super) const NAME_BYTES_MAX: usize = 256;
const KEYS_MAX: usize = 16;

/// What names mean.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Of a profile.
    Profile(&'a Names),
    /// Of an event, in a filter.
    Event,
}

/// Reads an expression that is true or false.
pub(super) fn root(expr: &Expr, scope: Scope<'_>) -> Result<Node, Fault> {
    Lower { scope, near: Place::START, depth: 0, nodes: 0 }.boolean(expr)
}

pub(super) type Lowered = Result<Node, Fault>;

pub(super) struct Lower<'a> {
    pub(super) scope: Scope<'a>,
    /// The last place that was known: not everything in SQL's tree has one.
    near: Place,
    depth: usize,
    nodes: usize,
}

impl Lower<'_> {
    /// Where an expression begins.
    pub(super) fn place(&self, mut expr: &Expr) -> Place {
        let span = loop {
            expr = match expr {
                Expr::Identifier(name) => break name.span,
                Expr::CompoundIdentifier(names) => match names.first() {
                    Some(name) => break name.span,
                    None => return self.near,
                },
                Expr::Value(value) => break value.span,
                Expr::TypedString(typed) => break typed.value.span,
                Expr::Function(call) => match call.name.0.first() {
                    Some(ObjectNamePart::Identifier(name)) => break name.span,
                    _ => return self.near,
                },
                Expr::BinaryOp { left, .. } | Expr::AnyOp { left, .. } => left,
                Expr::Nested(of)
                | Expr::IsTrue(of)
                | Expr::IsNotTrue(of)
                | Expr::IsFalse(of)
                | Expr::IsNotFalse(of)
                | Expr::IsNull(of)
                | Expr::IsNotNull(of)
                | Expr::IsUnknown(of)
                | Expr::IsNotUnknown(of)
                | Expr::UnaryOp { expr: of, .. }
                | Expr::InList { expr: of, .. }
                | Expr::InSubquery { expr: of, .. }
                | Expr::Between { expr: of, .. }
                | Expr::Like { expr: of, .. }
                | Expr::ILike { expr: of, .. }
                | Expr::SimilarTo { expr: of, .. }
                | Expr::RLike { expr: of, .. }
                | Expr::Cast { expr: of, .. }
                | Expr::Collate { expr: of, .. }
                | Expr::AtTimeZone { timestamp: of, .. }
                | Expr::CompoundFieldAccess { root: of, .. }
                | Expr::JsonAccess { value: of, .. } => of,
                Expr::Interval(interval) => &interval.value,
                Expr::Tuple(of) => match of.first() {
                    Some(first) => first,
                    None => return self.near,
                },
                Expr::Case { case_token, .. } => break case_token.0.span,
                Expr::Subquery(query) | Expr::Exists { subquery: query, .. } => match &*query.body {
                    SetExpr::Select(select) => break select.select_token.0.span,
                    _ => return self.near,
                },
                _ => return self.near,
            };
        };
        place(span.start, self.near)
    }

    /// An expression that is true or false.
    pub(super) fn boolean(&mut self, expr: &Expr) -> Lowered {
        let mut node = self.node(expr)?;
        self.settle(&mut node, Type::Boolean)?;
        Ok(node)
    }

    /// An expression of any type.
    pub(super) fn node(&mut self, expr: &Expr) -> Lowered {
        self.near = self.place(expr);
        let at = self.near;
        self.depth += 1;
        self.nodes += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::new(at, format!("nested too deeply: at most {DEPTH_MAX}")));
        }
        if self.nodes > NODES_MAX {
            let what = format!("more than {NODES_MAX} parts: split it into several segments");
            return Err(Fault::new(at, what));
        }
        let node = self.node_at(expr, at)?;
        self.depth -= 1;
        Ok(node)
    }

    fn node_at(&mut self, expr: &Expr, at: Place) -> Lowered {
        let is = |of: Node, truth, negated| {
            Ok(Node { kind: Kind::Is { of: Box::new(of), truth, negated }, ty: Type::Boolean, at })
        };
        match expr {
            Expr::Nested(of) => self.node(of),
            Expr::Value(value) => constant(&value.value, at),
            Expr::TypedString(typed) => match (&typed.data_type, &typed.value.value) {
                (DataType::Timestamp(..) | DataType::Date, Value::SingleQuotedString(text)) => {
                    super::typing::time(text, at)
                }
                (other, _) => Err(Fault::new(at, format!("{other} is not known here: write TIMESTAMP '…'"))),
            },
            Expr::Interval(interval) => interval_of(interval, at),
            Expr::Identifier(name) => self.named(std::slice::from_ref(name), at),
            Expr::CompoundIdentifier(names) => self.named(names, at),
            Expr::Function(call) => self.call(call, at),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let of = self.boolean(expr)?;
                Ok(Node { kind: Kind::Not(Box::new(of)), ty: Type::Boolean, at })
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => self.negative(expr, at),
            Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. } => self.chain(expr, at),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, at),
            Expr::IsTrue(of) => is(self.boolean(of)?, Some(true), false),
            Expr::IsNotTrue(of) => is(self.boolean(of)?, Some(true), true),
            Expr::IsFalse(of) => is(self.boolean(of)?, Some(false), false),
            Expr::IsNotFalse(of) => is(self.boolean(of)?, Some(false), true),
            Expr::IsUnknown(of) => is(self.boolean(of)?, None, false),
            Expr::IsNotUnknown(of) => is(self.boolean(of)?, None, true),
            Expr::IsNull(of) => is(self.anything(of)?, None, false),
            Expr::IsNotNull(of) => is(self.anything(of)?, None, true),
            Expr::InList { expr, list, negated } => self.among(expr, list, *negated, at),
            Expr::Between { expr, negated, low, high } => {
                let (mut of, mut low, mut high) = (self.node(expr)?, self.node(low)?, self.node(high)?);
                self.unify(&mut of, &mut low)?;
                self.settle(&mut high, of.ty)?;
                let [of, low, high] = [of, low, high].map(Box::new);
                let kind = Kind::Between { of, low, high, negated: *negated };
                Ok(Node { kind, ty: Type::Boolean, at })
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false, at)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true, at)
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
                ..
            } => {
                let mut node = self.node(expr)?;
                let ty = super::typing::named(data_type, at)?;
                self.settle(&mut node, ty)?;
                Ok(node)
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                let (item, list) = (self.node(left)?, self.node(right)?);
                self.contains(list, item, at)
            }
            _ => {
                let what = "this is SQL that segments don't have: write comparisons, AND, OR, NOT, IN, BETWEEN, \
                            IS NULL, LIKE, arithmetic, and functions such as events('Name', '30 days')";
                Err(Fault::new(at, what))
            }
        }
    }

    /// Something that may be NULL, for IS NULL.
    fn anything(&mut self, expr: &Expr) -> Lowered {
        let mut node = self.node(expr)?;
        let aggregate = matches!(&node.kind, Kind::Read(read) if matches!(read.fact, Fact::Aggregate(_)));
        if node.ty == Type::Any && (aggregate || matches!(node.kind, Kind::Coalesce(_))) {
            self.settle(&mut node, Type::Text)?;
        }
        Ok(node)
    }

    /// A chain of AND or of OR, however long, as one node.
    fn chain(&mut self, expr: &Expr, at: Place) -> Lowered {
        let Expr::BinaryOp { op: chained, .. } = expr else { return self.boolean(expr) };
        let (mut rest, mut parts) = (expr, Vec::new());
        while let Expr::BinaryOp { left, op, right } = rest {
            if op != chained {
                break;
            }
            parts.push(&**right);
            rest = left;
        }
        parts.push(rest);
        let nodes = parts.into_iter().rev().map(|part| self.boolean(part)).collect::<Result<Vec<_>, _>>()?;
        let kind = if *chained == BinaryOperator::And { Kind::All(nodes) } else { Kind::AnyOf(nodes) };
        Ok(Node { kind, ty: Type::Boolean, at })
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, at: Place) -> Lowered {
        let comparison = match op {
            BinaryOperator::Eq => Comparison::Equal,
            BinaryOperator::NotEq => Comparison::Unequal,
            BinaryOperator::Lt => Comparison::Less,
            BinaryOperator::LtEq => Comparison::AtMost,
            BinaryOperator::Gt => Comparison::Greater,
            BinaryOperator::GtEq => Comparison::AtLeast,
            BinaryOperator::Plus => return self.arithmetic(Operator::Add, left, right, at),
            BinaryOperator::Minus => return self.arithmetic(Operator::Subtract, left, right, at),
            BinaryOperator::Multiply => return self.arithmetic(Operator::Multiply, left, right, at),
            BinaryOperator::Divide => return self.arithmetic(Operator::Divide, left, right, at),
            other => {
                let what = format!("segments have no operator {other}: there are = <> < <= > >= + - * /");
                return Err(Fault::new(at, what));
            }
        };
        let (mut left, mut right) = (self.node(left)?, self.node(right)?);
        self.unify(&mut left, &mut right)?;
        let kind = Kind::Compare { op: comparison, left: Box::new(left), right: Box::new(right) };
        Ok(Node { kind, ty: Type::Boolean, at })
    }

    fn negative(&mut self, expr: &Expr, at: Place) -> Lowered {
        let mut of = self.node(expr)?;
        if of.ty != Type::Interval {
            self.settle(&mut of, Type::Number)?;
        }
        match of.kind {
            Kind::Literal(Scalar::Number(n)) => {
                Ok(Node::literal(Scalar::Number(crate::scalar::negative(&n)), at))
            }
            kind => {
                let ty = of.ty;
                let of = Node { kind, ..of };
                Ok(Node { kind: Kind::Negative(Box::new(of)), ty, at })
            }
        }
    }

    fn among(&mut self, expr: &Expr, list: &[Expr], negated: bool, at: Place) -> Lowered {
        let mut of = self.node(expr)?;
        let mut among = list.iter().map(|item| self.node(item)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = among.first_mut() else {
            return Err(Fault::new(at, "IN needs at least one value"));
        };
        self.unify(&mut of, first)?;
        for item in &mut among {
            self.settle(item, of.ty)?;
        }
        Ok(Node { kind: Kind::In { of: Box::new(of), among, negated }, ty: Type::Boolean, at })
    }

    fn like(&mut self, expr: &Expr, pattern: &Expr, negated: bool, folds_case: bool, at: Place) -> Lowered {
        let mut of = self.node(expr)?;
        self.settle(&mut of, Type::Text)?;
        let text = text_of(pattern).ok_or_else(|| {
            Fault::new(self.place(pattern), "LIKE needs a pattern in quotes, such as '%@example.com'")
        })?;
        let pattern = Pattern::read(text, folds_case).ok_or_else(|| {
            Fault::new(self.place(pattern), "there is nothing behind the last backslash: write two of them")
        })?;
        Ok(Node { kind: Kind::Like { of: Box::new(of), pattern, negated }, ty: Type::Boolean, at })
    }

    pub(super) fn contains(&mut self, mut list: Node, mut item: Node, at: Place) -> Lowered {
        self.settle(&mut list, Type::List)?;
        // What lists of traits hold is read as text; computed lists say what they hold.
        let of = match &list.kind {
            Kind::Read(read) => match &read.fact {
                Fact::Aggregate(aggregate) => aggregate.of_type,
                _ => Type::Text,
            },
            _ => Type::Text,
        };
        self.settle(&mut item, of)?;
        let kind = Kind::Contains { list: Box::new(list), item: Box::new(item) };
        Ok(Node { kind, ty: Type::Boolean, at })
    }

    /// A name: of a property, a computed trait, a trait, or one of those that are always there.
    fn named(&mut self, names: &[Ident], at: Place) -> Lowered {
        let keys = keys_of(names, at)?;
        let names_known = match self.scope {
            Scope::Event => {
                return Ok(Node::read(Fact::Property(Path::new(keys)), Type::Any, at));
            }
            Scope::Profile(known) => known,
        };
        let mut keys = keys.into_iter();
        let name = keys.next().unwrap_or_default();
        let keys: Vec<String> = keys.collect();
        let quoted = names.first().is_some_and(|name| name.quote_style.is_some());
        if keys.is_empty() {
            if !quoted {
                match name.to_ascii_lowercase().as_str() {
                    "first_seen" => return Ok(Node::read(Fact::FirstSeen, Type::Time, at)),
                    "last_seen" => return Ok(Node::read(Fact::LastSeen, Type::Time, at)),
                    "revenue" if names_known.currency.is_empty() => {
                        return Err(Fault::new(at, "there is no default currency: write revenue('EUR')"));
                    }
                    "revenue" => {
                        let fact = Fact::Revenue(names_known.currency.clone());
                        return Ok(Node::read(fact, Type::Number, at));
                    }
                    _ => {}
                }
            }
            if let Some(computed) = names_known.computed.get(&name) {
                return Ok(Node::read(Fact::Aggregate(computed.aggregate.clone()), computed.ty, at));
            }
        }
        let ty = match names_known.traits.as_ref().map(|traits| (traits, traits.get(&name))) {
            Some((_, Some(ty))) if keys.is_empty() => *ty,
            Some((traits, None)) => {
                let all = traits.keys().chain(names_known.computed.keys()).map(String::as_str);
                let what = format!(
                    "there is no trait {name}{}",
                    suggestion(&name, all.chain(["first_seen", "last_seen", "revenue"]))
                );
                return Err(Fault::new(at, what));
            }
            _ => Type::Any,
        };
        Ok(Node::read(Fact::Trait { name, keys }, ty, at))
    }
}

/// The keys of a path.
pub(super) fn keys_of(names: &[Ident], at: Place) -> Result<Vec<String>, Fault> {
    if names.len() > KEYS_MAX || names.iter().any(|n| n.value.is_empty() || n.value.len() > NAME_BYTES_MAX) {
        let what = format!("a name has at most {KEYS_MAX} parts of 1 to {NAME_BYTES_MAX} bytes");
        return Err(Fault::new(at, what));
    }
    Ok(names.iter().map(|name| name.value.clone()).collect())
}

/// The text of a constant in quotes.
pub(super) fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Expr::Nested(of) => text_of(of),
        _ => None,
    }
}

fn constant(value: &Value, at: Place) -> Lowered {
    match value {
        Value::Number(text, _) => {
            let number: Amount =
                text.parse().map_err(|error| Fault::new(at, format!("{text} is {error}")))?;
            Ok(Node::literal(Scalar::Number(number), at))
        }
        Value::SingleQuotedString(text) => Ok(Node::literal(Scalar::Text(Cow::Owned(text.clone())), at)),
        Value::Boolean(b) => Ok(Node::literal(Scalar::Boolean(*b), at)),
        Value::Null => Ok(Node { kind: Kind::Null, ty: Type::Any, at }),
        _ => Err(Fault::new(at, "write texts in single quotes, and numbers in decimal")),
    }
}

/// The length of an INTERVAL.
fn interval_of(interval: &sqlparser::ast::Interval, at: Place) -> Lowered {
    if interval.leading_precision.is_some() || interval.last_field.is_some() {
        return Err(Fault::new(at, "write an interval as INTERVAL '90 days'"));
    }
    let number = match &*interval.value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => text,
            _ => return Err(Fault::new(at, "write an interval as INTERVAL '90 days'")),
        },
        _ => return Err(Fault::new(at, "write an interval as INTERVAL '90 days'")),
    };
    let text = match &interval.leading_field {
        Some(field) => format!("{number} {field}"),
        None => number.clone(),
    };
    let micros = duration::micros(&text).map_err(|what| Fault::new(at, what))?;
    Ok(Node::literal(Scalar::Interval(micros), at))
}

/// A length of time, as a text or as an INTERVAL.
pub(super) fn length_of(expr: &Expr, at: Place) -> Result<i64, Fault> {
    match expr {
        Expr::Interval(interval) => match interval_of(interval, at)?.kind {
            Kind::Literal(Scalar::Interval(micros)) => Ok(micros),
            _ => Err(Fault::new(at, "write a duration such as '30 days'")),
        },
        other => {
            let text = text_of(other).ok_or_else(|| Fault::new(at, "write a duration such as '30 days'"))?;
            duration::micros(text).map_err(|what| Fault::new(at, what))
        }
    }
}
