//! Types of nodes: from what stands around them.

use isthmus_domain::{event::time_of, value::Value};
use sqlparser::ast::{DataType, Expr};

use super::lower::{Lower, Lowered};
use crate::{
    fault::{Fault, Place},
    scalar::{Scalar, Type},
    tree::{Fact, Function, Kind, Node, Operator},
};

const UNDECIDED: &str =
    "nothing here says what type this is: write CAST(… AS TEXT), NUMERIC, BOOLEAN or TIMESTAMP";

impl Lower<'_> {
    /// Makes a node be of a type, if it can be read so.
    pub(super) fn settle(&self, node: &mut Node, ty: Type) -> Result<(), Fault> {
        if node.ty == ty {
            return Ok(());
        }
        if let (Kind::Literal(Scalar::Text(text)), Type::Time) = (&node.kind, ty) {
            *node = time(text, node.at)?;
            return Ok(());
        }
        let wrong = |node: &Node| {
            let hint = match (node.ty, ty) {
                (Type::Text, Type::Number) => ": write the number without quotes",
                (Type::Any, Type::Interval) => ": write an interval as INTERVAL '90 days'",
                (Type::Text, Type::Interval) => ": write INTERVAL in front of it",
                (Type::Number, Type::Text) => ": write it in single quotes",
                _ => "",
            };
            let what = format!("this is a {}, and a {} is needed here{hint}", node.ty.name(), ty.name());
            Err(Fault::new(node.at, what))
        };
        if node.ty != Type::Any || ty == Type::Interval {
            return wrong(node);
        }
        match &mut node.kind {
            Kind::Null => {}
            Kind::Read(read) => match &mut read.fact {
                Fact::Property(_) if ty == Type::List => return wrong(node),
                Fact::Aggregate(_) if ty == Type::List => return wrong(node),
                Fact::Aggregate(aggregate) => aggregate.of_type = ty,
                _ => {}
            },
            Kind::Coalesce(nodes) if ty != Type::List => {
                for node in nodes {
                    self.settle(node, ty)?;
                }
            }
            _ => return wrong(node),
        }
        node.ty = ty;
        Ok(())
    }

    /// Makes two nodes be of one type that can be compared.
    pub(super) fn unify(&self, left: &mut Node, right: &mut Node) -> Result<(), Fault> {
        for node in [&*left, &*right] {
            if matches!(node.kind, Kind::Null) {
                let what = "comparing with NULL is never true: write IS NULL or IS NOT NULL";
                return Err(Fault::new(node.at, what));
            }
            if node.ty == Type::List {
                return Err(Fault::new(node.at, "a list can't be compared: write contains(list, value)"));
            }
        }
        match (left.ty, right.ty) {
            (Type::Any, Type::Any) => Err(Fault::new(left.at, UNDECIDED)),
            (Type::Any, ty) => self.settle(left, ty),
            (Type::Text, Type::Time) => self.settle(left, Type::Time),
            (ty, _) => self.settle(right, ty),
        }
    }

    pub(super) fn arithmetic(&mut self, op: Operator, left: &Expr, right: &Expr, at: Place) -> Lowered {
        let (mut left, mut right) = (self.node(left)?, self.node(right)?);
        use Type::{Any, Interval, Number, Text, Time};
        let (l, r, gives) = match (op, left.ty, right.ty) {
            (Operator::Add, Time | Any | Text, Interval) => (Time, Interval, Time),
            (Operator::Add, Interval, Time | Any | Text) => (Interval, Time, Time),
            (Operator::Subtract, Time | Any | Text, Interval) => (Time, Interval, Time),
            (Operator::Subtract, Time, Time | Any | Text) | (Operator::Subtract, Any | Text, Time) => {
                (Time, Time, Interval)
            }
            (Operator::Add | Operator::Subtract, Interval, Interval) => (Interval, Interval, Interval),
            _ => (Number, Number, Number),
        };
        self.settle(&mut left, l)?;
        self.settle(&mut right, r)?;
        let kind = Kind::Arithmetic { op, left: Box::new(left), right: Box::new(right) };
        Ok(Node { kind, ty: gives, at })
    }

    /// Gives all nodes one type, if one of them has one.
    pub(super) fn alike(&self, nodes: &mut [Node]) -> Result<Type, Fault> {
        let ty = nodes.iter().map(|node| node.ty).find(|ty| *ty != Type::Any).unwrap_or(Type::Any);
        if ty != Type::Any {
            nodes.iter_mut().try_for_each(|node| self.settle(node, ty))?;
        }
        Ok(ty)
    }
}

/// As what the values of a function are read where nobody says: numbers are added up, the rest is compared by what
/// stands around it.
pub(crate) fn default_type(function: Function) -> Type {
    match function {
        Function::Sum | Function::Average => Type::Number,
        Function::Count | Function::DistinctCount | Function::DistinctList => Type::Text,
        Function::Min | Function::Max | Function::First | Function::Last | Function::MostFrequent => {
            Type::Any
        }
    }
}

/// A time as a constant.
pub(super) fn time(text: &str, at: Place) -> Lowered {
    let micros = time_of(&Value::from(text));
    let what = || format!("'{text}' is no time: write one such as '2024-05-31T18:00:00Z', or a date");
    Ok(Node::literal(Scalar::Time(micros.ok_or_else(|| Fault::new(at, what()))?), at))
}

/// The type that CAST names.
pub(super) fn named(data_type: &DataType, at: Place) -> Result<Type, Fault> {
    match data_type {
        DataType::Text | DataType::String(_) | DataType::Varchar(_) | DataType::Char(_) => Ok(Type::Text),
        DataType::Numeric(_)
        | DataType::Decimal(_)
        | DataType::Int(_)
        | DataType::Integer(_)
        | DataType::BigInt(_)
        | DataType::Float(_)
        | DataType::Double(_)
        | DataType::Real => Ok(Type::Number),
        DataType::Boolean | DataType::Bool => Ok(Type::Boolean),
        DataType::Timestamp(..) | DataType::Date => Ok(Type::Time),
        other => {
            let what = format!("{other} is no type here: write TEXT, NUMERIC, BOOLEAN or TIMESTAMP");
            Err(Fault::new(at, what))
        }
    }
}
