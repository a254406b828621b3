//! What comes from outside as bytes, read as the doors read it, without a node: for the fuzz targets (`tests/fuzz`).
//!
//! Nothing here is another way in. Each function calls what a door calls, in its order, up to where a shard would be
//! asked, and hands on what was made of the bytes, so that a target can check it.

use std::{sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use axum::{body::Body, http::HeaderMap, response::IntoResponse as _};
use bytes::Bytes;
use isthmus_domain::{AcceptContext, IdentityKey, Slot};
use isthmus_proto::{internal::v1::CommandItem, v1::IngestItem};
use isthmus_quality::Registry;
use isthmus_query::ParamValues;
use isthmus_router::FeedPosition;
use tokio::time::Instant;

use crate::{
    fault::{Fault as _, Refusal},
    flight::ticket::{self, Named},
    grpc::{cursor, profile::watch},
    http,
    intake::{self, Prepared},
};

pub use crate::{
    grpc::cursor::Kind as CursorKind,
    intake::{EVENT_CONTENT_TYPE, typed_fields},
};

/// How long a body may take to come.
const BODY_MAX: Duration = Duration::from_secs(10);

/// The events of an HTTP request, and when it says that it was sent (microseconds since 1970). `None`: the path takes no
/// events.
///
/// # Errors
/// The status and the body of the answer.
pub async fn http_events(
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Option<Result<(Option<i64>, Vec<IngestItem>), (u16, Bytes)>> {
    let read = http::read_events(path, headers, Body::from(body), Instant::now() + BODY_MAX).await?;
    let failure = match read {
        Ok(read) => return Some(Ok(read)),
        Err(failure) => failure.into_response(),
    };
    let status = failure.status().as_u16();
    let told = axum::body::to_bytes(failure.into_body(), usize::MAX).await.unwrap_or_default();
    Some(Err((status, told)))
}

/// An item that is ready for its shard, or refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// What goes to the shard of which slot; `None` for what a schema's policy rejects.
    pub command: Option<(Slot, CommandItem)>,
    /// Given or made; empty when it has none.
    pub message_id: String,
    /// Reason and sentence, if it goes to quarantine or is rejected.
    pub refused: Option<(String, String)>,
}

/// Makes items ready, as the intake does.
///
/// # Errors
/// The reason when there are too many.
pub fn ready(
    items: Vec<IngestItem>,
    context: &AcceptContext<'_>,
    registry: &Registry,
) -> Result<Vec<Ready>, String> {
    intake::check_count(items.len()).map_err(|refusal| reason(&refusal))?;
    let ready = |(attempt, item)| {
        let Prepared { routed, told } = intake::prepare(item, context, registry, attempt);
        Ready {
            command: routed.map(|routed| (routed.slot, routed.item)),
            message_id: told.message_id,
            refused: told.refused,
        }
    };
    Ok((1..).zip(items).map(ready).collect())
}

/// Reads a cursor of a list as each list would: which one it is of, and the place; `None` for no cursor.
///
/// # Errors
/// The reason, of a text that no list gave out.
pub fn page_cursor(text: &str) -> Result<Option<(CursorKind, Vec<u8>)>, String> {
    use CursorKind::{Pairs, Profiles, Quarantine, Timeline};
    let mut refused = String::new();
    for kind in [Profiles, Timeline, Quarantine, Pairs] {
        let place = match kind {
            Timeline => cursor::decode::<40>(kind, text).map(|place| place.map(|place| place.to_vec())),
            _ => cursor::decode::<16>(kind, text).map(|place| place.map(|place| place.to_vec())),
        };
        match place {
            Ok(place) => return Ok(place.map(|place| (kind, place))),
            Err(refusal) => refused = reason(&refusal),
        }
    }
    Err(refused)
}

/// The cursor of a place in a list.
pub fn page_cursor_of(kind: CursorKind, place: &[u8]) -> String {
    cursor::encode(kind, place)
}

/// Reads a cursor of the change feed.
///
/// # Errors
/// The reason, of a text that no watch of this cluster gave out.
pub fn watch_cursor(cluster: &[u8; 16], text: &str) -> Result<FeedPosition, String> {
    watch::cursor::decode(cluster, text).map_err(|refusal| reason(&refusal))
}

/// The cursor of a position in the change feed.
pub fn watch_cursor_of(cluster: &[u8; 16], position: &FeedPosition) -> String {
    watch::cursor::encode(cluster, position)
}

/// Reads a ticket of Flight SQL of the cluster with a key: written again, and how many values its statement has.
///
/// # Errors
/// The reason, of bytes that are no ticket of it.
pub fn flight_ticket(bytes: &[u8], key: &IdentityKey) -> Result<(Vec<u8>, usize), String> {
    let ticket = Named::decode(bytes, key).map_err(|refusal| reason(&refusal))?;
    let values = match ticket.parameters().map_err(|refusal| reason(&refusal))? {
        ParamValues::List(values) => values.len(),
        ParamValues::Map(values) => values.len(),
    };
    Ok((ticket.encode(key), values))
}

/// A ticket for a statement with two values.
///
/// # Errors
/// The reason; there is none for it.
pub fn flight_ticket_of(sql: &str, key: &IdentityKey) -> Result<Vec<u8>, String> {
    let columns: [(&str, ArrayRef); 2] =
        [("1", Arc::new(Int64Array::from(vec![5]))), ("2", Arc::new(StringArray::from(vec!["five"])))];
    let row = RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())?;
    let kept = ticket::kept(Some(&row)).map_err(|refusal| reason(&refusal))?;
    Ok(Named::new(sql.to_owned(), kept).encode(key))
}

fn reason(refusal: &Refusal) -> String {
    refusal.reason().to_owned()
}
