//! What is known of a shard's facets and profiles under one plan, and what an event changes. Pure.
//!
//! **Invariants.**
//! 1. A profile is there exactly if a facet whose home it is has an event.
//! 2. `stored`, and behind it what is `pending`, in order, comes to where the profiles stand.
//! 3. A profile is in a segment's bitmap exactly if it stands in the segment.
//! 4. A profile's next wake is among the wakes, and nothing else is.

mod abroad;
mod log;
mod spread;
mod successor;

pub use spread::FacetMap;
pub use successor::Missing;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map, hash_map::Entry},
    sync::Arc,
};

use isthmus_domain::{FacetId, RecordView, SlotRanges, Stamp};
use isthmus_proto::internal::v1::SegmentsCommand;
use isthmus_router::{FrozenMembers, FrozenSegment, SegmentsWanted};
use isthmus_segment::{DefinitionId, Evaluated, FacetState, Membership, Plan, Standing, Touched};
use isthmus_shard::{
    feed::{Place, name_hash},
    segments::{Key, Row, Through},
};
use roaring::RoaringBitmap;

/// Profiles that one command is about, at most.
pub const PROFILES_MAX: usize = 1_000;
/// Rows of which a query is told since when they are, at most.
const SINCE_MAX: usize = 2_000_000;
/// Facets whose states are weighed for all.
const WEIGHED: usize = 500;
/// Transitions of one command, at most.
const TRANSITIONS_MAX: usize = 10_000;

/// The change of the feed that brought something about: its place and slot; none at the stamp 0.
pub type Cause = (Place, u16);

/// A profile.
#[derive(Clone, Debug)]
struct Profile {
    /// Its number in bitmaps.
    number: u32,
    standing: Standing,
}

/// A transition that is not in the log yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    key: Key,
    from: u8,
    to: u8,
    told: bool,
    /// Hash of the segment's name.
    name: u32,
    cause: Cause,
}

/// What is known of a facet of another shard.
#[derive(Clone, Copy, Debug)]
struct Foreign {
    /// The shard and the incarnation that told.
    from: (u64, u64),
    /// The stamp that it is of.
    stamp: Stamp,
}

/// What a command in the log brings with it.
#[derive(Debug)]
pub struct Proposed {
    /// The command.
    pub command: SegmentsCommand,
    /// What it says that segments have been worked out up to.
    through: Through,
    taken: usize,
}

/// The facets and profiles of a shard under one plan.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    /// The version of the definitions.
    version: u64,
    /// All changes up to this stamp are in.
    at: Stamp,
    /// What segments have been worked out up to in the log.
    through: Through,
    /// Of facets that have events.
    facets: FacetMap<FacetId, FacetState>,
    /// The homes of facets that are not their own.
    homes: FacetMap<FacetId, FacetId>,
    /// The slots whose profiles are put together here; `None`: all.
    owned: Option<SlotRanges>,
    /// Facets of other shards, as those have told.
    foreign: FacetMap<FacetId, Foreign>,
    /// Home and facet of what other shards have to be told, and what changed it last.
    abroad: BTreeMap<(FacetId, FacetId), Cause>,
    /// Facets with events, by home, where it isn't their own.
    guests: FacetMap<FacetId, BTreeSet<FacetId>>,
    profiles: BTreeMap<FacetId, Profile>,
    wakes: BTreeSet<(i64, FacetId)>,
    all: RoaringBitmap,
    /// By definition.
    sets: Vec<RoaringBitmap>,
    overflows: Vec<RoaringBitmap>,
    /// The homes by number; numbers that are free.
    by_number: Arc<Vec<FacetId>>,
    free: Vec<u32>,
    /// What the log keeps.
    stored: FacetMap<Key, Row>,
    pending: VecDeque<Pending>,
    /// Changes since the last command.
    unsaid: usize,
    /// It is being made: what profiles come to stand in is no change.
    is_made_anew: bool,
}

