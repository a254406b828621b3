//! Profiles: which identifiers are one customer, and their facets.
//!
//! An identifier's own slot knows its home and the epoch since which it has it; the home knows the members. A home that
//! is still on the way to that epoch is waited for; one that has lost the member sends the reader back to the
//! identifier's slot, which knows more by then. Then the members' facets are read where they lie.
//!
//! Promises: what was acknowledged before the read began is in it (at the default level): the links, since they were in
//! force by then, and the events, since each member's facet is read after. A read over several shards is of no single
//! cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::identity::{Retraction, Scope};
use isthmus_domain::{FacetId, FacetSummary, Identifier, IdentityKey, Profile, Slot, Stamp};
use isthmus_proto::internal::v1::{
    Member, ProfileEpoch, ReadMembersCall, ReadMembersReply, ReadRootCall, ReadRootReply, RetractCommand,
    shard_call, shard_reply,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::pursuit::Want;
use crate::read::{Facet, ReadLevel};
use crate::router::Router;

/// The pause before an identifier's record is looked at again, whose home has lost it.
const AGAIN: Duration = Duration::from_millis(2);

/// A customer, in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileParts {
    /// The members: facet, namespace and value of the identifier, and its encoded summary; `None` where nothing was
    /// said under it.
    pub members: Vec<(FacetId, (String, String), Option<Bytes>)>,
    /// The version of the identity rules under which they are one; `None` of an identifier that was never linked.
    pub rules_version: Option<u64>,
    /// The facet at whose slot the list of members is kept.
    pub home: FacetId,
}

impl ProfileParts {
    /// The profile that the parts come to; `None` when nothing is known of them.
    ///
    /// # Errors
    /// A summary or an identifier that can't be read: it is damaged, or of a newer version.
    pub fn fold(
        &self,
        key: &IdentityKey,
        default_currency: &str,
        stamp: Stamp,
    ) -> Result<Option<Profile>, isthmus_domain::Error> {
        let mut members = Vec::with_capacity(self.members.len());
        for (_, (namespace, value), summary) in &self.members {
            let summary = match summary {
                Some(bytes) => FacetSummary::from_bytes(bytes)?,
                None => FacetSummary::default(),
            };
            let identifier = match namespace.is_empty() {
                true if summary.is_empty() => continue,
                true => summary.identifier()?,
                false => Identifier::from_stored(namespace, value)?,
            };
            members.push((identifier, summary));
        }
        let members = members.iter().map(|(identifier, summary)| (identifier.clone(), summary));
        Ok(Profile::fold(key, members, default_currency, stamp))
    }
}

/// Who is one customer.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// The facet at whose slot the list is kept.
    pub home: FacetId,
    /// The members, by facet.
    pub members: Vec<Member>,
    /// The version of the identity rules.
    pub rules_version: u64,
    /// How it came to be, by rising epoch; only if asked for.
    pub history: Vec<ProfileEpoch>,
    /// The stamp that this is exact at.
    pub stamp: Stamp,
}

