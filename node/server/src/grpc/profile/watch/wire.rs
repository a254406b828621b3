//! Changes as clients get them.

use isthmus_domain::{EventRecord, EventType, Slot, Stamp, quality::changes_of};
use isthmus_proto::internal::v1::{FeedChange, Member, feed_change::Body};
use isthmus_proto::v1::{Change, EventChange, Identifier, MembersChange, change::What};
use prost::Message as _;
use tonic::Status;

use super::{id, names::Name};
use crate::grpc::profile::{damaged, wire};
use crate::grpc::value::timestamp;

/// A change, named; `None` of a kind that this version doesn't know.
pub(super) fn change(change: &FeedChange, slot: Slot, name: &Name) -> Result<Option<Change>, Status> {
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
        None => return Ok(None),
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
