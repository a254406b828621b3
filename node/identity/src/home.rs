//! At a home and its members: who belongs to the profile, and since when.
//!
//! Lists come in epochs, and the largest counts. A list is served once every member has come; until then the one before
//! is, for members of which none has left. A member hears of its next home from the one that it leaves, in order: so at
//! no time do two homes serve the same member, and a read that finds a member gone finds its record newer.

use std::collections::BTreeMap;

use isthmus_domain::FacetId;
use isthmus_proto::internal::v1::{
    Active, Assign, Joined, Member, Members, Settled, ToRoot, identity_message::Body,
    to_root::Body as RootBody,
};
use prost::Message as _;

use crate::resolver::{bytes, facet, row_key};
use crate::stored::{Epoch, Home, HomeMember};
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

impl<S: Store> Resolver<'_, S> {
    /// Answers a read of a member that knows of an epoch.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn serve(&mut self, own: &FacetId, member: &FacetId, epoch: u64) -> Result<Served, Error> {
        let home = self.home(own)?;
        if home.epoch < epoch {
            return Ok(Served::Wait);
        }
        let Some(entry) = self.home_member(own, member)?.filter(|entry| entry.listed) else {
            return Ok(Served::Moved);
        };
        if home.active < home.epoch {
            if entry.since > epoch {
                return Ok(Served::Moved);
            }
            // The list before, if nobody has left it and the reader knows of no later one.
            if entry.since > home.active || home.active < epoch || home.parting {
                return Ok(Served::Wait);
            }
        }
        let members = self.home_members(own)?.into_iter();
        let served = members.filter(|(_, member)| member.listed && member.since <= home.active);
        let members = served.map(|(facet, HomeMember { since, namespace, value, .. })| Member {
            facet: bytes(&facet),
            since,
            namespace,
            value,
        });
        Ok(Served::Members(members.collect(), home.rules_version))
    }

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
            // Whoever sent it may wait for a list that was never served, because this one overtook it.
            if home.active >= list.epoch {
                let active = Active { home: bytes(&own), epoch: home.active, told: false };
                let up = ToRoot { body: Some(RootBody::Active(active)) };
                self.send(&facet(&list.root)?, Body::ToRoot(up));
            }
            return Ok(());
        }
        if list.members.is_empty() && home.epoch == 0 {
            // Never a home, and none now: nobody waits for it to say so.
            home.active = list.epoch;
        }
        let mut known = self.home_members(&own)?;
        let here = self.record(&own)?;
        let (mut came, mut left, mut waiting, mut parts) = (Vec::new(), Vec::new(), 0, false);
        for member in list.members {
            let id = facet(&member.facet)?;
            let before = known.remove(&id).unwrap_or_default();
            parts |= before.listed && before.since <= home.active && before.since != member.since;
            let mut row = HomeMember {
                listed: true,
                since: member.since,
                namespace: member.namespace.clone(),
                value: member.value.clone(),
                come: before.come,
            };
            if id == own && here.home(own) == own {
                row.come = row.come.max(Some(here.epoch));
            }
            waiting += u64::from(!row.has_come());
            if row != before {
                self.put(keys::home_member(&own, &id), &row)?;
            }
            if !before.listed {
                came.push(member);
            }
        }
        for (id, before) in known {
            // What is served stays the list of `active`, which is the members since then at the latest.
            parts |= before.listed && before.since <= home.active;
            if before.listed {
                let (namespace, value) = (before.namespace.clone(), before.value.clone());
                left.push(Member { facet: bytes(&id), since: before.since, namespace, value });
            }
            let key = keys::home_member(&own, &id);
            match before.come.filter(|come| *come > list.epoch) {
                Some(come) => self.put(key, &HomeMember { come: Some(come), ..HomeMember::default() })?,
                None => self.store.put(key, None)?,
            }
        }
        home.parting = (home.parting && home.active < home.epoch) || parts;
        (home.epoch, home.root, home.rules_version) = (list.epoch, list.root, list.rules_version);
        (home.waiting, home.settles) = (waiting, list.settles);
        // A home that was never one, and is told so, has no history.
        if !came.is_empty() || !left.is_empty() {
            let epoch = Epoch { stamp: self.stamp, rules_version: home.rules_version, came, left };
            self.put(keys::history(&own, Some(home.epoch)), &epoch)?;
        }
        self.activate(own, home)
    }

    /// A member has come.
    pub(crate) fn joined(&mut self, own: FacetId, joined: Joined) -> Result<(), Error> {
        let member = facet(&joined.member)?;
        let mut home = self.home(&own)?;
        let mut row = self.home_member(&own, &member)?.unwrap_or_default();
        // The newest list says that it has left again, or has come back since.
        if home.epoch >= joined.since && (!row.listed || row.since > joined.since) {
            return Ok(());
        }
        let had_come = row.has_come();
        row.come = row.come.max(Some(joined.since));
        self.put(keys::home_member(&own, &member), &row)?;
        if row.listed && !had_come && row.has_come() {
            home.waiting = home.waiting.saturating_sub(1);
            return self.activate(own, home);
        }
        Ok(())
    }

    /// Serves the newest list if all have come, and stores what the home knows.
    fn activate(&mut self, own: FacetId, mut home: Home) -> Result<(), Error> {
        if home.active < home.epoch && home.waiting == 0 {
            home.active = home.epoch;
            home.parting = false;
            let settles = std::mem::take(&mut home.settles);
            let active = Active { home: bytes(&own), epoch: home.epoch, told: !settles.is_empty() };
            for row in settles {
                let primary = row_key(row.key.as_ref())?.a;
                self.send(&primary, Body::Settled(Settled { row: Some(row), flag_version: 0 }));
            }
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
            let joined = Joined { member: bytes(&own), since: record.epoch };
            self.send(&facet(&next.home)?, Body::Joined(joined));
        }
        record.early.sort_by_key(|early| early.follows);
        self.save(&own, &record)
    }

    /// What a home knows of its list.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn home(&mut self, own: &FacetId) -> Result<Home, Error> {
        match self.store.get(&keys::home(own))? {
            Some(bytes) => Home::decode(bytes).map_err(|_| Error::Damaged("a home")),
            None => Ok(Home::default()),
        }
    }

    fn home_member(&mut self, own: &FacetId, member: &FacetId) -> Result<Option<HomeMember>, Error> {
        match self.store.get(&keys::home_member(own, member))? {
            Some(bytes) => read(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// All that a home knows of members.
    fn home_members(&mut self, own: &FacetId) -> Result<BTreeMap<FacetId, HomeMember>, Error> {
        let prefix = keys::home(own);
        let rows = self.store.scan(&prefix, Some(&prefix), usize::MAX)?;
        rows.into_iter().map(|(key, row)| Ok((facet(&key[prefix.len()..])?, read(row)?))).collect()
    }
}

fn read(bytes: bytes::Bytes) -> Result<HomeMember, Error> {
    HomeMember::decode(bytes).map_err(|_| Error::Damaged("a member of a home"))
}
