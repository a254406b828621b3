//! The tables that SQL sees, as columns made of the raw ones.
//!
//! A table is a list of [`Out`]s over one raw table; a scan makes those that are asked for and reads the raw columns that
//! they need. Most are the raw column itself. What costs something (ids as text, typed properties, anything out of a
//! profile's summary) is made only for a query that names it.
//!
//! A registered trait or property becomes a column unless a fixed column has its name already (without regard to case): then
//! it is read out of the JSON text as any other.

mod events;
mod facets;
mod profiles;
mod provider;
mod small;
mod system;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use isthmus_domain::SummaryMap;
use serde::{Deserialize, Serialize};

pub(crate) use events::{PROFILE_ID, events};
pub(crate) use facets::{founders, identifiers, raw as facet_raw};
pub(crate) use profiles::{ProfilesTable, profiles};
pub(crate) use provider::{ShardTable, asks_for_members, asks_for_names};
pub(crate) use small::{link_facts, member, quarantine, segment_members};
pub(crate) use system::{SYSTEM_TABLES, SystemTable};

use crate::{
    ids,
    seam::{Column, ColumnType, Table},
};

/// Digits of money and of registered numbers, and how many of them stand after the point.
pub(crate) const DECIMAL: (u8, i8) = (38, 8);

/// A column that a scan makes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Out {
    /// Its name.
    pub name: String,
    /// How.
    pub make: Make,
}

/// How a column is made of raw ones, which are named by their place in [`Table::schema`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) enum Make {
    /// As it is.
    Raw(usize),
    /// 16 bytes as 32 hexadecimal digits.
    Hex(usize),
    /// A home as the id of its profile.
    ProfileId(usize),
    /// The same as a number: see [`crate::ids`].
    ProfileNumber(usize),
    /// 16 bytes as a number.
    Number(usize),
    /// The number of a type of events as its name.
    EventType(usize),
    /// What stands under a key of a JSON text.
    Property(usize, Column),
    /// Of a facet that is a profile by itself.
    Profile(ProfileColumn),
    /// Of a facet that is one of several of its profile.
    Part(Part),
    /// What tells which facet of a profile was first: see [`crate::profiles::founder_key`].
    Founder,
}

/// A column of `profiles`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) enum ProfileColumn {
    /// The facet id of the founding identifier, as text.
    Id,
    /// A JSON list of objects with `namespace` and `value`.
    Identifiers,
    /// The time of the oldest event.
    FirstSeen,
    /// The time of the newest event.
    LastSeen,
    /// How many events.
    Events,
    /// A JSON object: `track` events by name.
    EventCounts,
    /// A JSON object: other events by type.
    TypeCounts,
    /// The sum in the cluster's currency.
    Revenue(String),
    /// A JSON object: sums as texts, by currency.
    RevenueByCurrency,
    /// A JSON list of sources.
    Sources,
    /// A JSON object of all traits.
    Traits,
    /// A registered trait.
    Trait(Column),
}

/// What a facet brings to a column of its profile.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Its sum in a currency, if a decimal can tell it exactly and many of its like can be added.
    Money(String),
    /// Its sum in a currency if not, as a summary with this map.
    LargeMoney(String),
    /// The newest of a trait, so that the largest is the newest: see [`crate::profiles::latest`].
    Latest(Column),
    /// Its summary with nothing but what a column shows.
    Summary(ProfileColumn),
    /// Its identifier: see [`crate::profiles::identifiers`].
    Identifier,
}

impl Part {
    fn data_type(&self) -> DataType {
        match self {
            Self::Money(_) => decimal(),
            _ => DataType::Binary,
        }
    }
}

impl ProfileColumn {
    /// The map of a summary that it shows, if it shows one.
    pub(crate) fn map(&self) -> Option<SummaryMap> {
        match self {
            Self::EventCounts => Some(SummaryMap::EventCounts),
            Self::TypeCounts => Some(SummaryMap::TypeCounts),
            Self::RevenueByCurrency => Some(SummaryMap::Revenue),
            Self::Sources => Some(SummaryMap::Sources),
            Self::Traits => Some(SummaryMap::Traits),
            _ => None,
        }
    }

    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Id => DataType::Utf8View,
            Self::Identifiers
            | Self::EventCounts
            | Self::TypeCounts
            | Self::RevenueByCurrency
            | Self::Sources
            | Self::Traits => DataType::Utf8,
            Self::FirstSeen | Self::LastSeen => time(),
            Self::Events => DataType::Int64,
            Self::Revenue(_) => decimal(),
            Self::Trait(column) => type_of(column.ty),
        }
    }

    pub(crate) fn is_nullable(&self) -> bool {
        matches!(self, Self::FirstSeen | Self::LastSeen | Self::Trait(_) | Self::Revenue(_))
    }
}

