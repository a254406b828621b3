//! A mapping bound to a table's columns: rows become events without looking a name up.

use std::{cell::RefCell, collections::BTreeMap};

use super::{
    cell::{CellType, TimeFormat},
    mapping::{Mapping, MappingError, Text, event_type},
    record::Record,
};
use crate::proto::{Event, EventType, Identifier, Value};

/// What to do with each row.
#[derive(Debug)]
pub(crate) struct Plan {
    columns: Vec<String>,
    kind: Cell<EventType>,
    name: Option<Cell<String>>,
    message_id: Option<usize>,
    previous_id: Option<usize>,
    group_id: Option<usize>,
    timestamp: Option<(usize, TimeFormat)>,
    identifiers: Vec<(String, usize)>,
    properties: Vec<(String, usize, CellType)>,
    traits: Vec<(String, usize, CellType)>,
}

/// The same for all rows, or by a column.
#[derive(Debug)]
enum Cell<T> {
    Constant(T),
    Column(usize),
}

impl Plan {
    /// Finds the mapping's columns among the header's, or among those that the mapping names itself.
    pub(crate) fn bind(mapping: &Mapping, header: &[String]) -> Result<Self, MappingError> {
        let columns = mapping.columns().unwrap_or(header);
        let find = |name: &str, at: usize| -> Result<usize, MappingError> {
            let name = name.trim();
            let mut places = columns.iter().enumerate().filter(|(_, column)| column.trim() == name);
            match (places.next(), places.next()) {
                (Some((index, _)), None) => Ok(index),
                (Some(_), Some(_)) => Err(mapping.error(at, format!("there are several columns `{name}`"))),
                (None, _) => {
                    let there =
                        columns.iter().take(50).map(|column| column.trim()).collect::<Vec<_>>().join(", ");
                    Err(mapping.error(at, format!("there is no column `{name}`; there are: {there}")))
                }
            }
        };
        Ok(Self { columns: columns.to_vec(), ..Self::with(mapping, find)? })
    }

    /// Takes every column that the mapping names to be there: rows that lack it have nothing in it.
    pub(crate) fn bind_open(mapping: &Mapping) -> Result<Self, MappingError> {
        let columns = RefCell::new(Vec::<String>::new());
        let plan = Self::with(mapping, |name, _| {
            let (name, mut columns) = (name.trim(), columns.borrow_mut());
            let known = columns.iter().position(|column| column == name);
            Ok(known.unwrap_or_else(|| {
                columns.push(name.to_owned());
                columns.len() - 1
            }))
        })?;
        Ok(Self { columns: columns.into_inner(), ..plan })
    }

    /// The columns' names, by their numbers.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The numbers of the columns that events are made of.
    pub(crate) fn used(&self) -> impl Iterator<Item = usize> {
        let by_column =
            |cell: &Cell<String>| if let Cell::Column(index) = cell { Some(*index) } else { None };
        let kind = if let Cell::Column(index) = self.kind { Some(index) } else { None };
        let single = [kind, self.name.as_ref().and_then(by_column), self.message_id, self.previous_id];
        let single =
            single.into_iter().chain([self.group_id, self.timestamp.as_ref().map(|(index, _)| *index)]);
        let values = self.properties.iter().chain(&self.traits).map(|(_, index, _)| *index);
        single.flatten().chain(values).chain(self.identifiers.iter().map(|(_, index)| *index))
    }

