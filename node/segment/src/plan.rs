//! The plan: definitions checked against each other, and made ready for events.
//!
//! Compiling finds all that is wrong with a set of definitions. What comes out knows which terms answer which
//! definition, which events touch which term, and in which order segments that build on others are worked out.

use std::collections::{BTreeMap, BTreeSet};

mod index;

pub use index::Reads;

use isthmus_domain::EventType;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    definition::{Document, check_name},
    evaluate::Leaf,
    fault::{Fault, Place},
    parse::{self, Names},
    scalar::{Path, Type},
    term::{Term, TermId, Widest},
    tree::{Fact, Kind, Node},
};

/// The most computed traits, and the most segments.
pub const DEFINITIONS_MAX: usize = 1_000;
/// The most terms of all definitions together.
pub const TERMS_MAX: usize = 4_096;
/// How deep segments may build on each other.
pub const LEVELS_MAX: usize = 16;

/// What definitions may rest on besides themselves.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The traits that there are, with their types where those are registered; `None`: any name may be a trait.
    pub traits: Option<BTreeMap<String, Type>>,
    /// The currency of `revenue`: three upper-case letters.
    pub currency: String,
}

/// Definitions, ready for events.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Computed traits, then segments, each behind those that it builds on.
    definitions: Vec<Definition>,
    /// How many of them are computed traits.
    computed: usize,
    /// Those that build on others.
    pub(crate) building: Vec<usize>,
    /// What definitions of common forms come to, all in a row; and of each definition where its part ends.
    leaves: Vec<Leaf>,
    leaves_end: Vec<usize>,
    terms: Vec<Planned>,
    /// Terms by name, sorted.
    by_id: Vec<(TermId, usize)>,
    /// Definitions by name, sorted.
    by_definition: Vec<(DefinitionId, usize)>,
    pub(crate) events: BTreeMap<EventType, ByName>,
    pub(crate) traits: BTreeMap<String, usize>,
    pub(crate) revenue: BTreeMap<String, usize>,
    pub(crate) consent: Vec<(Path, usize)>,
    pub(crate) seen: Option<usize>,
}

/// Terms that events of a type touch.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByName {
    pub(crate) named: BTreeMap<String, Vec<usize>>,
    pub(crate) any: Vec<usize>,
}

/// The name of a definition of one version, in what is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DefinitionId(pub u64);

impl DefinitionId {
    /// The name of a version of a segment in what is stored.
    pub fn of_segment(name: &str, version: u64) -> Self {
        Self(xxh3_64(format!("segment {version} {name}").as_bytes()))
    }
}

/// A computed trait or a segment.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name in what is stored.
    pub id: DefinitionId,
    /// Its name.
    pub name: String,
    /// Of a segment: which edit of it this is; 0 for computed traits.
    pub version: u64,
    /// Whether it is a segment: then its tree is true or false.
    pub is_segment: bool,
    /// What it means.
    pub tree: Node,
    /// The segments that it builds on, directly or not, rising.
    pub(crate) needs: Vec<usize>,
}

/// A term and what rests on it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) id: TermId,
    pub(crate) term: Term,
    /// Definitions that ask it, directly or not, rising.
    pub(crate) touches: Vec<usize>,
    /// Whether properties are looked at.
    pub(crate) reads_properties: bool,
}

/// A set of a plan's definitions.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    words: Vec<u64>,
}

impl Touched {
    /// Adds a definition.
    pub fn insert(&mut self, definition: usize) {
        let word = definition / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (definition % 64);
    }

    /// Whether a definition is in it.
    pub fn contains(&self, definition: usize) -> bool {
        self.words.get(definition / 64).is_some_and(|word| word & (1 << (definition % 64)) != 0)
    }

    /// Forgets all, and keeps the memory for the next event.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The definitions, rising.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(index * 64 + bit as usize)
            })
        })
    }
}

