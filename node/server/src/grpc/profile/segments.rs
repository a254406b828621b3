//! Segments and computed traits of customers, exact at one stamp that is not before their profiles'.

use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::{internal::v1::SegmentProfile, v1::ProfileSegments};
use isthmus_router::{ProfileParts, ReadLevel};
use tokio::time::Instant;
use tonic::Status;

use crate::grpc::{hub::Hub, status::status};

/// How often profiles are read anew whose homes have changed before their segments were asked for.
const TRIES: usize = 4;

/// Profiles at a stamp, each with its segments; none where nothing is known.
pub(in crate::grpc) type Standing = (Vec<(Option<ProfileParts>, Option<ProfileSegments>)>, Stamp);

/// Reads profiles by facets, with their segments and computed traits.
///
/// # Errors
/// When a shard doesn't answer by the deadline.
pub(in crate::grpc) async fn standing(
    hub: &Hub,
    facets: &[FacetId],
    level: ReadLevel,
    deadline: Instant,
) -> Result<Standing, Status> {
    let mut tries = 0;
    loop {
        tries += 1;
        let read = hub.router.read_profiles(facets, level, deadline).await;
        let (parts, stamp) = read.map_err(|error| status(&error))?;
        let homes: Vec<FacetId> = parts.iter().flatten().map(|parts| parts.home).collect();
        if homes.is_empty() {
            return Ok((parts.into_iter().map(|parts| (parts, None)).collect(), stamp));
        }
        let read = hub.router.segments_of(&homes, deadline).await.map_err(|error| status(&error))?;
        // One that has moved meanwhile has no profile there; one without events has none anywhere.
        let is_there = |known: &SegmentProfile| known.present;
        if tries < TRIES && !read.known.iter().all(is_there) {
            continue;
        }
        let mut known = read.known.into_iter();
        let all = parts.into_iter().map(|parts| {
            let segments = parts.as_ref().and_then(|_| known.next());
            (parts, segments.map(|known| shown(known, read.at, read.version)))
        });
        return Ok((all.collect(), stamp));
    }
}

fn shown(known: SegmentProfile, at: Stamp, definitions_version: u64) -> ProfileSegments {
    let computed = known.computed.into_iter().map(|value| {
        let json = if value.json.is_empty() { "overflow".to_owned() } else { value.json };
        (value.name, json)
    });
    ProfileSegments {
        segments: known.segments,
        overflows: known.overflows,
        computed_traits_json: computed.collect(),
        version: at.to_string(),
        definitions_version,
    }
}
