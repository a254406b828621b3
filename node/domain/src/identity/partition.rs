//! The components so far: disjoint sets of identifiers that can be joined, listed, parted and put back.
//!
//! Sets are trees of parent numbers (union by size, paths halved on the way). The members of a set are also a ring, so
//! that joining two sets is swapping two successors and listing one needs nothing else. Each set counts its members by
//! namespace, and each member keeps the time of the oldest fact followed about it, which settles ties for the home. The
//! home is kept up to date: of two sets that are joined the better one of their homes, so that what is told is not all
//! members but who moves.
//!
//! Source: Tarjan and van Leeuwen, "Worst-case Analysis of Set Union Algorithms" (JACM 31, 1984).

use std::collections::BTreeSet;

use super::members::{Members, Number};
use super::rules::IdentityRules;
use super::verdict::{Refusal, Verdict};
use crate::link::LinkFact;

/// Which identifiers are together. Identifiers beyond its length stand alone.
#[derive(Clone, Default)]
pub(super) struct Partition {
    nodes: Vec<Node>,
}

/// Who may have another home than before.
#[derive(Clone, Default)]
pub(super) struct Touched {
    /// Identifiers.
    pub(super) numbers: BTreeSet<Number>,
    /// A member each of sets of which all may.
    pub(super) sets: BTreeSet<Number>,
}

/// An identifier in its set.
#[derive(Clone)]
pub(super) struct Node {
    parent: Number,
    /// The next member of the ring.
    next: Number,
    size: u32,
    /// Time of the oldest followed fact; `i64::MAX` when there is none.
    first: i64,
    /// Members by namespace, sorted; of roots with more than one member only.
    counts: Vec<(u16, u32)>,
    /// Of roots: the member at whose slot the home of all is.
    home: Number,
}

impl Touched {
    /// Whether it is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.sets.is_empty()
    }
}

impl Partition {
    /// Room for as many identifiers.
    pub(super) fn grow(&mut self, members: usize) {
        for number in self.nodes.len()..members {
            self.nodes.push(Node::alone(number as Number));
        }
    }

    /// The root of a set; itself for one that stands alone.
    pub(super) fn root(&self, mut number: Number) -> Number {
        while let Some(node) = self.nodes.get(number as usize) {
            if node.parent == number {
                break;
            }
            number = node.parent;
        }
        number
    }

    /// The identifier at whose slot the home of an identifier is.
    pub(super) fn home(&self, number: Number) -> Number {
        self.nodes.get(self.root(number) as usize).map_or(number, |root| root.home)
    }

    fn root_halving(&mut self, mut number: Number) -> Number {
        loop {
            let parent = self.nodes[number as usize].parent;
            if parent == number {
                return number;
            }
            let grandparent = self.nodes[parent as usize].parent;
            self.nodes[number as usize].parent = grandparent;
            number = grandparent;
        }
    }

