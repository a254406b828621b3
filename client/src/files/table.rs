//! Rows of Parquet as items: by a mapping, or as the JSON line that says the same.
//!
//! The id of a row that has none is made of its number and of all its columns, whatever a mapping takes of them. So it
//! stays the same under another mapping.

use std::{fs::File, io};

use bytes::BytesMut;
use prost::Message as _;

use super::{
    ITEM_BYTES_MAX, Mapping, MappingError, Mark, OpenError,
    columnar::{Column, Table},
    plan::Plan,
    text::{json_item, unreadable},
};
use crate::{message_id, proto::ingest_item::Body};

/// A Parquet file under way.
pub(super) struct TableRows {
    table: Table,
    columns: Vec<Column>,
    plan: Option<Plan>,
    hash: blake3::Hasher,
    chunk: BytesMut,
}

impl TableRows {
    pub(super) fn open(file: File, mapping: Option<&Mapping>) -> Result<Self, OpenError> {
        let table = Table::open(file)?;
        let columns = table.columns();
        let plan = mapping.map(|mapping| bind(mapping, &columns)).transpose()?;
        let refused = match &plan {
            Some(plan) => plan.used().filter_map(|index| columns.get(index)).find(|it| it.refused.is_some()),
            None => columns.iter().find(|column| column.refused.is_some()),
        };
        if let Some(column) = refused {
            let (name, why) = (&column.name, column.refused.unwrap_or_default());
            let advice = "leave it out by a --mapping, or write it as text";
            let what = format!("column `{name}` {why}, which events can't: {advice}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
        }
        Ok(Self { table, columns, plan, hash: blake3::Hasher::new(), chunk: BytesMut::new() })
    }

    pub(super) fn rows(&self) -> u64 {
        self.table.rows()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark::of(self.table.read(), &self.hash)
    }

    /// Passes a row; false at the end.
    pub(super) fn pass(&mut self) -> io::Result<bool> {
        let Some(row) = self.table.next_row()? else { return Ok(false) };
        self.hash.update(&row.json()?).update(b"\n");
        Ok(true)
    }

    /// The next row as an item's body; nothing at the end.
    pub(super) fn next_body(&mut self, dataset: &str) -> io::Result<Option<(u64, Body)>> {
        let number = self.table.read() + 1;
        let Some(row) = self.table.next_row()? else { return Ok(None) };
        let text = row.json()?;
        self.hash.update(&text).update(b"\n");
        let too_long =
            |length: usize| format!("the row has {length} bytes; at most {ITEM_BYTES_MAX} are taken");
        let body = match &self.plan {
            None if text.len() > ITEM_BYTES_MAX => {
                unreadable(&text, "application/json", too_long(text.len()))
            }
            None => json_item(number, &text, dataset, &mut self.chunk),
            Some(plan) => match plan.event(&row.of(&self.columns)) {
                Err(problem) => unreadable(&text, "application/json", problem),
                Ok(event) if event.encoded_len() > ITEM_BYTES_MAX => {
                    unreadable(&text, "application/json", too_long(event.encoded_len()))
                }
                Ok(mut event) => {
                    if event.message_id.is_empty() {
                        event.message_id = message_id::of_row(dataset, number, &text);
                    }
                    Body::Event(event)
                }
            },
        };
        Ok(Some((number, body)))
    }
}

fn bind(mapping: &Mapping, columns: &[Column]) -> Result<Plan, MappingError> {
    if let Some(error) = mapping.only_for_csv() {
        return Err(error);
    }
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    Plan::bind(mapping, &names)
}
