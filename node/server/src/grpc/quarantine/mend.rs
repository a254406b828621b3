//! Entries tried again, and given up.
//!
//! **What it promises.** An entry's event goes in once, however often and from wherever it is mended or replayed: the
//! record first, which its shard knows by its message id; then the verdict, beside the entry in the entry's shard,
//! where the first one counts. A crash in between leaves an open entry whose event is in, and the next try ends what
//! the first began. What can't be taken still is told with field and reason; the entry stays as it was.
//!
//! **What it leaves out.** Two *different* mends of one open entry that run at the same time, or with a crash in
//! between, can both go in if they name different customers: a message id tells repetitions of one customer only.

use bytes::Bytes;
use isthmus_coordinator::View;
use isthmus_domain::{
    Accepted, BlockedValues, Map, QuarantineEntry, Reason, Refused, Resolution, ResolutionKind,
    quarantine::mend::{Change, MendContext, try_again},
};
use isthmus_proto::{
    internal::v1::{CommandItem, QuarantineVerdict, VerdictOutcome, VerdictReply, command_item},
    v1::{self, Event, QuarantineOutcome, QuarantineResult},
};
use isthmus_quality::{Registry, Verdict};
use isthmus_router::{ItemResult, RoutedItem};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Quarantine, hex, resolution};
use crate::{
    grpc::status::{Refusal, status},
    intake::{EVENT_CONTENT_TYPE, typed_fields, viewed_source},
};

/// An entry that is to be tried again.
pub(super) struct Try {
    pub(super) id: [u8; 16],
    /// With its content; `None` when there is none of this id.
    pub(super) entry: Option<QuarantineEntry>,
    pub(super) change: Change,
}

/// Where a try stands.
enum Stage {
    /// It ends so.
    Ended(QuarantineResult),
    /// Its record is to go in.
    Goes(Box<Accepted>),
    /// It went in, or is to be given up: the verdict is to be noted.
    Verdict(Resolution),
}

/// An event as the rules and schemas in force leave it.
fn examined(mut accepted: Accepted, registry: &Registry) -> Result<Accepted, Refused> {
    match registry.examine(&mut accepted.record) {
        Verdict::Take => Ok(accepted),
        Verdict::Quarantine(refused) | Verdict::Reject(refused) => Err(refused),
    }
}

impl Quarantine {
    /// Tries entries again, and notes those that went in; one result for each, in order.
    pub(super) async fn try_all(
        &self,
        tries: Vec<Try>,
        kind: ResolutionKind,
        by: &str,
        deadline: Instant,
    ) -> Result<Vec<QuarantineResult>, Status> {
        let mut stages = Vec::with_capacity(tries.len());
        // What is tried again has to stand before the rules and schemas in force, as what is sent has to. Most often
        // they were put just before, through whichever node.
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let registry = self.hub.registries.of(&view)?;
        for Try { id, entry, change } in tries {
            stages.push((id, self.judge(&view, &registry, &id, entry, change)));
            // An item of some hundred KB takes a while: heartbeats go in between.
            tokio::task::yield_now().await;
        }
        self.bring_in(&mut stages, kind, by, deadline).await?;
        self.note(stages, deadline).await
    }

    /// Gives entries up; one result for each, in order.
    pub(super) async fn give_up(
        &self,
        ids: Vec<[u8; 16]>,
        reason: &str,
        by: &str,
        deadline: Instant,
    ) -> Result<Vec<QuarantineResult>, Status> {
        let stages = ids.into_iter().map(|id| {
            let resolution = Resolution {
                kind: ResolutionKind::Dropped.into(),
                by: by.to_owned(),
                note: reason.to_owned(),
                ..Resolution::default()
            };
            (id, Stage::Verdict(resolution))
        });
        let mut results = self.note(stages.collect(), deadline).await?;
        for result in &mut results {
            let dropped = v1::QuarantineResolutionKind::Dropped;
            if result.resolution.as_ref().is_some_and(|known| known.kind() != dropped) {
                *result =
                    contradiction(std::mem::take(result), "it went in before and can't be dropped any more");
            }
        }
        Ok(results)
    }

    /// What a try comes to before anything is sent anywhere.
    fn judge(
        &self,
        view: &View,
        registry: &Registry,
        id: &[u8; 16],
        entry: Option<QuarantineEntry>,
        change: Change,
    ) -> Stage {
        let Some(entry) = entry else { return Stage::Ended(result(id, QuarantineOutcome::NotFound)) };
        let already = |known: &Resolution| QuarantineResult {
            resolution: Some(resolution(known)),
            ..result(id, QuarantineOutcome::AlreadyResolved)
        };
        if let Some(known) = &entry.resolution
            && known.kind() == ResolutionKind::Dropped
        {
            let message = "it was dropped: send the event again instead";
            return Stage::Ended(contradiction(already(known), message));
        }
        let Some(source) = view.sources.get(entry.source.as_str()).map(|source| viewed_source(source)) else {
            let message = "the entry's source is not known here: its order of identifiers is needed";
            return Stage::Ended(refused(id, "SOURCE_NOT_FOUND", "", message));
        };
        let context =
            MendContext { source: &source, key: &self.hub.identity_key, blocked: &BlockedValues::default() };
        let changed = !matches!(change, Change::None);
        let tried = sent_fields(&entry)
            .and_then(|fields| try_again(&entry, fields, change, context))
            .and_then(|accepted| examined(accepted, registry));
        match (&entry.resolution, tried) {
            (None, Ok(accepted)) => Stage::Goes(Box::new(accepted)),
            (None, Err(refused)) => Stage::Ended(still(id, &refused)),
            // The same mend again changes nothing; another one can't be had any more.
            (Some(known), tried) => {
                let same = tried.is_ok_and(|accepted| accepted.record.body_hash == known.body_hash);
                let message = "it went in before, as another event: send a correction instead";
                Stage::Ended(match changed && !same {
                    true => contradiction(already(known), message),
                    false => already(known),
                })
            }
        }
    }

