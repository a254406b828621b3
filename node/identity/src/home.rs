//! At a home and its members: who belongs to the profile, and since when.
//!
//! Lists come in epochs, and the largest counts. A list is served once every member has come; until then the one before
//! is, for members of which none has left. A member hears of its next home from the one that it leaves, in order: so at
//! no time do two homes serve the same member, and a read that finds a member gone finds its record newer.

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_proto::internal::v1::{
    Active, Assign, Joined, Leave, Member, Members, MembersChange, Settled, ToRoot, identity_message::Body,
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

/// What comes of a list in place of the one before.
struct Turn {
    epoch: u64,
    /// The epoch before.
    follows: u64,
    /// The epoch that is served.
    active: u64,
    came: Vec<Member>,
    left: Vec<Member>,
    /// How many more members are waited for, or in all.
    waiting: i64,
    /// Whether some member of the list that is served is not in the newest one.
    parts: bool,
}

impl Turn {
    fn of(epoch: u64, home: &Home) -> Self {
        let (came, left) = (Vec::new(), Vec::new());
        Self { epoch, follows: home.epoch, active: home.active, came, left, waiting: 0, parts: false }
    }
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
        let mut home = self.home(&own)?;
        if list.epoch <= home.epoch {
            return self.overtaken(own, &home, list.epoch, &list.leaves, &list.root);
        }
        self.let_go(&list.leaves, &list.root)?;
        if list.members.is_empty() && home.epoch == 0 {
            // Never a home, and none now: nobody waits for it to say so.
            home.active = list.epoch;
        }
        let mut known = self.home_members(&own)?;
        let mut turn = Turn::of(list.epoch, &home);
        for member in list.members {
            let before = known.remove(&facet(&member.facet)?).unwrap_or_default();
            self.list(&own, member, before, &mut turn)?;
        }
        for (id, before) in known {
            self.unlist(&own, id, before, &mut turn)?;
        }
        (home.epoch, home.root, home.rules_version) = (list.epoch, list.root, list.rules_version);
        home.settles = list.settles;
        self.turn(&own, &mut home, turn)?;
        self.catch_up(own, home)
    }

    /// How the list has changed that the home has of this root.
    pub(crate) fn members_change(&mut self, own: FacetId, change: MembersChange) -> Result<(), Error> {
        let mut home = self.home(&own)?;
        if change.epoch <= home.epoch {
            return self.overtaken(own, &home, change.epoch, &change.leaves, &change.root);
        }
        home.early.push(change);
        self.catch_up(own, home)
    }

    /// Takes the changes whose turn has come, and serves what can be served.
    fn catch_up(&mut self, own: FacetId, mut home: Home) -> Result<(), Error> {
        // Of those that a whole list has overtaken, nothing is left but who is to be told.
        for late in home.early.extract_if(.., |early| early.epoch <= home.epoch).collect::<Vec<_>>() {
            self.overtaken(own, &home, late.epoch, &late.leaves, &late.root)?;
        }
        while let Some(next) = home.early.iter().position(|early| early.follows == home.epoch) {
            let change = home.early.swap_remove(next);
            self.let_go(&change.leaves, &change.root)?;
            let mut turn = Turn::of(change.epoch, &home);
            for member in change.came {
                let before = self.home_member(&own, &facet(&member.facet)?)?.unwrap_or_default();
                turn.waiting -= i64::from(before.listed && !before.has_come());
                self.list(&own, member, before, &mut turn)?;
            }
            for leave in &change.leaves {
                let id = facet(&leave.facet)?;
                let Some(before) = self.home_member(&own, &id)? else { continue };
                turn.waiting -= i64::from(before.listed && !before.has_come());
                self.unlist(&own, id, before, &mut turn)?;
            }
            turn.waiting = turn.waiting.saturating_add_unsigned(home.waiting);
            (home.epoch, home.root, home.rules_version) = (change.epoch, change.root, change.rules_version);
            home.settles = change.settles;
            self.turn(&own, &mut home, turn)?;
        }
        home.early.sort_by_key(|early| early.follows);
        self.activate(own, home)
    }

    /// A list that another one has overtaken: those who leave by it are told all the same.
    fn overtaken(
        &mut self,
        own: FacetId,
        home: &Home,
        epoch: u64,
        leaves: &[Leave],
        root: &Bytes,
    ) -> Result<(), Error> {
        self.let_go(leaves, root)?;
        // Whoever sent it may wait for a list that was never served, because this one overtook it.
        if home.active >= epoch {
            let active = Active { home: bytes(&own), epoch: home.active, told: false };
            let up = ToRoot { body: Some(RootBody::Active(active)) };
            self.send(&facet(root)?, Body::ToRoot(up));
        }
        Ok(())
    }

    /// Tells members that leave where to.
    fn let_go(&mut self, leaves: &[Leave], root: &Bytes) -> Result<(), Error> {
        for leave in leaves {
            let assign = Assign {
                follows: leave.since,
                home: leave.home.clone(),
                epoch: leave.epoch,
                root: root.clone(),
            };
            self.send(&facet(&leave.facet)?, Body::Assign(assign));
        }
        Ok(())
    }

    /// Puts a member on the list.
    fn list(
        &mut self,
        own: &FacetId,
        member: Member,
        before: HomeMember,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        let id = facet(&member.facet)?;
        turn.parts |= before.listed && before.since <= turn.active && before.since != member.since;
        let mut row = HomeMember {
            listed: true,
            since: member.since,
            namespace: member.namespace.clone(),
            value: member.value.clone(),
            come: before.come,
        };
        if id == *own {
            let here = self.record(own)?;
            if here.home(*own) == *own {
                row.come = row.come.max(Some(here.epoch));
            }
        }
        turn.waiting += i64::from(!row.has_come());
        if row != before {
            self.put(keys::home_member(own, &id), &row)?;
        }
        if !before.listed {
            turn.came.push(member);
        }
        Ok(())
    }

    /// Takes one off the list that was on it, or has come early.
    fn unlist(
        &mut self,
        own: &FacetId,
        id: FacetId,
        before: HomeMember,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        // What is served stays the list of `active`, which is the members since then at the latest.
        turn.parts |= before.listed && before.since <= turn.active;
        let key = keys::home_member(own, &id);
        match before.come.filter(|come| *come > turn.epoch) {
            Some(come) => self.put(key, &HomeMember { come: Some(come), ..HomeMember::default() })?,
            None => self.store.put(key, None)?,
        }
        if before.listed {
            let HomeMember { since, namespace, value, .. } = before;
            turn.left.push(Member { facet: bytes(&id), since, namespace, value });
        }
        Ok(())
    }

    /// Takes note of a new list.
    fn turn(&mut self, own: &FacetId, home: &mut Home, turn: Turn) -> Result<(), Error> {
        home.parting = (home.parting && home.active < turn.follows) || turn.parts;
        home.waiting = turn.waiting.max(0).unsigned_abs();
        let Turn { came, left, .. } = turn;
        // A home that was never one, and is told so, has no history.
        if !came.is_empty() || !left.is_empty() {
            let epoch = Epoch { stamp: self.stamp, rules_version: home.rules_version, came, left };
            self.put(keys::history(own, Some(home.epoch)), &epoch)?;
        }
        Ok(())
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

fn read(bytes: Bytes) -> Result<HomeMember, Error> {
    HomeMember::decode(bytes).map_err(|_| Error::Damaged("a member of a home"))
}
