//! At a home and its members: who belongs to the profile, and since when.
//!
//! Lists come in epochs, and the largest counts. A list is served once every member has come; until then the one before
//! is, for members of which none has left. A member hears of its next home from the one that it leaves, in order: so at
//! no time do two homes serve the same member, and a read that finds a member gone finds its record newer.

use isthmus_domain::FacetId;
use isthmus_proto::internal::v1::ToRoot;
use isthmus_proto::internal::v1::{
    Active, Assign, Joined, Member, Members, identity_message::Body, to_root::Body as RootBody,
};
use prost::Message as _;

use crate::resolver::{bytes, facet};
use crate::stored::{Epoch, Home};
use crate::{Error, Resolver, Store, keys};

/// What a home answers to a read.
#[derive(Clone, Debug, PartialEq)]
pub enum Served {
    /// The members of the profile that the identifier belongs to, and the version of the rules by which they do.
    Members(Vec<Member>, u64),
    /// The list of an epoch that the reader knows of is on its way.
    Wait,
    /// The identifier has another home: its record knows, or will soon, of an epoch after this one.
    Moved,
}

impl Home {
    /// Answers a read of a member that knows of an epoch.
    pub fn serve(&self, member: &FacetId, epoch: u64) -> Served {
        if self.epoch < epoch {
            return Served::Wait;
        }
        let entry = self.member(member);
        if self.active == self.epoch {
            return match entry {
                Some(_) => Served::Members(self.members.clone(), self.rules_version),
                None => Served::Moved,
            };
        }
        let Some(entry) = entry.filter(|entry| entry.since <= epoch) else { return Served::Moved };
        if entry.since <= self.active && self.active >= epoch && !self.parting {
            return Served::Members(self.served().cloned().collect(), self.rules_version);
        }
        Served::Wait
    }

    /// The members of the list that is served, if none of them has left.
    fn served(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.since <= self.active)
    }
}

impl<S: Store> Resolver<'_, S> {
    /// A list of members, at their home.
    pub(crate) fn members(&mut self, own: FacetId, list: Members) -> Result<(), Error> {
        for leave in &list.leaves {
            let assign = Assign {
                follows: leave.since,
                home: leave.home.clone(),
                epoch: leave.epoch,
                root: list.root.clone(),
            };
            self.send(&facet(&leave.facet)?, Body::Assign(assign));
        }
        let mut home = self.home(&own)?;
        if list.epoch <= home.epoch {
            return Ok(());
        }
        let mut members = list.members;
        members.sort_by(|a, b| a.facet.cmp(&b.facet));
        let stays = |member: &Member| {
            let found = members.binary_search_by(|new| new.facet.cmp(&member.facet));
            found.is_ok_and(|index| members[index].since == member.since)
        };
        // What is served stays the list of `active`, which is the members since then at the latest.
        let leaves = home.served().any(|member| !stays(member));
        home.parting = (home.parting && home.active < home.epoch) || leaves;
        self.remember(&own, &home, &members, list.epoch, list.rules_version)?;
        home.epoch = list.epoch;
        home.root = list.root;
        home.rules_version = list.rules_version;
        home.joined.retain(|joined| {
            let found = members.binary_search_by(|member| member.facet.cmp(&joined.member));
            found.is_ok() || joined.since > list.epoch
        });
        home.members = members;
        self.activate(own, home)
    }

    /// A member has come.
    pub(crate) fn joined(&mut self, own: FacetId, joined: Joined) -> Result<(), Error> {
        let mut home = self.home(&own)?;
        let member = home.member(&facet(&joined.member)?);
        // The newest list says that it has left again, or has come back since.
        if home.epoch >= joined.since && member.is_none_or(|member| member.since > joined.since) {
            return Ok(());
        }
        match home.joined.iter_mut().find(|known| known.member == joined.member) {
            Some(known) => known.since = known.since.max(joined.since),
            None => home.joined.push(joined),
        }
        self.activate(own, home)
    }

    /// Serves the newest list if all have come, and stores what the home knows.
    fn activate(&mut self, own: FacetId, mut home: Home) -> Result<(), Error> {
        let here = self.record(&own)?;
        let come = |member: &Member| {
            if member.facet.as_ref() == own.as_bytes() {
                here.home(own) == own && here.epoch >= member.since
            } else {
                home.has(&member.facet, member.since)
            }
        };
        if home.active < home.epoch && home.members.iter().all(come) {
            home.active = home.epoch;
            home.parting = false;
            let active = Active { home: bytes(&own), epoch: home.epoch };
            let up = ToRoot { body: Some(RootBody::Active(active)) };
            self.send(&facet(&home.root)?, Body::ToRoot(up));
        }
        self.put(keys::home(&own), &home)
    }

    /// Where the receiver's home is from now on.
    pub(crate) fn assign(&mut self, own: FacetId, assign: Assign) -> Result<(), Error> {
        let mut record = self.record(&own)?;
        record.early.push(assign);
        while let Some(next) = record.early.iter().position(|early| early.follows == record.epoch) {
            let next = record.early.swap_remove(next);
            record.home = next.home.clone();
            record.epoch = next.epoch;
            // A shorter way to the root.
            if record.parent().is_some_and(|parent| facet(&next.root).is_ok_and(|root| root < parent)) {
                record.parent = next.root;
            }
            let home = facet(&next.home)?;
            if home == own {
                self.save(&own, &record)?;
                let known = self.home(&own)?;
                self.activate(own, known)?;
            } else {
                let joined = Joined { member: bytes(&own), since: record.epoch };
                self.send(&home, Body::Joined(joined));
            }
        }
        record.early.sort_by_key(|early| early.follows);
        self.save(&own, &record)
    }

    /// What a home knows of its members.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn home(&mut self, own: &FacetId) -> Result<Home, Error> {
        match self.store.get(&keys::home(own))? {
            Some(bytes) => Home::decode(bytes).map_err(|_| Error::Damaged("a home")),
            None => Ok(Home::default()),
        }
    }

    /// Writes an epoch of the profile's history.
    fn remember(
        &mut self,
        own: &FacetId,
        home: &Home,
        members: &[Member],
        epoch: u64,
        rules_version: u64,
    ) -> Result<(), Error> {
        let without = |of: &[Member], other: &[Member]| -> Vec<Member> {
            let known =
                |member: &&Member| other.binary_search_by(|known| known.facet.cmp(&member.facet)).is_err();
            of.iter().filter(known).cloned().collect()
        };
        let row = Epoch {
            stamp: self.stamp,
            rules_version,
            came: without(members, &home.members),
            left: without(&home.members, members),
        };
        // A home that was never one, and is told so.
        if row.came.is_empty() && row.left.is_empty() {
            return Ok(());
        }
        self.put(keys::history(own, Some(epoch)), &row)
    }
}