    /// Sends the records, each under an attempt of its own, and turns what went in into verdicts.
    async fn bring_in(
        &self,
        stages: &mut [([u8; 16], Stage)],
        kind: ResolutionKind,
        by: &str,
        deadline: Instant,
    ) -> Result<(), Status> {
        let items: Vec<RoutedItem> = stages
            .iter()
            .filter_map(|(_, stage)| match stage {
                Stage::Goes(accepted) => Some(RoutedItem {
                    slot: accepted.facet.slot(),
                    item: CommandItem {
                        attempt: self.hub.router.next_attempt(),
                        body: Some(command_item::Body::Record(accepted.record.to_bytes())),
                        from_quarantine: true,
                        ..CommandItem::default()
                    },
                }),
                _ => None,
            })
            .collect();
        let summary = self.hub.router.ingest(items, deadline).await.map_err(|error| status(&error))?;
        let mut results = summary.results.into_iter();
        for (id, stage) in stages {
            let Stage::Goes(accepted) = stage else { continue };
            let came = results.next().unwrap_or(ItemResult::Unknown);
            *stage = match came {
                ItemResult::Accepted | ItemResult::Duplicate => Stage::Verdict(Resolution {
                    kind: kind.into(),
                    by: by.to_owned(),
                    message_id: accepted.record.message_id.clone(),
                    body_hash: accepted.record.body_hash.clone(),
                    ..Resolution::default()
                }),
                ItemResult::Unknown => Stage::Ended(refused(
                    id,
                    "OUTCOME_UNKNOWN",
                    "",
                    "whether it went in is not known: do the same again, it goes in once",
                )),
                ItemResult::Rejected { reason } | ItemResult::Quarantined { reason } => {
                    Stage::Ended(match reason == Reason::MessageIdConflict.code() {
                        true => refused(id, &reason, "messageId", CONFLICT),
                        false => refused(id, &reason, "", "not taken just now: do the same again later"),
                    })
                }
            };
        }
        Ok(())
    }

    /// Notes the verdicts beside their entries and tells how all tries ended.
    async fn note(
        &self,
        stages: Vec<([u8; 16], Stage)>,
        deadline: Instant,
    ) -> Result<Vec<QuarantineResult>, Status> {
        let verdicts: Vec<QuarantineVerdict> = stages
            .iter()
            .filter_map(|(id, stage)| match stage {
                Stage::Verdict(resolution) => Some(QuarantineVerdict {
                    id: Bytes::copy_from_slice(id),
                    resolution: resolution.encode_to_vec().into(),
                }),
                _ => None,
            })
            .collect();
        fail::fail_point!("server::quarantine::before_verdict", |_| {
            Err(Refusal::new(Code::Unavailable, "STOPPING", "stopped before the verdict").into())
        });
        let replies =
            self.hub.router.resolve_quarantine(&verdicts, deadline).await.map_err(|error| status(&error))?;
        let mut replies = replies.into_iter();
        stages
            .into_iter()
            .map(|(id, stage)| match stage {
                Stage::Ended(result) => Ok(result),
                _ => noted(&id, replies.next().unwrap_or_default()),
            })
            .collect()
    }
}

const CONFLICT: &str = "an event with this message id, source and primary identifier is stored already and says \
                        something else: give this one a message id of its own";

fn noted(id: &[u8; 16], reply: VerdictReply) -> Result<QuarantineResult, Status> {
    let outcome = match reply.outcome() {
        VerdictOutcome::Noted => QuarantineOutcome::Resolved,
        VerdictOutcome::Already => QuarantineOutcome::AlreadyResolved,
        _ => return Ok(result(id, QuarantineOutcome::NotFound)),
    };
    let known = Resolution::from_bytes(reply.resolution)
        .map_err(|_| Refusal::new(Code::Internal, "INTERNAL", "a resolution can't be read: it is damaged"))?;
    Ok(QuarantineResult { resolution: Some(resolution(&known)), ..result(id, outcome) })
}

/// What was sent, where it is typed values; `None` where it is bytes.
fn sent_fields(entry: &QuarantineEntry) -> Result<Option<Map>, Refused> {
    if entry.content_type != EVENT_CONTENT_TYPE {
        return Ok(None);
    }
    let event = Event::decode(entry.payload.clone()).map_err(|_| {
        let what = "what was sent is cut off: replace it as a whole";
        Refused::new(Reason::Malformed, "", what)
    })?;
    Ok(Some(typed_fields(&event)))
}

fn result(id: &[u8; 16], outcome: QuarantineOutcome) -> QuarantineResult {
    QuarantineResult { id: hex(id), outcome: outcome.into(), ..QuarantineResult::default() }
}

fn still(id: &[u8; 16], why: &Refused) -> QuarantineResult {
    refused(id, why.reason.code(), &why.field, &why.message)
}

fn refused(id: &[u8; 16], reason: &str, field: &str, message: &str) -> QuarantineResult {
    QuarantineResult {
        reason: reason.to_owned(),
        field: field.to_owned(),
        message: message.to_owned(),
        ..result(id, QuarantineOutcome::StillQuarantined)
    }
}

/// An entry that is resolved otherwise than is asked for: nothing was changed, and the caller is told so.
fn contradiction(ended: QuarantineResult, message: &str) -> QuarantineResult {
    QuarantineResult { reason: "RESOLVED_OTHERWISE".to_owned(), message: message.to_owned(), ..ended }
}
