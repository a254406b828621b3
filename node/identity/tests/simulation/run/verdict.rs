//! What is right: each read follows from facts that were known, and in the end everybody agrees with the ledger.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::identity::{IdentityRules, Ledger};
use isthmus_domain::{FacetId, Identifier, LinkFact};
use isthmus_identity::{Served, source_and_kind};

use super::{KEY, Read, Run};

impl Run {
    /// Takes a read a step further; whether it is done.
    pub(super) fn read(&mut self, read: &mut Read) -> Result<bool, String> {
        let Some((home, epoch)) = read.home else {
            let record = self.world.record(read.of);
            if read.past.is_none_or(|past| record.epoch > past) {
                read.home = Some((record.home(read.of), record.epoch));
            }
            return Ok(false);
        };
        let list = self.world.home(home);
        if list.epoch == 0 {
            if epoch > 0 {
                return Ok(false);
            }
            self.check_read(read, BTreeSet::from([home]))?;
            return Ok(true);
        }
        let (shard, of) = (self.world.shard_of(home), read.of);
        match self.world.at(shard, |resolver| resolver.serve(&home, &of, epoch)) {
            Served::Members(members, _) => {
                let members = members.iter().map(|m| FacetId::from_slice(&m.facet).unwrap()).collect();
                self.check_read(read, members)?;
                Ok(true)
            }
            Served::Wait => Ok(false),
            Served::Moved => {
                (read.past, read.home) = (Some(epoch), None);
                Ok(false)
            }
        }
    }

    /// What was read has to follow from all that was acknowledged before the read began and some of what was not.
    fn check_read(&mut self, read: &Read, members: BTreeSet<FacetId>) -> Result<(), String> {
        if self.workload.rule_changes > 0 {
            return Ok(());
        }
        self.reads += 1;
        let (mut must, mut may) = (Vec::new(), Vec::new());
        let acknowledged = |at: &[Option<usize>; 2]| at[1].is_some_and(|at| at < read.began);
        for (number, event) in self.events.iter().enumerate().filter(|(n, _)| self.events_at[*n][0].is_some())
        {
            for fact in &event.facts {
                let retracting = (0..self.retractions.len()).filter(|n| {
                    self.retractions_at[*n][0].is_some() && self.retractions[*n].suppresses(fact)
                });
                let retracting: Vec<usize> = retracting.collect();
                if retracting.iter().any(|n| acknowledged(&self.retractions_at[*n])) {
                    continue;
                }
                if retracting.is_empty() && acknowledged(&self.events_at[number]) {
                    must.push(fact);
                } else {
                    may.push(fact);
                }
            }
        }
        let row =
            |fact: &LinkFact| (fact.a.clone(), fact.b.clone(), source_and_kind(&fact.source, fact.kind));
        may.retain(|fact| !must.iter().any(|known| row(known) == row(fact) && known <= fact));
        if may.len() > 9 {
            return Ok(());
        }
        let rules = self.workload.rules(0);
        let flagged: Vec<FacetId> = {
            let facets: Vec<FacetId> = self.names.keys().copied().collect();
            facets.into_iter().filter(|facet| self.world.record(*facet).flag_version > 0).collect()
        };
        for chosen in 0..1usize << may.len() {
            let some = may.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1).map(|(_, fact)| *fact);
            let facts: Vec<&LinkFact> = must.iter().copied().chain(some).collect();
            if component(&rules, &facts, read.of, None) == members {
                return Ok(());
            }
            for shared in 0..1usize << flagged.len().min(6) {
                let forced = flagged.iter().enumerate().filter(|(n, _)| shared >> n & 1 == 1);
                let forced = forced.map(|(_, facet)| *facet).collect();
                if flagged.is_empty() {
                    break;
                }
                if component(&rules, &facts, read.of, Some(forced)) == members {
                    return Ok(());
                }
            }
        }
        let names: Vec<String> = members.iter().map(|facet| self.names[facet].to_string()).collect();
        Err(format!("a read of {} gave {names:?}, which follows from no facts", self.names[&read.of]))
    }

    /// All is quiet: everybody agrees with the ledger.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let rules = self.world.shards[0].rules.clone();
        let mut ledger = Ledger::new(KEY, rules.clone());
        for fact in self.events.iter().flat_map(|event| &event.facts) {
            ledger.accept(fact.clone()).unwrap();
        }
        for retraction in &self.retractions {
            ledger.retract(retraction.clone()).unwrap();
        }
        let mut expected: BTreeMap<FacetId, (FacetId, BTreeSet<FacetId>)> = BTreeMap::new();
        for profile in ledger.profiles() {
            let members: BTreeSet<FacetId> = profile.component.members().iter().map(|m| m.facet).collect();
            for member in &members {
                expected.insert(*member, (profile.component.home(), members.clone()));
            }
        }
        let facets: Vec<(FacetId, Identifier)> =
            self.names.iter().map(|(facet, name)| (*facet, name.clone())).collect();
        for (facet, name) in facets {
            let (home, members) = expected.get(&facet).cloned().unwrap_or((facet, BTreeSet::from([facet])));
            let record = self.world.record(facet);
            if record.home(facet) != home {
                let names = |ids: &BTreeSet<FacetId>| {
                    ids.iter().map(|id| self.names[id].to_string()).collect::<Vec<_>>()
                };
                return Err(format!(
                    "{name} has the home {} and should have {} with {:?}",
                    self.names[&record.home(facet)],
                    self.names[&home],
                    names(&members)
                ));
            }
            let list = self.world.home(home);
            if list.epoch == 0 && members.len() == 1 {
                continue;
            }
            if list.active != list.epoch || list.epoch < record.epoch {
                return Err(format!("the home of {name} serves {}, not {}", list.active, list.epoch));
            }
            let shard = self.world.shard_of(home);
            let served = self.world.at(shard, |resolver| resolver.serve(&home, &facet, record.epoch));
            let Served::Members(list, rules_version) = served else {
                return Err(format!("the home of {name} doesn't serve it"));
            };
            let listed: BTreeSet<FacetId> =
                list.iter().map(|m| FacetId::from_slice(&m.facet).unwrap()).collect();
            if listed != members {
                return Err(format!(
                    "the home of {name} lists {} members, not {}",
                    listed.len(),
                    members.len()
                ));
            }
            if rules_version > rules.version() {
                return Err(format!("the home of {name} was formed under rules that nobody gave"));
            }
        }
        match self.is_calm() {
            true => Ok(()),
            false => Err("something is not in force".to_owned()),
        }
    }
}