impl Engine {
    /// Of a shard without events, at a stamp.
    pub fn new(plan: Arc<Plan>, version: u64, at: Stamp) -> Self {
        let definitions = plan.definitions().len();
        Self {
            plan,
            version,
            at,
            through: Through::default(),
            facets: FacetMap::default(),
            homes: FacetMap::default(),
            owned: None,
            foreign: FacetMap::default(),
            abroad: BTreeMap::new(),
            guests: FacetMap::default(),
            profiles: BTreeMap::new(),
            wakes: BTreeSet::new(),
            all: RoaringBitmap::new(),
            sets: vec![RoaringBitmap::new(); definitions],
            overflows: vec![RoaringBitmap::new(); definitions],
            by_number: Arc::default(),
            free: Vec::new(),
            stored: FacetMap::default(),
            pending: VecDeque::new(),
            unsaid: 0,
            is_made_anew: false,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The version of the definitions.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The stamp up to which all changes are in.
    pub fn at(&self) -> Stamp {
        self.at
    }

    /// How many facets it knows, and how much memory their states take, judged by some of them.
    pub fn weight(&self) -> (u64, u64) {
        let some: Vec<usize> = self.facets.values().take(WEIGHED).map(FacetState::bytes).collect();
        let many = self.facets.len() as u64;
        let mean = some.iter().sum::<usize>() as f64 / some.len().max(1) as f64;
        (many, (mean * many as f64) as u64)
    }

    /// The bitmap of all profiles.
    pub fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// The bitmap of a segment.
    pub fn set(&self, name: &str) -> Option<&RoaringBitmap> {
        self.sets.get(self.plan.segment(name)?)
    }

    /// The bitmap of profiles of which it can't be said whether they are in a segment.
    pub fn overflowing(&self, name: &str) -> Option<&RoaringBitmap> {
        self.overflows.get(self.plan.segment(name)?)
    }

    /// The home with a number.
    pub fn home_of_number(&self, number: u32) -> Option<FacetId> {
        self.by_number.get(number as usize).copied()
    }

    /// Who is in segments now, for a query; an error: there are too many to say since when.
    pub fn freeze(&self, wanted: &SegmentsWanted) -> Result<FrozenMembers, usize> {
        let mut frozen = FrozenMembers { at: self.at, homes: self.by_number.clone(), segments: Vec::new() };
        let mut rows = 0;
        for (index, id) in self.segments() {
            let Some(definition) = self.plan.definitions().get(index) else { continue };
            if wanted.names.as_ref().is_some_and(|names| !names.contains(&definition.name)) {
                continue;
            }
            let of = |sets: &[RoaringBitmap]| sets.get(index).cloned().unwrap_or_default();
            let (inside, overflows) = (of(&self.sets), of(&self.overflows));
            let mut since = Vec::new();
            if wanted.since {
                rows += usize::try_from(inside.len() + overflows.len()).unwrap_or(usize::MAX);
                if rows > SINCE_MAX {
                    return Err(SINCE_MAX);
                }
                let all = inside.iter().chain(&overflows);
                since.extend(all.map(|number| {
                    // What the log says later than this moment, or not at all yet, has come about by now.
                    let home = self.home_of_number(number).unwrap_or_default();
                    self.since(home, id).map_or(self.at, |since| since.min(self.at))
                }));
            }
            let name = definition.name.clone();
            frozen.segments.push(FrozenSegment { name, inside, overflows, since });
        }
        Ok(frozen)
    }

    /// The profiles behind a home, by rising home: home and number.
    pub fn profiles_after(&self, after: Option<FacetId>) -> impl Iterator<Item = (FacetId, u32)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.profiles.range((from, Unbounded)).map(|(home, profile)| (*home, profile.number))
    }

    /// The home of a facet.
    pub fn home(&self, facet: &FacetId) -> FacetId {
        self.homes.get(facet).copied().unwrap_or(*facet)
    }

    fn states(&self, home: &FacetId) -> Vec<&FacetState> {
        states(&self.facets, &self.homes, &self.guests, home)
    }

    /// All that definitions say of a profile now; `None`: there is no such profile.
    pub fn answers(&self, home: &FacetId) -> Option<Vec<Evaluated>> {
        self.profiles.get(home)?;
        Some(self.plan.evaluate(&self.states(home), self.at.as_micros(), &self.plan.all()))
    }

    // Making it.

    /// Takes an event up without working anything out: for an engine that is being made.
    pub fn load(&mut self, facet: FacetId, event: &RecordView<'_>) {
        let state = self.facets.entry(facet).or_default();
        self.plan.absorb(event, state, &mut Touched::default());
    }

    /// Says where facets have their home: for an engine that is being made.
    pub fn load_homes(&mut self, homes: impl IntoIterator<Item = (FacetId, FacetId)>) {
        self.homes.extend(homes.into_iter().filter(|(facet, home)| facet != home));
    }

    /// Works everything out, once all is loaded.
    pub fn begin(&mut self) {
        let mut homes = Vec::with_capacity(self.facets.len());
        for facet in self.facets.keys() {
            let home = self.homes.get(facet).copied().unwrap_or(*facet);
            if home != *facet {
                self.guests.entry(home).or_default().insert(*facet);
            }
            homes.push(home);
        }
        homes.retain(|home| self.owns(home));
        homes.sort_unstable();
        homes.dedup();
        let (all, now) = (self.plan.all(), self.at.as_micros());
        self.is_made_anew = true;
        for home in homes {
            self.look(home, &all, now, Cause::default());
        }
        self.is_made_anew = false;
    }

    fn segments(&self) -> impl Iterator<Item = (usize, DefinitionId)> {
        let all = self.plan.definitions().iter().enumerate();
        all.filter(|(_, definition)| definition.is_segment).map(|(index, definition)| (index, definition.id))
    }

    // What happens.

    /// Takes an event up. Its stamp must not be below that of what was taken up before.
    pub fn event(&mut self, facet: FacetId, event: &RecordView<'_>, cause: Cause) {
        let now = cause.0.stamp.as_micros();
        // What time alone has brought about by then has no other cause.
        let home = self.home(&facet);
        // Whose wake is not before all others' has none that is due: most have none at all.
        if self.next_wake().is_some_and(|due| due <= now)
            && self.profiles.get(&home).and_then(|it| it.standing.next()).is_some_and(|due| due <= now)
        {
            self.look(home, &Touched::default(), now, Cause::default());
        }
        let mut touched = Touched::default();
        let (state, is_new) = match self.facets.entry(facet) {
            Entry::Occupied(known) => (known.into_mut(), false),
            Entry::Vacant(vacant) => (vacant.insert(FacetState::default()), true),
        };
        self.plan.absorb(event, state, &mut touched);
        if is_new && home != facet {
            self.guests.entry(home).or_default().insert(facet);
        }
        self.unsaid += 1;
        match self.owns(&home) {
            true => self.look(home, &touched, now, cause),
            // Also what touches nothing: it may be the first that the facet has.
            false => _ = self.abroad.insert((home, facet), cause),
        }
    }

    /// A facet has another home from here on.
    pub fn moves(&mut self, facet: FacetId, to: FacetId, cause: Cause) {
        let from = self.home(&facet);
        self.unsaid += 1;
        if from == to {
            return;
        }
        if to == facet {
            self.homes.remove(&facet);
        } else {
            self.homes.insert(facet, to);
        }
        if !self.facets.contains_key(&facet) {
            return;
        }
        self.part(&facet, &from);
        if to != facet {
            self.guests.entry(to).or_default().insert(facet);
        }
        let (all, now) = (self.plan.all(), cause.0.stamp.as_micros());
        for home in [from, to] {
            match self.owns(&home) {
                true => self.look(home, &all, now, cause),
                false => _ = self.abroad.insert((home, facet), cause),
            }
        }
    }

    /// All changes up to a stamp are in: what is due by then is worked out, of at most so many profiles. Whether that
    /// was all.
    pub fn reach(&mut self, stamp: Stamp, profiles_max: usize) -> bool {
        self.at = self.at.max(stamp);
        let now = self.at.as_micros();
        for _ in 0..profiles_max {
            let Some((_, home)) = self.wakes.first().copied().filter(|(due, _)| *due <= now) else {
                return true;
            };
            self.forget(&home, now);
            self.look(home, &Touched::default(), now, Cause::default());
        }
        self.next_wake().is_none_or(|due| due > now)
    }

    /// When a profile has to be looked at if nothing happens, microseconds since the epoch.
    pub fn next_wake(&self) -> Option<i64> {
        self.wakes.first().map(|(due, _)| *due)
    }

    /// Lets events go that have left their windows.
    fn forget(&mut self, home: &FacetId, now: i64) {
        let own = (!self.homes.contains_key(home)).then_some(home);
        let facets = own.into_iter().chain(self.guests.get(home).into_iter().flatten());
        for facet in facets {
            if let Some(state) = self.facets.get_mut(facet) {
                self.plan.expire(state, now);
            }
        }
    }

    /// Answers what may have changed of a profile, and what is due of it.
    fn look(&mut self, home: FacetId, touched: &Touched, now: i64, cause: Cause) {
        let now = now.max(self.at.as_micros());
        let states = states(&self.facets, &self.homes, &self.guests, &home);
        let plan = Arc::clone(&self.plan);
        if states.is_empty() {
            self.end(home, cause);
            return;
        }
        let profile = self.profiles.entry(home);
        let which = match &profile {
            btree_map::Entry::Vacant(_) => plan.all(),
            btree_map::Entry::Occupied(known) => {
                let mut which = touched.clone();
                known.get().standing.due(now, &mut which);
                // Nothing asks for it, which is so of most events.
                if which.is_empty() {
                    return;
                }
                which
            }
        };
        let answers = plan.judge(&states, now, &which);
        let profile = match profile {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                let number = match self.free.pop() {
                    Some(number) => number,
                    None => u32::try_from(self.by_number.len()).unwrap_or(u32::MAX),
                };
                // Copied while a query has it.
                let homes = Arc::make_mut(&mut self.by_number);
                match homes.get_mut(number as usize) {
                    Some(named) => *named = home,
                    None => homes.push(home),
                }
                self.all.insert(number);
                vacant.insert(Profile { number, standing: Standing::default() })
            }
        };
        let before = profile.standing.next();
        let transitions = profile.standing.update(&plan, &answers);
        let (after, number) = (profile.standing.next(), profile.number);
        if before != after {
            before.map(|due| self.wakes.remove(&(due, home)));
            after.map(|due| self.wakes.insert((due, home)));
        }
        for transition in transitions {
            self.turn(home, number, transition.definition, transition.from, transition.to, cause);
        }
    }