    fn with(
        mapping: &Mapping,
        find: impl Fn(&str, usize) -> Result<usize, MappingError>,
    ) -> Result<Self, MappingError> {
        let spanned = |name: &Option<toml::Spanned<String>>| {
            name.as_ref().map(|name| find(name.get_ref(), name.span().start)).transpose()
        };
        let document = mapping.document();
        let at = document.kind.span().start;
        let kind = match document.kind.get_ref() {
            Text::Constant(name) => Cell::Constant(
                event_type(name).ok_or_else(|| mapping.error(at, "`type` isn't an event's type"))?,
            ),
            Text::Column(text) => Cell::Column(find(&text.column, at)?),
        };
        let name = match &document.event {
            None => None,
            Some(event) => Some(match event.get_ref() {
                Text::Constant(name) => Cell::Constant(name.clone()),
                Text::Column(text) => Cell::Column(find(&text.column, event.span().start)?),
            }),
        };
        let fields = |fields: &BTreeMap<String, toml::Spanned<super::mapping::Field>>| {
            let bind = |(name, field): (&String, &toml::Spanned<super::mapping::Field>)| {
                let (column, at, cell) = mapping.field(field)?;
                Ok((name.clone(), find(column, at)?, cell))
            };
            fields.iter().map(bind).collect::<Result<Vec<_>, MappingError>>()
        };
        Ok(Self {
            kind,
            name,
            message_id: spanned(&document.message_id)?,
            previous_id: spanned(&document.previous_id)?,
            group_id: spanned(&document.group_id)?,
            timestamp: match mapping.time()? {
                Some((column, at, format)) => Some((find(column, at)?, format)),
                None => None,
            },
            identifiers: document
                .identifiers
                .iter()
                .map(|(namespace, column)| {
                    Ok((namespace.clone(), find(column.get_ref(), column.span().start)?))
                })
                .collect::<Result<_, MappingError>>()?,
            properties: fields(&document.properties)?,
            traits: fields(&document.traits)?,
            columns: Vec::new(),
        })
    }

    /// The event of a row. Its message id is empty when the row has none.
    pub(crate) fn event(&self, row: &impl Record) -> Result<Event, String> {
        if let Some(problem) = row.problem(self.columns.len()) {
            return Err(problem);
        }
        let cell = |index: usize| {
            let text = row.cell(index).and_then(|cell| cell.into_text());
            text.map_err(|problem| self.problem(index, problem))
        };
        let optional = |index: Option<usize>| {
            Ok::<_, String>(index.map(cell).transpose()?.unwrap_or_default().into_owned())
        };
        let kind = match self.kind {
            Cell::Constant(kind) => kind,
            Cell::Column(index) => {
                event_type(&cell(index)?).ok_or_else(|| self.problem(index, "isn't an event's type"))?
            }
        };
        let mut event = Event {
            r#type: kind.into(),
            name: match &self.name {
                None => String::new(),
                Some(Cell::Constant(name)) => name.clone(),
                Some(Cell::Column(index)) => cell(*index)?.into_owned(),
            },
            message_id: optional(self.message_id)?,
            previous_id: optional(self.previous_id)?,
            group_id: optional(self.group_id)?,
            properties: self.values(&self.properties, row)?,
            traits: self.values(&self.traits, row)?,
            ..Event::default()
        };
        if let Some((index, format)) = &self.timestamp {
            event.timestamp =
                Some(format.read(&cell(*index)?).map_err(|problem| self.problem(*index, problem))?);
        }
        for (namespace, index) in &self.identifiers {
            let value = cell(*index)?.into_owned();
            match namespace.as_str() {
                _ if value.is_empty() => {}
                "user_id" | "userId" => event.user_id = value,
                "anonymous_id" | "anonymousId" => event.anonymous_id = value,
                _ => event.identifiers.push(Identifier { namespace: namespace.clone(), value }),
            }
        }
        Ok(event)
    }

    /// The values of the cells that aren't empty.
    fn values(
        &self,
        fields: &[(String, usize, CellType)],
        row: &impl Record,
    ) -> Result<BTreeMap<String, Value>, String> {
        let mut values = BTreeMap::new();
        for (name, index, kind) in fields {
            let value = row.cell(*index).and_then(|cell| kind.of(cell));
            if let Some(value) = value.map_err(|problem| self.problem(*index, problem))? {
                values.insert(name.clone(), value);
            }
        }
        Ok(values)
    }

    /// A problem with a cell: its column, never its content.
    fn problem(&self, index: usize, problem: &str) -> String {
        format!("column `{}` {problem}", self.columns.get(index).map_or("", |column| column.trim()))
    }
}