/// The component of an identifier by the plainest fold there is; `forced` are the identifiers to take for shared.
fn component(
    rules: &IdentityRules,
    facts: &[&LinkFact],
    of: FacetId,
    forced: Option<BTreeSet<FacetId>>,
) -> BTreeSet<FacetId> {
    let facet = |id: &Identifier| FacetId::of(&KEY, id);
    let mut facts: Vec<&LinkFact> =
        facts.iter().copied().filter(|fact| rules.refuses(fact).is_none()).collect();
    facts.sort();
    let mut beside: BTreeMap<FacetId, BTreeSet<FacetId>> = BTreeMap::new();
    for fact in &facts {
        for (x, y) in [(&fact.a, &fact.b), (&fact.b, &fact.a)] {
            if rules.limit(y.namespace()) == 1 {
                beside.entry(facet(x)).or_default().insert(facet(y));
            }
        }
    }
    let counted = beside.iter().filter(|(_, others)| others.len() > rules.shared_above() as usize);
    let shared = forced.unwrap_or_else(|| counted.map(|(facet, _)| *facet).collect());
    let mut sets: Vec<BTreeMap<FacetId, &Identifier>> = Vec::new();
    for fact in facts {
        let (a, b) = (facet(&fact.a), facet(&fact.b));
        if shared.contains(&a) || shared.contains(&b) {
            continue;
        }
        let mut take = |facet: FacetId, id| match sets.iter().position(|set| set.contains_key(&facet)) {
            Some(at) => sets.swap_remove(at),
            None => BTreeMap::from([(facet, id)]),
        };
        let mut left = take(a, &fact.a);
        if left.contains_key(&b) {
            sets.push(left);
            continue;
        }
        let right = take(b, &fact.b);
        let of_namespace = |set: &BTreeMap<FacetId, &Identifier>, id: &Identifier| {
            set.values().filter(|other| other.namespace() == id.namespace()).count()
        };
        let over = left.values().any(|id| {
            let (mine, other) = (of_namespace(&left, id), of_namespace(&right, id));
            other > 0
                && mine + other > rules.limit(id.namespace()) as usize
                && !IdentityRules::exempts(fact.kind, id.namespace())
        });
        if over {
            sets.extend([left, right]);
        } else {
            left.extend(right);
            sets.push(left);
        }
    }
    let found = sets.into_iter().find(|set| set.contains_key(&of));
    found.map_or(BTreeSet::from([of]), |set| set.into_keys().collect())
}