    fn turn(
        &mut self,
        home: FacetId,
        profile: u32,
        definition: usize,
        from: Membership,
        to: Membership,
        cause: Cause,
    ) {
        for (sets, which) in [(&mut self.sets, Membership::In), (&mut self.overflows, Membership::Overflow)] {
            let Some(set) = sets.get_mut(definition) else { continue };
            if to == which {
                set.insert(profile);
            } else {
                set.remove(profile);
            }
        }
        if self.is_made_anew {
            return;
        }
        let Some(definition) = self.plan.definitions().get(definition) else { return };
        let key = Key { home, segment: definition.id.0 };
        let (from, to, name) = (number(from), number(to), name_hash(&definition.name));
        self.pending.push_back(Pending { key, from, to, told: true, name, cause });
    }

    /// A profile has no facet with events any more.
    fn end(&mut self, home: FacetId, cause: Cause) {
        let Some(profile) = self.profiles.remove(&home) else { return };
        profile.standing.next().map(|due| self.wakes.remove(&(due, home)));
        let segments: Vec<usize> = self.segments().map(|(index, _)| index).collect();
        for index in segments {
            let from = profile.standing.membership(index);
            if from != Membership::Out {
                self.turn(home, profile.number, index, from, Membership::Out, cause);
            }
        }
        self.all.remove(profile.number);
        self.free.push(profile.number);
    }
}

/// What is known of a profile's facets: of all facets that have events, their homes, and the other way round.
fn states<'a>(
    facets: &'a FacetMap<FacetId, FacetState>,
    homes: &FacetMap<FacetId, FacetId>,
    guests: &FacetMap<FacetId, BTreeSet<FacetId>>,
    home: &FacetId,
) -> Vec<&'a FacetState> {
    let own = facets.get(home).filter(|_| !homes.contains_key(home));
    let guests = guests.get(home).into_iter().flatten();
    own.into_iter().chain(guests.filter_map(|facet| facets.get(facet))).collect()
}

/// A membership as it is kept.
pub(crate) const fn number(membership: Membership) -> u8 {
    match membership {
        Membership::Out => 0,
        Membership::In => 1,
        Membership::Overflow => 2,
    }
}
