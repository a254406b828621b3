//! `/quarantine`: what could not be taken, and what is done about it.
//!
//! A form is answered with the page that shows what came of it. Sent again by a browser, it changes nothing: mending,
//! replaying and dropping are done once, however often they are asked for.

use axum::{
    Form,
    extract::{Path, Query, rejection::FormRejection, rejection::PathRejection, rejection::QueryRejection},
    response::Response,
};
use isthmus_console::quarantine::{self, Content, Entry, Listing, Sent};
use isthmus_domain::value::write_json_map;
use isthmus_proto::v1::{
    CountsRequest, DropRequest, Event, MendRequest, QuarantineEntry, QuarantineResult,
    QuarantineServiceListRequest, ReplayRequest, ShowRequest, mend_request::Change,
    quarantine_service_server::QuarantineService as _,
};
use prost::Message as _;
use serde::Deserialize;
use tonic::{Request, Status};

use super::{
    Asked, Console,
    form::{Tokened, checked},
    reply::{self, bad_query, refused},
};
use crate::{
    http::errors::Failure,
    intake::{EVENT_CONTENT_TYPE, typed_fields},
};

/// Entries of a page: as many as one replay takes.
const ENTRIES: u32 = 50;
/// Bytes that are shown of what is no text.
const SHOWN_BYTES: usize = 256;

/// What may stand in the query.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    source: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    all: String,
    #[serde(default)]
    cursor: String,
}

/// The list.
pub(super) async fn listing(asked: Asked, wanted: Result<Query<Wanted>, QueryRejection>) -> Response {
    asked
        .answer(async {
            let Query(wanted) = wanted.map_err(|_| bad_query())?;
            let told = list(&asked.console, wanted, None).await?;
            Ok(reply::page(quarantine::listing(&asked.shell(), &told)))
        })
        .await
}

async fn list(
    console: &Console,
    wanted: Wanted,
    replayed: Option<Vec<QuarantineResult>>,
) -> Result<Listing, Failure> {
    let Wanted { source, reason, all, cursor } = wanted;
    let request = QuarantineServiceListRequest {
        limit: ENTRIES,
        cursor: cursor.clone(),
        source: source.clone(),
        reason: reason.clone(),
        all: !all.is_empty(),
    };
    let (counts, page) = tokio::join!(
        console.quarantine.counts(Request::new(CountsRequest {})),
        console.quarantine.list(Request::new(request)),
    );
    let page = page.map_err(refused)?.into_inner();
    Ok(Listing {
        counts: counts.map_err(refused)?.into_inner().counts,
        entries: page.entries,
        next_cursor: page.next_cursor,
        source,
        reason,
        resolved_too: !all.is_empty(),
        cursor,
        replayed,
    })
}

/// Which open entries are to be replayed: a page of those of the list.
#[derive(Debug, Deserialize)]
pub(super) struct ReplayForm {
    token: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    cursor: String,
}

impl Tokened for ReplayForm {
    fn token(&self) -> &str {
        &self.token
    }
}

/// Replays what the list shows.
pub(super) async fn replay_listed(asked: Asked, form: Result<Form<ReplayForm>, FormRejection>) -> Response {
    asked
        .answer(async {
            let form = checked(asked.token(), asked.headers(), form)?;
            let request = ReplayRequest {
                source: form.source.clone(),
                reason: form.reason.clone(),
                limit: ENTRIES,
                cursor: form.cursor.clone(),
                ..ReplayRequest::default()
            };
            let replayed = asked.console.quarantine.replay(Request::new(request)).await.map_err(refused)?;
            let wanted =
                Wanted { source: form.source, reason: form.reason, all: String::new(), cursor: form.cursor };
            let here = quarantine::list_path(&wanted.source, &wanted.reason, false);
            let told = list(&asked.console, wanted, Some(replayed.into_inner().results)).await?;
            Ok(reply::page(quarantine::listing(&asked.shell_at(&here), &told)))
        })
        .await
}

/// One entry.
pub(super) async fn page(asked: Asked, id: Result<Path<String>, PathRejection>) -> Response {
    asked
        .answer(async {
            let Path(id) = id.map_err(|_| bad_query())?;
            show(&asked, id, None).await
        })
        .await
}

