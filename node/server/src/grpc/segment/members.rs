//! Members of segments, as clients get them.

use isthmus_domain::{FacetId, FacetSummary};
use isthmus_proto::{
    internal::v1::SegmentReply,
    v1::{Identifier, SegmentMember},
};
use isthmus_router::{ReadLevel, SegmentAnswers};
use tokio::time::Instant;
use tonic::Status;

use super::Segments;
use crate::grpc::{profile::damaged, status::status};

/// What all shards' numbers add up to.
pub(super) fn sum(answers: &SegmentAnswers, of: impl Fn(&SegmentReply) -> u64) -> u64 {
    answers.replies.iter().map(|(_, reply)| of(reply)).sum()
}

/// The homes that all shards have told of.
pub(super) fn homes(
    answers: &SegmentAnswers,
    of: impl Fn(&SegmentReply) -> &Vec<bytes::Bytes>,
) -> Vec<FacetId> {
    answers
        .replies
        .iter()
        .flat_map(|(_, reply)| of(reply))
        .filter_map(|home| FacetId::from_slice(home))
        .collect()
}

impl Segments {
    /// Members as clients get them: whose homes these are.
    pub(super) async fn members(
        &self,
        homes: &[FacetId],
        deadline: Instant,
    ) -> Result<Vec<SegmentMember>, Status> {
        let read = self.hub.router.read_profiles(homes, ReadLevel::Linearizable, deadline).await;
        let (profiles, stamp) = read.map_err(|error| status(&error))?;
        let mut members = Vec::with_capacity(homes.len());
        for (home, parts) in homes.iter().zip(&profiles) {
            let Some(parts) = parts else {
                // Merged away since it was listed, and nothing was said under it.
                members.push(SegmentMember { profile_id: home.to_string(), identifier: None });
                continue;
            };
            let folded = parts.fold(&self.hub.identity_key, isthmus_coordinator::DEFAULT_CURRENCY, stamp);
            let profile = folded.map_err(|_| damaged("a facet's summary"))?;
            let profile_id = profile.map_or(*home, |profile| profile.profile_id);
            let own = parts.members.iter().find(|(facet, ..)| facet == home);
            let identifier = match own {
                Some((_, (namespace, value), _)) if !namespace.is_empty() => {
                    Some(Identifier { namespace: namespace.clone(), value: value.clone() })
                }
                Some((_, _, Some(summary))) => {
                    let read = FacetSummary::from_bytes(summary).ok().and_then(|it| it.identifier().ok());
                    let found = read.ok_or_else(|| damaged("a facet's summary"))?;
                    Some(Identifier {
                        namespace: found.namespace().to_string(),
                        value: found.value().to_owned(),
                    })
                }
                _ => None,
            };
            members.push(SegmentMember { profile_id: profile_id.to_string(), identifier });
        }
        Ok(members)
    }
}
