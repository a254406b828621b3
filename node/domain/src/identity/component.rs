//! Components: the identifiers of one customer, where its home is, and which of them gives it its name.
//!
//! The *home* is the slot of the identifier of the highest priority; of several, of the one about which the oldest
//! fact was followed, then of the smallest value. So a customer's second e-mail address doesn't move the home. It
//! follows from the facts that the fold has followed and from nothing else.
//!
//! The *founding identifier* is the member that was seen first, with an event of its own; its facet's id names the
//! profile. When an identifier was first seen lies in its facet, not in the facts: the home has the facets'
//! summaries and asks [`Component::founding`]. A member without an event founds nothing while another has one.

use prost::Message;

use super::rules::IdentityRules;
use crate::hash::FacetId;
use crate::identifier::Identifier;
use crate::slot::Slot;

/// An identifier of a component.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The identifier.
    pub identifier: Identifier,
    /// Its facet.
    pub facet: FacetId,
    /// Time of the oldest followed fact about it, microseconds since the epoch; `None` when it stands alone.
    pub first_linked: Option<i64>,
}

/// Identifiers that are one customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    members: Vec<Member>,
    home: FacetId,
    rules_version: u64,
}

impl Component {
    /// `None` without a member. The members come in any order.
    pub(super) fn new(mut members: Vec<Member>, rules: &IdentityRules) -> Option<Self> {
        members.sort_by(|a, b| rank(rules, a).cmp(&rank(rules, b)).then_with(|| value(a).cmp(value(b))));
        // Those of the highest priority stand in front, sorted by value; of equal times the first is taken.
        let leading = members.first().map(|m| rank(rules, m))?;
        let home = members
            .iter()
            .take_while(|m| rank(rules, m) == leading)
            .min_by_key(|m| m.first_linked.unwrap_or(i64::MAX))?
            .facet;
        Some(Self { members, home, rules_version: rules.version() })
    }

    /// The members by priority, then value.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The facet of the identifier at whose slot the profile is folded.
    pub fn home(&self) -> FacetId {
        self.home
    }

    /// The slot of [`Self::home`].
    pub fn home_slot(&self) -> Slot {
        self.home.slot()
    }

    /// The version of the rules under which it was formed.
    pub fn rules_version(&self) -> u64 {
        self.rules_version
    }

    /// Whether the facet is of a member.
    pub fn contains(&self, facet: FacetId) -> bool {
        self.members.iter().any(|m| m.facet == facet)
    }

    /// The member with the smallest (first seen, priority, value); its facet's id is the profile's. `first_seen` says
    /// when a facet had its first event, `None` when it has none.
    pub fn founding(&self, mut first_seen: impl FnMut(&Member) -> Option<i64>) -> &Member {
        let mut best = &self.members[0];
        let mut best_time = first_seen(best).unwrap_or(i64::MAX);
        // Sorted by priority and value already, so that of equal times the first stays.
        for member in &self.members[1..] {
            let time = first_seen(member).unwrap_or(i64::MAX);
            if time < best_time {
                (best, best_time) = (member, time);
            }
        }
        best
    }

    /// A protobuf message: repeated member (`string` namespace = 1, `string` value = 2, `bytes` facet = 3, optional
    /// `int64` first linked = 4) = 1; `bytes` home = 2; `uint64` rules version = 3. Equal components are equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let member = |m: &Member| wire::Member {
            namespace: m.identifier.namespace().to_string(),
            value: m.identifier.value().to_owned(),
            facet: m.facet.as_bytes().to_vec(),
            first_linked: m.first_linked,
        };
        wire::Component {
            members: self.members.iter().map(member).collect(),
            home: self.home.as_bytes().to_vec(),
            rules_version: self.rules_version,
        }
        .encode_to_vec()
    }
}

fn rank<'a>(rules: &IdentityRules, member: &'a Member) -> (usize, &'a str) {
    rules.priority(member.identifier.namespace())
}

fn value(member: &Member) -> &str {
    member.identifier.value()
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Member {
        #[prost(string, tag = "1")]
        pub(super) namespace: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
        #[prost(bytes = "vec", tag = "3")]
        pub(super) facet: Vec<u8>,
        #[prost(int64, optional, tag = "4")]
        pub(super) first_linked: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Component {
        #[prost(message, repeated, tag = "1")]
        pub(super) members: Vec<Member>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) home: Vec<u8>,
        #[prost(uint64, tag = "3")]
        pub(super) rules_version: u64,
    }
}