async fn show(asked: &Asked, id: String, sent: Option<Sent>) -> Result<Response, Failure> {
    let here = quarantine::entry_path(&id);
    let shown = asked.console.quarantine.show(Request::new(ShowRequest { id })).await.map_err(refused)?;
    let entry = shown.into_inner().entry.unwrap_or_default();
    let told = Entry { content: content(&entry), entry, sent };
    Ok(reply::page(quarantine::entry(&asked.shell_at(&here), &told)))
}

/// What was sent, so that a person can read it.
fn content(entry: &QuarantineEntry) -> Content {
    if entry.content_type == EVENT_CONTENT_TYPE
        && let Ok(event) = Event::decode(entry.content.clone())
    {
        let mut json = Vec::new();
        write_json_map(&typed_fields(&event), &mut json);
        return Content::Json(String::from_utf8_lossy(&json).into_owned());
    }
    match std::str::from_utf8(&entry.content) {
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            Content::Json(text.to_owned())
        }
        Ok(text) => Content::Text(text.to_owned()),
        Err(_) => {
            let digits = entry.content.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}"));
            Content::Bytes(entry.content.len(), digits.collect::<Vec<_>>().join(" "))
        }
    }
}

/// What is to be done about an entry.
#[derive(Debug, Deserialize)]
pub(super) struct EntryForm {
    token: String,
    #[serde(default)]
    patch: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by: String,
}

impl Tokened for EntryForm {
    fn token(&self) -> &str {
        &self.token
    }
}

type Id = Result<Path<String>, PathRejection>;
type Given = Result<Form<EntryForm>, FormRejection>;

/// Does something about an entry and shows it with what came of it.
async fn done(
    asked: &Asked,
    id: Id,
    form: Given,
    act: impl AsyncFnOnce(&Console, String, &EntryForm) -> Result<Option<QuarantineResult>, Status>,
) -> Response {
    asked
        .answer(async {
            let form = checked(asked.token(), asked.headers(), form)?;
            let Path(id) = id.map_err(|_| bad_query())?;
            let done = act(&asked.console, id.clone(), &form).await;
            let result = done.map(Option::unwrap_or_default).map_err(|status| status.message().to_owned());
            show(asked, id, Some(Sent { patch: form.patch, by: form.by, result })).await
        })
        .await
}

/// Mends an entry by a merge patch.
pub(super) async fn mend(asked: Asked, id: Id, form: Given) -> Response {
    done(&asked, id, form, async |console, id, form| {
        let change = Some(Change::Patch(form.patch.clone()));
        let request = MendRequest { id, by: form.by.trim().to_owned(), change };
        Ok(console.quarantine.mend(Request::new(request)).await?.into_inner().result)
    })
    .await
}

/// Replays an entry as it is.
pub(super) async fn replay(asked: Asked, id: Id, form: Given) -> Response {
    done(&asked, id, form, async |console, id, form| {
        let request =
            ReplayRequest { ids: vec![id], by: form.by.trim().to_owned(), ..ReplayRequest::default() };
        let results = console.quarantine.replay(Request::new(request)).await?.into_inner().results;
        Ok(results.into_iter().next())
    })
    .await
}

/// Gives an entry up.
pub(super) async fn give_up(asked: Asked, id: Id, form: Given) -> Response {
    done(&asked, id, form, async |console, id, form| {
        let request =
            DropRequest { ids: vec![id], reason: form.reason.clone(), by: form.by.trim().to_owned() };
        let results = console.quarantine.drop(Request::new(request)).await?.into_inner().results;
        Ok(results.into_iter().next())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(content_type: &str, bytes: &'static [u8]) -> Content {
        content(&QuarantineEntry {
            content_type: content_type.to_owned(),
            content: bytes.into(),
            ..QuarantineEntry::default()
        })
    }

    #[test]
    fn what_was_sent_is_shown_as_what_it_is() {
        assert!(matches!(shown("text/plain", b"{\"a\":1}"), Content::Json(_)));
        assert!(matches!(shown("application/json", b"{\"a\":"), Content::Text(_)));
        let Content::Bytes(2, digits) = shown("application/octet-stream", b"\xff\x00") else { panic!() };
        assert_eq!(digits, "ff 00");
        let event = Event { name: "Order Completed".to_owned(), ..Event::default() };
        let entry = QuarantineEntry {
            content_type: EVENT_CONTENT_TYPE.to_owned(),
            content: event.encode_to_vec().into(),
            ..QuarantineEntry::default()
        };
        let Content::Json(json) = content(&entry) else { panic!() };
        assert!(json.contains("Order Completed"), "{json}");
    }
}
