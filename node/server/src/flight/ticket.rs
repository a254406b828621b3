//! Tickets: a statement with the values of its parameters, and a name for whoever cancels it.
//!
//! A ticket is read by any node, so its values travel with it as an Arrow stream. What reads such streams trusts their
//! lengths, down to asking for memory that no machine has. So a ticket bears a seal of the cluster, and nothing is read of
//! one that this cluster hasn't written.

use std::{
    io::Cursor,
    sync::atomic::{AtomicU64, Ordering},
};

use arrow::{
    array::RecordBatch,
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use isthmus_domain::IdentityKey;
use isthmus_proto::internal::v1::FlightTicket;
use isthmus_query::{ParamValues, ScalarValue};
use prost::Message as _;
use tonic::Code;

use crate::grpc::status::Refusal;

/// The name of a query.
pub type Id = [u8; 16];

/// Bytes of a seal, in front of what it seals.
const SEAL_BYTES: usize = 32;

/// The most parameters of a statement.
const PARAMETERS_MAX: usize = 1_000;

/// A statement that rows are to be had of.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    id: Id,
    ticket: FlightTicket,
}

impl Named {
    /// A statement under a new name.
    pub fn new(sql: String, parameters: Vec<u8>) -> Self {
        let id = new_id();
        let ticket = FlightTicket { id: id.to_vec().into(), sql, parameters: parameters.into() };
        Self { id, ticket }
    }

    /// As it stands in a ticket of the cluster with this key.
    pub fn encode(&self, key: &IdentityKey) -> Vec<u8> {
        let ticket = self.ticket.encode_to_vec();
        [seal(key, &ticket).as_bytes(), ticket.as_slice()].concat()
    }

    /// Reads a ticket of the cluster with this key.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `INVALID_TICKET`.
    pub fn decode(handle: &[u8], key: &IdentityKey) -> Result<Self, Refusal> {
        let wrong = || {
            let message = "this is no ticket of this hub: hand back the one that GetFlightInfo answered with";
            Refusal::new(Code::InvalidArgument, "INVALID_TICKET", message)
        };
        let (sealed, ticket) = handle.split_first_chunk::<SEAL_BYTES>().ok_or_else(wrong)?;
        // Compared in a time that tells nothing.
        if seal(key, ticket) != *sealed {
            return Err(wrong());
        }
        let ticket = FlightTicket::decode(ticket).map_err(|_| wrong())?;
        let id = Id::try_from(ticket.id.as_ref()).map_err(|_| wrong())?;
        Ok(Self { id, ticket })
    }

    /// Its name.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The statement.
    pub fn sql(&self) -> &str {
        &self.ticket.sql
    }

    /// The values of its parameters.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `INVALID_TICKET`.
    pub fn parameters(&self) -> Result<ParamValues, Refusal> {
        let wrong = |_| {
            Refusal::new(Code::InvalidArgument, "INVALID_TICKET", "the ticket's parameters can't be read")
        };
        values(&self.ticket.parameters).map_err(wrong)
    }
}

/// BLAKE3 under a key of its own, derived from the cluster's.
fn seal(key: &IdentityKey, ticket: &[u8]) -> blake3::Hash {
    let key = blake3::derive_key("Isthmus 2026-11-24 seals of Flight SQL tickets", key.as_bytes());
    blake3::keyed_hash(&key, ticket)
}

/// 16 random bytes. Numbers stand in where the system has none to give: names need not be secret, only differ.
pub fn new_id() -> Id {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut id = Id::default();
    if getrandom::fill(&mut id).is_err() {
        id = u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
    }
    id
}

/// Values of parameters, as they are kept: nothing, or a stream of one row.
///
/// # Errors
/// INVALID_ARGUMENT `INVALID_PARAMETER` for several rows, or too many columns.
pub fn kept(batch: Option<&RecordBatch>) -> Result<Vec<u8>, Refusal> {
    let refused = |what: &str| Refusal::new(Code::InvalidArgument, "INVALID_PARAMETER", what);
    let Some(batch) = batch.filter(|batch| batch.num_columns() > 0) else { return Ok(Vec::new()) };
    if batch.num_rows() != 1 {
        return Err(refused(
            "bind one row of values: a statement is run once for each time that it is asked for",
        ));
    }
    if batch.num_columns() > PARAMETERS_MAX {
        return Err(refused("a statement has at most 1,000 parameters"));
    }
    written(batch).map_err(|error| refused(&format!("these values can't be kept: {error}")))
}

fn written(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.into_inner()
}

/// The values again, by their places.
fn values(kept: &[u8]) -> Result<ParamValues, ArrowError> {
    if kept.is_empty() {
        return Ok(ParamValues::from(Vec::<ScalarValue>::new()));
    }
    let mut values = Vec::new();
    for batch in StreamReader::try_new(Cursor::new(kept), None)? {
        let batch = batch?;
        if batch.num_rows() != 1 || !values.is_empty() {
            return Err(ArrowError::InvalidArgumentError("not one row".to_owned()));
        }
        for column in batch.columns() {
            let value = ScalarValue::try_from_array(column, 0);
            values.push(value.map_err(|error| ArrowError::ExternalError(Box::new(error)))?);
        }
    }
    Ok(ParamValues::from(values))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    const KEY: IdentityKey = IdentityKey::new([7; 32]);

    fn row(rows: usize) -> RecordBatch {
        let columns: [(&str, ArrayRef); 2] = [
            ("1", Arc::new(Int64Array::from(vec![5; rows]))),
            ("2", Arc::new(StringArray::from(vec![None::<&str>; rows]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, of)| (name, of, true)))
            .unwrap()
    }

    #[test]
    fn a_ticket_is_read_back_with_its_values() {
        let kept = kept(Some(&row(1))).unwrap();
        let named = Named::new("SELECT $1, $2".to_owned(), kept);
        let back = Named::decode(&named.encode(&KEY), &KEY).unwrap();
        assert_eq!(back, named);
        let ParamValues::List(values) = back.parameters().unwrap() else { panic!() };
        let values: Vec<ScalarValue> = values.iter().map(|value| value.value().clone()).collect();
        assert_eq!(values, [ScalarValue::Int64(Some(5)), ScalarValue::Utf8(None)]);
        assert_ne!(Named::new(String::new(), Vec::new()).id(), named.id());
    }

    #[test]
    fn one_row_is_bound_and_no_other_number() {
        assert!(kept(Some(&row(2))).is_err() && kept(Some(&row(0))).is_err());
        assert_eq!(kept(None).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn only_what_the_cluster_has_sealed_is_read() {
        let named = Named::new("SELECT $1, $2".to_owned(), kept(Some(&row(1))).unwrap());
        let sealed = named.encode(&KEY);
        assert!(Named::decode(&sealed, &IdentityKey::new([8; 32])).is_err(), "another cluster's");
        assert!(Named::decode(&sealed[SEAL_BYTES..], &KEY).is_err(), "nobody's");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(Named::decode(&changed, &KEY).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_as_a_ticket_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Named::decode(&bytes, &KEY).is_err());
        }
    }
}