impl Router {
    /// Reads customers by a facet of theirs; one entry for each id, in order, `None` where nothing is known under it;
    /// and the largest stamp of the shards asked.
    ///
    /// # Errors
    /// As a whole, with the first error of a shard, when one does not answer by the deadline.
    pub async fn read_profiles(
        &self,
        ids: &[FacetId],
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(Vec<Option<ProfileParts>>, Stamp), Error> {
        let (facets, stamp) = self.read_facets(ids, level, deadline).await?;
        let known = ids.iter().copied().zip(facets).collect();
        self.complete(ids, known, stamp, level, deadline).await
    }

    /// Adds to facets that were read what makes customers of them.
    pub(crate) async fn complete(
        &self,
        ids: &[FacetId],
        mut known: BTreeMap<FacetId, Facet>,
        mut stamp: Stamp,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(Vec<Option<ProfileParts>>, Stamp), Error> {
        // Those of one home and epoch have one list.
        let mut homes: BTreeMap<(FacetId, u64), Vec<FacetId>> = BTreeMap::new();
        for id in ids {
            if let Some(home) = known.get(id).and_then(|facet| facet.home) {
                homes.entry(home).or_default().push(*id);
            }
        }
        let asked = homes.into_iter().map(|(home, ids)| async move {
            let mut found: Vec<(FacetId, Arc<Membership>)> = Vec::with_capacity(ids.len());
            for id in ids {
                let has = |(_, known): &&(FacetId, Arc<Membership>)| {
                    known.members.iter().any(|member| member.facet == id.as_bytes().as_slice())
                };
                let membership = match found.last().filter(has) {
                    Some((_, membership)) => membership.clone(),
                    None => Arc::new(self.members_of(id, home, false, level, deadline).await?),
                };
                found.push((id, membership));
            }
            Ok::<_, Error>(found)
        });
        let memberships: BTreeMap<FacetId, Arc<Membership>> =
            try_join_all(asked).await?.into_iter().flatten().collect();
        let others: BTreeSet<FacetId> = memberships
            .values()
            .flat_map(|membership| &membership.members)
            .filter_map(|member| FacetId::from_slice(&member.facet))
            .filter(|facet| !known.contains_key(facet))
            .collect();
        if !others.is_empty() {
            let others: Vec<FacetId> = others.into_iter().collect();
            let (facets, at) = self.read_facets(&others, level, deadline).await?;
            stamp = stamp.max(at);
            known.extend(others.into_iter().zip(facets));
        }
        stamp = memberships.values().map(|membership| membership.stamp).fold(stamp, Stamp::max);
        let parts = |id: &FacetId| match memberships.get(id) {
            Some(membership) => {
                let member = |member: &Member| {
                    let facet = FacetId::from_slice(&member.facet)?;
                    let summary = known.get(&facet).and_then(|facet| facet.summary.clone());
                    Some((facet, (member.namespace.clone(), member.value.clone()), summary))
                };
                Some(ProfileParts {
                    members: membership.members.iter().filter_map(member).collect(),
                    rules_version: Some(membership.rules_version),
                    home: membership.home,
                })
            }
            None => {
                let summary = known.get(id)?.summary.clone()?;
                // Its summary names it.
                let members = vec![(*id, (String::new(), String::new()), Some(summary))];
                Some(ProfileParts { members, rules_version: None, home: *id })
            }
        };
        Ok((ids.iter().map(parts).collect(), stamp))
    }

    /// Who is one customer with an identifier; `None` for one that was never linked.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn membership(
        &self,
        id: FacetId,
        history: bool,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<Option<Membership>, Error> {
        let (facets, _) = self.read_facets(&[id], level, deadline).await?;
        match facets.first().and_then(|facet| facet.home) {
            Some(home) => self.members_of(id, home, history, level, deadline).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks a home for the members, and goes after the identifier if it has moved.
    async fn members_of(
        &self,
        id: FacetId,
        (mut home, mut epoch): (FacetId, u64),
        history: bool,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<Membership, Error> {
        loop {
            let reply = self.read_members(id, home, epoch, history, level, deadline).await?;
            if !reply.moved {
                let ReadMembersReply { members, rules_version, stamp, history, .. } = reply;
                return Ok(Membership { home, members, rules_version, history, stamp: Stamp(stamp) });
            }
            // Its record will know of a later epoch: the old home has told it, or is about to.
            let gone = epoch;
            while epoch <= gone {
                if Instant::now() + AGAIN >= deadline {
                    let shard = self.routes().owner(id.slot()).unwrap_or_default();
                    return Err(Error::DeadlineExceeded { shard });
                }
                tokio::time::sleep(AGAIN).await;
                let (facets, _) = self.read_facets(&[id], level, deadline).await?;
                (home, epoch) = facets.first().and_then(|facet| facet.home).unwrap_or((home, epoch));
            }
        }
    }

    async fn read_members(
        &self,
        id: FacetId,
        home: FacetId,
        epoch: u64,
        history: bool,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<ReadMembersReply, Error> {
        let body = shard_call::Body::ReadMembers(ReadMembersCall {
            home: copied(&home),
            member: copied(&id),
            epoch,
            level: level.to_wire(),
            history,
        });
        let read = |reply| match reply {
            shard_reply::Body::ReadMembers(reply) => Some((!reply.not_owned).then_some(reply)),
            _ => None,
        };
        self.at_slot(home.slot(), level.want(), &body, read, deadline).await
    }

    /// Takes link facts back; returns when that is in force everywhere. The same retraction again changes nothing.
    ///
    /// # Errors
    /// When a shard refuses it, or does not answer by the deadline: then part of it may be in force.
    pub async fn retract(
        &self,
        key: &IdentityKey,
        retraction: &Retraction,
        deadline: Instant,
    ) -> Result<(), Error> {
        let facet = |identifier: &Identifier| FacetId::of(key, identifier);
        let facets = match &retraction.scope {
            Scope::Fact { a, .. } => vec![facet(a)],
            Scope::Pair(x, y) => vec![facet(x), facet(y)],
            Scope::Identifier(x) => vec![facet(x)],
            Scope::Source(_) => return self.retract_source(retraction, deadline).await,
        };
        let asked = facets.iter().map(|facet| async move {
            let body = retract_call(Some(facet), retraction);
            let read = |reply| match reply {
                shard_reply::Body::Retract(reply) => Some((!reply.not_owned).then_some(())),
                _ => None,
            };
            self.at_slot(facet.slot(), Want::Leader, &body, read, deadline).await
        });
        try_join_all(asked).await.map(|_| ())
    }

    async fn retract_source(&self, retraction: &Retraction, deadline: Instant) -> Result<(), Error> {
        let body = &retract_call(None, retraction);
        let shards: Vec<u64> = self.routes().shards().map(|shard| shard.id).collect();
        let asked = shards.into_iter().map(|shard| async move {
            self.reach(shard, &mut self.pursuit(Want::Leader), body, deadline).await
        });
        try_join_all(asked).await.map(|_| ())
    }

    /// What is known of an identifier's links: at its own slot, and at the root of its bundle.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn read_links(
        &self,
        id: FacetId,
        deadline: Instant,
    ) -> Result<(ReadRootReply, ReadRootReply), Error> {
        let own = self.read_root(id, deadline).await?;
        let mut root = own.clone();
        // Parents strictly decrease, so this ends; a root that has just been one is on its way to the next.
        while let Some(parent) = FacetId::from_slice(&root.parent) {
            root = self.read_root(parent, deadline).await?;
        }
        Ok((own, root))
    }

    async fn read_root(&self, id: FacetId, deadline: Instant) -> Result<ReadRootReply, Error> {
        let body = shard_call::Body::ReadRoot(ReadRootCall { facet: copied(&id) });
        let read = |reply| match reply {
            shard_reply::Body::ReadRoot(reply) => Some((!reply.not_owned).then_some(reply)),
            _ => None,
        };
        self.at_slot(id.slot(), Want::Leader, &body, read, deadline).await
    }

    /// Asks whoever owns a slot. `read` takes the reply: `None` when it is something else, `Some(None)` when the shard
    /// doesn't own the slot.
    pub(crate) async fn at_slot<T>(
        &self,
        slot: Slot,
        want: Want,
        body: &shard_call::Body,
        read: impl Fn(shard_reply::Body) -> Option<Option<T>>,
        deadline: Instant,
    ) -> Result<T, Error> {
        let mut attempt = 0;
        loop {
            let routes = self.routes();
            let (revision, owner) = (routes.revision, routes.owner(slot));
            drop(routes);
            if let Some(shard) = owner {
                match self.reach(shard, &mut self.pursuit(want), body, deadline).await {
                    Ok(reply) => match read(reply) {
                        Some(Some(found)) => return Ok(found),
                        Some(None) => {}
                        None => return Err(Error::BadReply { shard, what: "not what was asked" }),
                    },
                    Err(Error::NoShard { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.await_newer(revision, attempt, deadline).await?;
            attempt += 1;
        }
    }
}

fn retract_call(facet: Option<&FacetId>, retraction: &Retraction) -> shard_call::Body {
    shard_call::Body::Retract(RetractCommand {
        facet: facet.map(copied).unwrap_or_default(),
        retraction: retraction.encode().into(),
    })
}

fn copied(facet: &FacetId) -> Bytes {
    Bytes::copy_from_slice(facet.as_bytes())
}
