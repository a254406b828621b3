//! Changes as clients get them.

use std::collections::HashMap;

use isthmus_coordinator::View;
use isthmus_domain::{EventRecord, EventType, Slot, Stamp, quality::changes_of};
use isthmus_proto::internal::v1::{DocumentKind, FeedChange, FeedSegment, Member, feed_change::Body};
use isthmus_proto::v1::{
    Change, EventChange, Identifier, MembersChange, SegmentChange, SegmentState, change::What,
};
use isthmus_segment::{DefinitionId, Document};
use prost::Message as _;
use tonic::Status;

use super::{id, names::Name};
use crate::grpc::profile::{damaged, wire};
use crate::grpc::value::timestamp;

/// Names and versions of segments by their ids, as the definitions that are kept have them.
#[derive(Default)]
pub(super) struct Defined {
    /// The version of the newest document that was read.
    newest: u64,
    /// What was known once stays: a change may be read long after its definition was replaced.
    segments: HashMap<u64, (String, u64)>,
}

impl Defined {
    /// Reads the documents that are new.
    pub fn learn(&mut self, view: &View) {
        let documents = view.document_versions(DocumentKind::Segments, "");
        let Some(newest) = documents.last().map(|document| document.version) else { return };
        for document in documents.iter().filter(|document| document.version > self.newest) {
            let Ok(document) = Document::from_json(&document.content) else { continue };
            self.segments.extend(document.segments.into_iter().map(|segment| {
                let id = DefinitionId::of_segment(&segment.name, segment.version).0;
                (id, (segment.name, segment.version))
            }));
        }
        self.newest = self.newest.max(newest);
    }

    /// The name of a segment; empty where its definition is not kept any more.
    pub fn name(&self, segment: u64) -> &str {
        self.segments.get(&segment).map_or("", |(name, _)| name)
    }
}

/// A change, named; `None` of a kind that this version doesn't know.
pub(super) fn change(
    change: &FeedChange,
    slot: Slot,
    name: &Name,
    defined: &Defined,
) -> Result<Option<Change>, Status> {
    let stamp = Stamp(change.stamp);
    let (what, identifier) = match &change.body {
        Some(Body::Event(event)) => {
            let record = EventRecord::decode(event.clone()).map_err(|_| damaged("an event"))?;
            // What was written out doesn't name its identifier; what is in memory does, however young it is.
            let own = (!record.value.is_empty())
                .then(|| Identifier { namespace: record.namespace.clone(), value: record.value.clone() });
            (What::Event(event_change(record)?), own.or_else(|| name.identifier.clone()))
        }
        Some(Body::Members(members)) => {
            let named = |members: &[Member]| {
                let identifier = |member: &Member| Identifier {
                    namespace: member.namespace.clone(),
                    value: member.value.clone(),
                };
                members.iter().map(identifier).collect()
            };
            let what = MembersChange {
                came: named(&members.came),
                left: named(&members.left),
                came_count: members.came_count,
                left_count: members.left_count,
            };
            (What::Members(what), name.identifier.clone())
        }
        Some(Body::Segment(segment)) => {
            (What::Segment(segment_change(segment, defined)), name.identifier.clone())
        }
        // For the shard itself.
        Some(Body::Home(_) | Body::LeftHome(_)) | None => return Ok(None),
    };
    Ok(Some(Change {
        id: id(slot, change),
        at: Some(timestamp(stamp.as_micros())),
        version: stamp.to_string(),
        profile_id: name.profile_id.to_string(),
        identifier,
        what: Some(what),
    }))
}

fn segment_change(change: &FeedSegment, defined: &Defined) -> SegmentChange {
    let state = |number: u32| match number {
        1 => SegmentState::In,
        2 => SegmentState::Overflow,
        _ => SegmentState::Unspecified,
    };
    SegmentChange {
        segment_version: defined.segments.get(&change.segment).map_or(0, |(_, version)| *version),
        name: defined.name(change.segment).to_owned(),
        before: state(change.from).into(),
        now: state(change.to).into(),
        cause: match change.cause_stamp {
            0 => String::new(),
            stamp => super::id_of(change.cause_slot, stamp, change.cause_number),
        },
    }
}

fn event_change(record: EventRecord) -> Result<EventChange, Status> {
    let traits = match record.kind() {
        EventType::Identify => {
            let changes = changes_of(&record.properties).map_err(|_| damaged("an event"))?;
            changes.into_iter().map(|change| change.name).collect()
        }
        _ => Vec::new(),
    };
    Ok(EventChange {
        r#type: wire::event_type(record.kind()).into(),
        message_id: record.message_id,
        source: record.source,
        name: record.name,
        timestamp: Some(timestamp(record.timestamp)),
        traits,
        properties_json: wire::object(&record.properties),
        context_json: wire::object(&record.context),
    })
}