    /// The members of the set that the identifier is in, itself included.
    pub(super) fn set(&self, number: Number) -> impl Iterator<Item = Number> + '_ {
        let next = move |at: &Number| {
            let next = self.nodes.get(*at as usize).map_or(number, |node| node.next);
            (next != number).then_some(next)
        };
        std::iter::successors(Some(number), next)
    }

    /// When an identifier was first followed anywhere, microseconds since the epoch.
    pub(super) fn first(&self, number: Number) -> Option<i64> {
        let first = self.nodes.get(number as usize)?.first;
        (first != i64::MAX).then_some(first)
    }

    /// Identifiers that are not alone.
    pub(super) fn not_alone(&self) -> impl Iterator<Item = Number> + '_ {
        let alone = |(number, node): &(usize, &Node)| node.next as usize == *number;
        self.nodes.iter().enumerate().filter(move |entry| !alone(entry)).map(|(number, _)| number as Number)
    }

    /// Follows a fact or refuses it, and notes who may have another home then. Both numbers must be within
    /// [`Self::grow`].
    pub(super) fn judge(
        &mut self,
        rules: &IdentityRules,
        members: &Members,
        (a, b): (Number, Number),
        fact: &LinkFact,
        touched: &mut Touched,
    ) -> Verdict {
        if let Some(refusal) = Self::refused_always(rules, members, (a, b), fact) {
            return Verdict::Refused(refusal);
        }
        let (root_a, root_b) = (self.root_halving(a), self.root_halving(b));
        if root_a != root_b {
            let (counts_a, counts_b) = (self.counts(root_a, members), self.counts(root_b, members));
            // A namespace that only one side has doesn't grow, even where an alias has brought it over its limit.
            let over = common(&counts_a, &counts_b).filter(|(space, sum)| {
                let namespace = members.namespace(*space);
                *sum > u64::from(members.limit(*space)) && !IdentityRules::exempts(fact.kind, namespace)
            });
            if let Some(namespace) =
                over.map(|(space, _)| members.namespace(space)).min_by_key(|n| n.as_str())
            {
                return Verdict::Refused(Refusal::Limit { namespace: namespace.clone() });
            }
            let counts = sum(&counts_a, &counts_b);
            self.join(rules, members, (root_a, root_b), counts, touched);
        }
        for number in [a, b] {
            let first = &mut self.nodes[number as usize].first;
            if fact.timestamp < *first {
                *first = fact.timestamp;
                self.may_lead(rules, members, number, touched);
            }
        }
        if root_a == root_b { Verdict::Confirmed } else { Verdict::Joined }
    }

    /// Why a fact is refused whatever sets there are; `None` when it depends on them.
    pub(super) fn refused_always(
        rules: &IdentityRules,
        members: &Members,
        (a, b): (Number, Number),
        fact: &LinkFact,
    ) -> Option<Refusal> {
        let (known_a, known_b) = (members.get(a), members.get(b));
        if a == b {
            Some(Refusal::SelfLink)
        } else if known_a.blocked || known_b.blocked {
            Some(Refusal::Blocked)
        } else if !rules.trusts(&fact.source, fact.a.namespace(), fact.b.namespace()) {
            Some(Refusal::SourceNotTrusted)
        } else if known_a.shared || known_b.shared {
            Some(Refusal::Shared)
        } else {
            None
        }
    }

    /// Lets a member stand alone. Whoever does that does it with all members of its set; what it was is given back, for
    /// [`Self::put_back`].
    pub(super) fn set_alone(&mut self, number: Number) -> Node {
        std::mem::replace(&mut self.nodes[number as usize], Node::alone(number))
    }

    /// Undoes [`Self::set_alone`], and whatever was joined since; likewise with all members.
    pub(super) fn put_back(&mut self, number: Number, node: Node) {
        self.nodes[number as usize] = node;
    }

    fn counts(&self, root: Number, members: &Members) -> Vec<(u16, u32)> {
        let node = &self.nodes[root as usize];
        if node.size == 1 { vec![(members.get(root).space, 1)] } else { node.counts.clone() }
    }

    fn join(
        &mut self,
        rules: &IdentityRules,
        members: &Members,
        (a, b): (Number, Number),
        counts: Vec<(u16, u32)>,
        touched: &mut Touched,
    ) {
        let [size_a, size_b] = [a, b].map(|root| self.nodes[root as usize].size);
        let (small, large) = if size_a < size_b { (a, b) } else { (b, a) };
        let [home_small, home_large] = [small, large].map(|root| self.nodes[root as usize].home);
        let home = if self.leads(rules, members, home_small, home_large) {
            // They are too many to be noted one by one.
            touched.sets.insert(large);
            home_small
        } else {
            touched.numbers.extend(self.set(small));
            home_large
        };
        let (next_small, next_large) = (self.nodes[small as usize].next, self.nodes[large as usize].next);
        let node = &mut self.nodes[small as usize];
        node.parent = large;
        node.next = next_large;
        node.counts = vec![];
        let node = &mut self.nodes[large as usize];
        node.next = next_small;
        node.size = size_a + size_b;
        node.counts = counts;
        node.home = home;
    }

    /// A fact about an identifier is older than those before: it may be the home now.
    fn may_lead(&mut self, rules: &IdentityRules, members: &Members, number: Number, touched: &mut Touched) {
        let root = self.root_halving(number);
        let home = self.nodes[root as usize].home;
        if home != number && self.leads(rules, members, number, home) {
            self.nodes[root as usize].home = number;
            touched.sets.insert(root);
        }
    }

    /// Whether of two identifiers of a set the first one is to be its home, as [`Component`](super::Component) says.
    fn leads(&self, rules: &IdentityRules, members: &Members, one: Number, other: Number) -> bool {
        let [one, other] = [one, other].map(|number| {
            let identifier = &members.get(number).identifier;
            let rank = rules.priority(identifier.namespace());
            (rank, self.nodes[number as usize].first, identifier.value())
        });
        one < other
    }
}

impl Node {
    const fn alone(number: Number) -> Self {
        Self { parent: number, next: number, size: 1, first: i64::MAX, counts: vec![], home: number }
    }
}

/// The namespaces that both have, with their sums.
fn common<'a>(a: &'a [(u16, u32)], b: &'a [(u16, u32)]) -> impl Iterator<Item = (u16, u64)> + 'a {
    a.iter().filter_map(|(space, n)| {
        let other = b.binary_search_by_key(space, |entry| entry.0).ok()?;
        Some((*space, u64::from(*n) + u64::from(b[other].1)))
    })
}

fn sum(a: &[(u16, u32)], b: &[(u16, u32)]) -> Vec<(u16, u32)> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup_by(|b, a| {
        a.0 == b.0 && {
            a.1 += b.1;
            true
        }
    });
    all
}