impl Out {
    pub(crate) fn new(name: impl Into<String>, make: Make) -> Self {
        Self { name: name.into(), make }
    }

    /// The column as a field.
    pub(crate) fn field(&self, table: Table) -> Field {
        let raw = |place: usize| table.schema().fields().get(place).cloned();
        let like = |place: usize, ty: DataType| {
            Field::new(&self.name, ty, raw(place).is_none_or(|f| f.is_nullable()))
        };
        match &self.make {
            Make::Raw(place) => {
                let ty = raw(*place).map_or(DataType::Null, |field| field.data_type().clone());
                let ty = match ty {
                    // SQL's integers have signs.
                    DataType::UInt64 | DataType::UInt32 => DataType::Int64,
                    // What the engine groups and compares by views, which are short.
                    DataType::Dictionary(..) => DataType::Utf8View,
                    ty => ty,
                };
                like(*place, ty)
            }
            Make::Hex(place) | Make::ProfileId(place) | Make::EventType(place) => {
                like(*place, DataType::Utf8View)
            }
            Make::Property(_, column) => Field::new(&self.name, type_of(column.ty), true),
            Make::ProfileNumber(place) | Make::Number(place) => like(*place, ids::number_type()),
            Make::Profile(column) => Field::new(&self.name, column.data_type(), column.is_nullable()),
            Make::Part(part) => Field::new(&self.name, part.data_type(), true),
            Make::Founder => Field::new(&self.name, DataType::Binary, true),
        }
    }

    /// Whether it is made by the shard, of raw columns that don't change: then a shard may keep it.
    pub(crate) fn is_derived(&self) -> bool {
        matches!(&self.make, Make::Property(..) | Make::Profile(_) | Make::Part(_) | Make::Founder)
    }

    /// The raw columns that it needs.
    pub(crate) fn needs(&self) -> Vec<usize> {
        match &self.make {
            Make::Raw(place)
            | Make::Hex(place)
            | Make::ProfileId(place)
            | Make::ProfileNumber(place)
            | Make::Number(place)
            | Make::EventType(place)
            | Make::Property(place, _) => vec![*place],
            Make::Profile(column) => profiles::needs(column),
            Make::Part(Part::Identifier) => profiles::needs(&ProfileColumn::Identifiers),
            Make::Part(_) => vec![facet_raw::SUMMARY],
            Make::Founder => facets::FOUNDER_NEEDS.to_vec(),
        }
    }

    /// The same with a number where it gives a profile's name; `None` where it doesn't.
    pub(crate) fn with_number(&self) -> Option<Self> {
        let make = match &self.make {
            Make::ProfileId(place) => Make::ProfileNumber(*place),
            Make::Profile(ProfileColumn::Id) => Make::Number(facet_raw::FACET),
            _ => return None,
        };
        Some(Self { name: self.name.clone(), make })
    }

    /// Whether it is made with the names of profiles.
    pub(crate) fn needs_names(&self) -> bool {
        matches!(self.make, Make::ProfileId(_) | Make::ProfileNumber(_))
    }
}

/// What people get of a schema: texts are plain.
pub(crate) fn told(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(field).collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

/// The columns as a schema.
pub(crate) fn schema_of(table: Table, outs: &[Out]) -> SchemaRef {
    Arc::new(Schema::new(outs.iter().map(|out| out.field(table)).collect::<Vec<_>>()))
}

/// A point in time.
pub(crate) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A decimal.
pub(crate) fn decimal() -> DataType {
    DataType::Decimal128(DECIMAL.0, DECIMAL.1)
}

/// The type of a registered trait's or property's column.
pub(crate) fn type_of(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Text => DataType::Utf8View,
        ColumnType::Number => decimal(),
        ColumnType::Integer => DataType::Int64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Time => time(),
    }
}

/// Those whose name no fixed column has, each name once.
fn registered(fixed: &[Out], columns: &[Column], make: impl Fn(Column) -> Make) -> Vec<Out> {
    let mut known: std::collections::BTreeSet<String> =
        fixed.iter().map(|out| out.name.to_lowercase()).collect();
    let free = columns.iter().filter(|column| known.insert(column.name.to_lowercase()));
    free.map(|column| Out::new(column.name.clone(), make(column.clone()))).collect()
}