impl Plan {
    /// Checks a document and makes a plan of it.
    ///
    /// # Errors
    /// What is wrong, and where: one fault for each definition that can't be taken, or one of all together.
    pub fn compile(document: &Document, known: &Known) -> Result<Self, Vec<Fault>> {
        for (key, many) in
            [("computed_traits", document.computed_traits.len()), ("segments", document.segments.len())]
        {
            if many > DEFINITIONS_MAX {
                return Err(vec![Fault::of_part(
                    key,
                    format!("{many} of them; {DEFINITIONS_MAX} are the most"),
                )]);
            }
        }
        let (mut faults, mut definitions) = (Vec::new(), Vec::new());
        let mut names = Names {
            computed: BTreeMap::new(),
            segments: document.segments.iter().map(|segment| segment.name.clone()).collect(),
            traits: known.traits.clone(),
            currency: known.currency.clone(),
        };
        for computed in &document.computed_traits {
            let read = match computed.read() {
                Ok(read) => read,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            let part = format!("computed trait {}: name", computed.name);
            if names.traits.as_ref().is_some_and(|traits| traits.contains_key(&computed.name)) {
                let what = "a trait has this name already: choose another one";
                faults.push(Fault::of_part(part, what));
                continue;
            }
            let tree = Node::read(Fact::Aggregate(read.aggregate.clone()), read.ty, Place::START);
            if names.computed.insert(computed.name.clone(), read).is_some() {
                faults.push(Fault::of_part(part, "this name is there twice"));
                continue;
            }
            definitions.push(Definition::new(&computed.name, 0, false, tree));
        }
        let computed = definitions.len();
        let mut seen = BTreeSet::new();
        for segment in &document.segments {
            let part = |key: &str| format!("segment {}: {key}", segment.name);
            let checked = check_name(&segment.name, &["and", "or", "not", "count"]);
            if let Err(what) = checked {
                faults.push(Fault::of_part(part("name"), what));
            } else if !seen.insert(&segment.name) {
                faults.push(Fault::of_part(part("name"), "this name is there twice"));
            } else {
                match parse::expression(&segment.expression, &names) {
                    Ok(tree) => {
                        definitions.push(Definition::new(&segment.name, segment.version, true, tree));
                    }
                    Err(fault) => faults.push(fault.within(part("expression"))),
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        order(&mut definitions, computed)?;
        Self::of(definitions).map_err(|fault| vec![fault])
    }

    /// Finds the terms of definitions in order.
    fn of(mut definitions: Vec<Definition>) -> Result<Self, Fault> {
        let mut terms: Vec<Planned> = Vec::new();
        let mut by_description: BTreeMap<String, usize> = BTreeMap::new();
        let mut direct: Vec<BTreeSet<usize>> = Vec::new();
        let mut widest = Widest::default();
        for definition in &mut definitions {
            definition.tree.visit_mut(&mut |node| {
                if let Kind::Read(read) = &node.kind {
                    Term::of(&read.fact).iter().for_each(|term| widest.note(term));
                }
            });
        }
        for definition in &mut definitions {
            let mut own = BTreeSet::new();
            definition.tree.visit_mut(&mut |node| {
                let Kind::Read(read) = &mut node.kind else { return };
                let planned = Term::of(&read.fact).into_iter().map(|term| {
                    let term = widest.of(term);
                    *by_description.entry(term.description()).or_insert_with(|| {
                        terms.push(Planned::new(term));
                        terms.len() - 1
                    })
                });
                read.terms = planned.collect();
                own.extend(&read.terms);
            });
            direct.push(own);
        }
        if terms.len() > TERMS_MAX {
            let what = format!(
                "they ask {} different things of a profile; {TERMS_MAX} are the most: use fewer, or the same windows \
                 and filters",
                terms.len()
            );
            return Err(Fault::of_part("", what));
        }
        for (index, definition) in definitions.iter().enumerate() {
            let all = definition.needs.iter().chain([&index]).flat_map(|needed| &direct[*needed]);
            for term in all.copied().collect::<BTreeSet<_>>() {
                terms[term].touches.push(index);
            }
        }
        let mut by_id: Vec<(TermId, usize)> = terms.iter().map(|term| term.id).zip(0..).collect();
        by_id.sort();
        let mut by_definition: Vec<(DefinitionId, usize)> =
            definitions.iter().map(|definition| definition.id).zip(0..).collect();
        by_definition.sort();
        let same = by_id.windows(2).any(|two| two[0].0 == two[1].0)
            || by_definition.windows(2).any(|two| two[0].0 == two[1].0);
        if same {
            let what = "two of them have the same hash: rename one, or write its window in another length";
            return Err(Fault::of_part("", what));
        }
        let computed = definitions.iter().take_while(|definition| !definition.is_segment).count();
        let building = definitions.iter().zip(0..).filter(|(it, _)| !it.needs.is_empty());
        let building = building.map(|(_, index)| index).collect();
        let (mut leaves, mut leaves_end) = (Vec::new(), Vec::new());
        for definition in &definitions {
            leaves.extend(Leaf::of_tree(&definition.tree).unwrap_or_default());
            leaves_end.push(leaves.len());
        }
        let mut plan = Self {
            definitions,
            computed,
            building,
            leaves,
            leaves_end,
            terms,
            by_id,
            by_definition,
            events: BTreeMap::new(),
            traits: BTreeMap::new(),
            revenue: BTreeMap::new(),
            consent: Vec::new(),
            seen: None,
        };
        plan.index(|_| true);
        Ok(plan)
    }

    /// Computed traits, then segments, each behind those that it builds on.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// A definition, and the leaves that it comes to, if any.
    pub(crate) fn definition(&self, index: usize) -> Option<(&Definition, &[Leaf])> {
        let definition = self.definitions.get(index)?;
        let end = |index: usize| self.leaves_end.get(index).copied().unwrap_or_default();
        let from = index.checked_sub(1).map_or(0, end);
        Some((definition, self.leaves.get(from..end(index)).unwrap_or_default()))
    }

    /// Whether a definition is a segment.
    pub(crate) fn is_segment(&self, index: usize) -> bool {
        (self.computed..self.definitions.len()).contains(&index)
    }

    /// Where a segment is among the definitions.
    pub fn segment(&self, name: &str) -> Option<usize> {
        self.definitions.iter().position(|d| d.is_segment && d.name == name)
    }

    /// Where a definition is, by its name in what is stored.
    pub fn position(&self, id: DefinitionId) -> Option<usize> {
        let at = self.by_definition.binary_search_by_key(&id, |(known, _)| *known).ok()?;
        Some(self.by_definition[at].1)
    }

    /// All definitions.
    pub fn all(&self) -> Touched {
        let mut all = Touched::default();
        (0..self.definitions.len()).for_each(|definition| all.insert(definition));
        all
    }

    /// The terms that are kept, by name: those that another plan doesn't have must be gathered anew.
    pub fn terms(&self) -> impl Iterator<Item = (TermId, &Term)> {
        self.terms.iter().map(|planned| (planned.id, &planned.term))
    }

    pub(crate) fn term(&self, index: usize) -> Option<&Planned> {
        self.terms.get(index)
    }

    pub(crate) fn term_of(&self, id: TermId) -> Option<&Planned> {
        let at = self.by_id.binary_search_by_key(&id, |(known, _)| *known).ok()?;
        self.terms.get(self.by_id[at].1)
    }
}

impl Definition {
    fn new(name: &str, version: u64, is_segment: bool, tree: Node) -> Self {
        let kind = if is_segment { "segment" } else { "trait" };
        let id = DefinitionId(xxh3_64(format!("{kind} {version} {name}").as_bytes()));
        Self { id, name: name.to_owned(), version, is_segment, tree, needs: Vec::new() }
    }
}

impl Planned {
    fn new(term: Term) -> Self {
        let filtered = term.events().is_some_and(|events| events.filter.is_some());
        let reads_properties = filtered || term.of_property().is_some();
        Self { id: term.id(), term, touches: Vec::new(), reads_properties }
    }
}

/// Puts segments behind those that they build on, and tells each where they are.
fn order(definitions: &mut Vec<Definition>, computed: usize) -> Result<(), Vec<Fault>> {
    let mut segments = definitions.split_off(computed);
    let uses: Vec<Vec<(String, Place)>> = segments.iter_mut().map(used).collect();
    let by_name: BTreeMap<String, usize> =
        segments.iter().enumerate().map(|(index, segment)| (segment.name.clone(), index)).collect();
    // For each: on how many levels it rests, once all that it uses are placed.
    let mut level: Vec<Option<usize>> = vec![None; segments.len()];
    let mut placed: Vec<usize> = Vec::new();
    loop {
        let ready: Vec<usize> = (0..segments.len())
            .filter(|index| level[*index].is_none())
            .filter(|index| {
                uses[*index].iter().all(|(name, _)| by_name.get(name).is_some_and(|u| level[*u].is_some()))
            })
            .collect();
        if ready.is_empty() {
            break;
        }
        for index in &ready {
            let below = uses[*index].iter().filter_map(|(name, _)| level[*by_name.get(name)?]);
            level[*index] = Some(below.max().map_or(0, |below| below + 1));
            placed.push(*index);
            if level[*index] >= Some(LEVELS_MAX) {
                let (_, at) = uses[*index].first().cloned().unwrap_or((String::new(), Place::START));
                let what = format!("segments build on each other in more than {LEVELS_MAX} levels");
                return Err(vec![Fault::new(at, what).within(of_segment(&segments[*index]))]);
            }
        }
    }
    let cyclic: Vec<usize> = (0..segments.len()).filter(|index| level[*index].is_none()).collect();
    if !cyclic.is_empty() {
        return Err(cycles(&segments, &uses, &by_name, &cyclic));
    }
    let mut position = vec![0; segments.len()];
    for (at, index) in placed.iter().enumerate() {
        position[*index] = computed + at;
    }
    let mut taken: Vec<Option<Definition>> = segments.into_iter().map(Some).collect();
    for index in placed {
        let Some(mut segment) = taken[index].take() else { continue };
        let mut needs = BTreeSet::new();
        segment.tree.visit_mut(&mut |node| {
            if let Kind::Segment { name, index } = &mut node.kind
                && let Some(used) = by_name.get(name)
            {
                *index = position[*used];
                needs.insert(*index);
                needs.extend(&definitions[*index].needs);
            }
        });
        segment.needs = needs.into_iter().collect();
        definitions.push(segment);
    }
    Ok(())
}

fn of_segment(segment: &Definition) -> String {
    format!("segment {}: expression", segment.name)
}

/// The segments that one names, and where.
fn used(segment: &mut Definition) -> Vec<(String, Place)> {
    let mut used = Vec::new();
    segment.tree.visit_mut(&mut |node| {
        if let Kind::Segment { name, .. } = &node.kind {
            used.push((name.clone(), node.at));
        }
    });
    used
}

/// One fault for each segment that lies on a cycle, with the way around.
fn cycles(
    segments: &[Definition],
    uses: &[Vec<(String, Place)>],
    by_name: &BTreeMap<String, usize>,
    cyclic: &[usize],
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut told = BTreeSet::new();
    for start in cyclic {
        // Everything left uses something left: walking on comes back to where it has been.
        let (mut way, mut at) = (Vec::new(), *start);
        while !way.contains(&at) {
            way.push(at);
            let next = uses[at].iter().filter_map(|(name, _)| by_name.get(name));
            match next.copied().find(|next| cyclic.contains(next)) {
                Some(next) => at = next,
                None => break,
            }
        }
        let cycle: Vec<usize> = way.into_iter().skip_while(|index| *index != at).collect();
        if !cycle.iter().all(|index| told.insert(*index)) {
            continue;
        }
        let names = cycle.iter().chain([&at]).map(|index| segments[*index].name.as_str());
        let what = format!(
            "segments build on each other in a circle: {}; take one of them out",
            names.collect::<Vec<_>>().join(" -> ")
        );
        let next = cycle.get(1).unwrap_or(&at);
        let place = uses[at].iter().find(|(name, _)| by_name.get(name) == Some(next));
        let place = place.map_or(Place::START, |(_, place)| *place);
        faults.push(Fault::new(place, what).within(of_segment(&segments[at])));
    }
    faults
}
