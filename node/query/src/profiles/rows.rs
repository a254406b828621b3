//! Columns of profiles, row by row.

use std::{collections::BTreeSet, sync::Arc};

use arrow::array::{
    ArrayRef, Decimal128Builder, Int64Builder, StringBuilder, StringViewBuilder, TimestampMicrosecondBuilder,
};
use isthmus_domain::{Amount, FacetId, facet::Summary, value::write_json_string};

use crate::{
    tables::{ProfileColumn, decimal},
    values::{Typed, to_decimal},
};

/// What is known of a profile when its row is written.
pub(crate) struct Person<'a> {
    pub id: FacetId,
    /// By priority, then value.
    pub identifiers: &'a BTreeSet<isthmus_domain::Identifier>,
    pub first_seen: Option<i64>,
    pub last_seen: Option<i64>,
    pub events: u64,
    pub summary: &'a Summary<'a>,
}

impl<'a> Person<'a> {
    /// One of whom nothing else is asked.
    pub(crate) fn of(
        summary: &'a Summary<'a>,
        identifiers: &'a BTreeSet<isthmus_domain::Identifier>,
    ) -> Self {
        Self { id: FacetId::default(), identifiers, first_seen: None, last_seen: None, events: 0, summary }
    }
}

/// Builds columns of profiles.
pub(crate) struct Builder {
    columns: Vec<(ProfileColumn, Out)>,
}

enum Out {
    Id(StringViewBuilder),
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Integer(Int64Builder),
    Decimal(Decimal128Builder),
    Typed(Typed),
}

impl Builder {
    pub(crate) fn new(columns: impl IntoIterator<Item = ProfileColumn>, rows: usize) -> Self {
        let out = |column: &ProfileColumn| match column {
            ProfileColumn::FirstSeen | ProfileColumn::LastSeen => {
                Out::Time(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
            ProfileColumn::Id => Out::Id(StringViewBuilder::with_capacity(rows)),
            ProfileColumn::Events => Out::Integer(Int64Builder::with_capacity(rows)),
            ProfileColumn::Revenue(_) => {
                Out::Decimal(Decimal128Builder::with_capacity(rows).with_data_type(decimal()))
            }
            ProfileColumn::Trait(column) => Out::Typed(Typed::new(column.ty, rows)),
            _ => Out::Text(StringBuilder::with_capacity(rows, rows * 64)),
        };
        let columns = columns.into_iter().map(|column| {
            let out = out(&column);
            (column, out)
        });
        Self { columns: columns.collect() }
    }

    pub(crate) fn push(&mut self, person: &Person<'_>) {
        for (column, out) in &mut self.columns {
            match (column, out) {
                (ProfileColumn::FirstSeen, Out::Time(out)) => out.append_option(person.first_seen),
                (ProfileColumn::LastSeen, Out::Time(out)) => out.append_option(person.last_seen),
                (_, Out::Id(out)) => out.append_value(person.id.to_string()),
                (_, Out::Integer(out)) => out.append_value(i64::try_from(person.events).unwrap_or(i64::MAX)),
                (ProfileColumn::Revenue(currency), Out::Decimal(out)) => {
                    let none = Amount::zero();
                    let sum = person.summary.revenue().get(currency.as_str()).unwrap_or(&none);
                    out.append_option(to_decimal(sum));
                }
                (ProfileColumn::Trait(column), Out::Typed(out)) => {
                    let state =
                        person.summary.traits().get(column.name.as_str()).filter(|state| !state.is_removed());
                    out.append(state.and_then(|state| std::str::from_utf8(&state.value).ok()), &[]);
                }
                (column, Out::Text(out)) => out.append_value(text(column, person)),
                (_, Out::Time(out)) => out.append_null(),
                (_, Out::Decimal(out)) => out.append_null(),
                (_, Out::Typed(out)) => out.append(None, &[]),
            }
        }
    }

    /// The columns, in the order that they were named in.
    pub(crate) fn finish(&mut self) -> Vec<ArrayRef> {
        let finish = |(_, out): &mut (ProfileColumn, Out)| -> ArrayRef {
            match out {
                Out::Id(out) => Arc::new(out.finish()),
                Out::Text(out) => Arc::new(out.finish()),
                Out::Time(out) => Arc::new(out.finish().with_timezone("UTC")),
                Out::Integer(out) => Arc::new(out.finish()),
                Out::Decimal(out) => Arc::new(out.finish()),
                Out::Typed(out) => out.finish(),
            }
        };
        self.columns.iter_mut().map(finish).collect()
    }
}

/// A column that is a text.
pub(crate) fn text(column: &ProfileColumn, person: &Person<'_>) -> String {
    let summary = person.summary;
    let mut out = Vec::with_capacity(64);
    match column {
        ProfileColumn::Identifiers => list(&mut out, person.identifiers, |out, identifier| {
            out.extend_from_slice(b"{\"namespace\":");
            write_json_string(identifier.namespace().as_str(), out);
            out.extend_from_slice(b",\"value\":");
            write_json_string(identifier.value(), out);
            out.push(b'}');
        }),
        ProfileColumn::EventCounts => {
            object(&mut out, summary.event_counts().iter().map(|(name, n)| (&**name, n)), |out, n| {
                out.extend_from_slice(n.to_string().as_bytes());
            });
        }
        ProfileColumn::TypeCounts => {
            object(&mut out, summary.type_counts().map(|(kind, n)| (kind.name(), n)), |out, n| {
                out.extend_from_slice(n.to_string().as_bytes());
            })
        }
        ProfileColumn::RevenueByCurrency => {
            object(&mut out, summary.revenue().iter().map(|(name, sum)| (&**name, sum)), |out, sum| {
                write_json_string(&sum.to_string(), out);
            });
        }
        ProfileColumn::Sources => {
            list(&mut out, summary.sources().iter(), |out, (name, _)| write_json_string(name, out))
        }
        ProfileColumn::Traits => {
            let shown = summary.traits().iter().filter(|(_, state)| !state.is_removed());
            object(&mut out, shown.map(|(name, state)| (&**name, &state.value)), |out, value| {
                out.extend_from_slice(value)
            });
        }
        _ => return person.id.to_string(),
    }
    // All that was put in is text.
    String::from_utf8(out).unwrap_or_default()
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn object<'a, V>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (&'a str, V)>,
    mut write: impl FnMut(&mut Vec<u8>, V),
) {
    out.push(b'{');
    for (i, (key, value)) in members.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_json_string(key, out);
        out.push(b':');
        write(out, value);
    }
    out.push(b'}');
}
