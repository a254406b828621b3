//! Changes as clients get them.

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

/// A change, named; `None` of a kind that this version doesn't know.
pub(super) fn change(
    change: &FeedChange,
    slot: Slot,
    name: &Name,
    view: &View,
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
            (What::Segment(segment_change(segment, view)), name.identifier.clone())
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

/// The segment that a change names, from the definitions that are kept.
fn segment_change(change: &FeedSegment, view: &View) -> SegmentChange {
    let is_it = |segment: &isthmus_segment::definition::Segment| {
        DefinitionId::of_segment(&segment.name, segment.version).0 == change.segment
    };
    let versions = view.document_versions(DocumentKind::Segments, "").iter().rev();
    let found = versions
        .filter_map(|document| Document::from_json(&document.content).ok())
        .find_map(|document| document.segments.into_iter().find(is_it));
    let state = |number: u32| match number {
        1 => SegmentState::In,
        2 => SegmentState::Overflow,
        _ => SegmentState::Unspecified,
    };
    SegmentChange {
        segment_version: found.as_ref().map_or(0, |segment| segment.version),
        name: found.map(|segment| segment.name).unwrap_or_default(),
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
