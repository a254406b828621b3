//! Which changes are wanted, judged where they lie.

use std::collections::BTreeSet;

use isthmus_domain::{EventRecord, EventType, FacetId, RecordView, quality::changes_of};
use isthmus_proto::internal::v1::FeedFilter;

use super::{Row, What, name_hash};
use crate::Error;

/// The most names, types, traits or facets that one filter has.
pub(crate) const TERMS_MAX: usize = 1_000;

/// Which changes are wanted: see [`FeedFilter`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    names: BTreeSet<String>,
    hashes: BTreeSet<u32>,
    types: BTreeSet<u8>,
    traits: BTreeSet<String>,
    members: bool,
    segments: BTreeSet<u32>,
    homes: bool,
    facets: BTreeSet<FacetId>,
}

impl Filter {
    /// What the shard's own part in segments follows: events, and who has another home.
    pub(crate) fn of_segments() -> Self {
        Self { types: (1..=6).collect(), homes: true, ..Self::default() }
    }

    /// From its form between nodes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is too long or names what there isn't.
    pub fn of(filter: FeedFilter) -> Result<Self, Error> {
        let FeedFilter { names, types, traits, members, facets, segments, homes } = filter;
        let many = [names.len(), types.len(), traits.len(), facets.len(), segments.len()];
        if many.into_iter().any(|terms| terms > TERMS_MAX) {
            return Err(Error::Invalid("a filter of the feed with too many terms"));
        }
        let facets = facets.iter().map(|bytes| FacetId::from_slice(bytes)).collect::<Option<_>>();
        let kind = |number: u32| u8::try_from(number).ok().filter(|kind| (1..=6).contains(kind));
        Ok(Self {
            hashes: names.iter().map(|name| name_hash(name)).collect(),
            names: names.into_iter().collect(),
            types: types
                .into_iter()
                .map(kind)
                .collect::<Option<_>>()
                .ok_or(Error::Invalid("a type of event"))?,
            traits: traits.into_iter().collect(),
            members,
            segments: segments.into_iter().collect(),
            homes,
            facets: facets.ok_or(Error::Invalid("a facet's id is not 16 bytes"))?,
        })
    }

    fn takes_all(&self) -> bool {
        !self.members
            && self.segments.is_empty()
            && self.names.is_empty()
            && self.types.is_empty()
            && self.traits.is_empty()
    }

    /// Whether a row may be wanted, before a look at what it refers to. `false` is certain.
    pub(crate) fn may_take(&self, row: &Row) -> bool {
        match row.what {
            What::Home(_) | What::LeftHome(_) => self.homes,
            _ if self.takes_all() => true,
            What::Segment { name, .. } => self.segments.contains(&name),
            What::Members { .. } => self.members,
            What::Event { kind, name, .. } => {
                self.types.contains(&kind)
                    || self.hashes.contains(&name)
                    || (!self.traits.is_empty() && i32::from(kind) == EventType::Identify as i32)
            }
        }
    }

    /// Whether changes of an identifier are wanted. `linked` tells whether it was ever linked with another.
    pub(crate) fn takes_facet<E>(
        &self,
        facet: &FacetId,
        linked: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        if self.facets.is_empty() || self.facets.contains(facet) { Ok(true) } else { linked() }
    }

    /// Whether an event of a memtable is wanted.
    pub(crate) fn takes_view(&self, event: &RecordView<'_>) -> bool {
        self.takes_named(event.kind as u8, event.name)
            || event.traits().any(|(name, _)| self.traits.contains(name))
    }

    /// Whether a stored event is wanted.
    pub(crate) fn takes_event(&self, event: &EventRecord) -> bool {
        let kind = u8::try_from(event.kind).unwrap_or_default();
        if self.takes_named(kind, &event.name) {
            return true;
        }
        if self.traits.is_empty() || event.kind() != EventType::Identify {
            return false;
        }
        // An event that can't be read says nothing of traits; whoever shows it says so.
        changes_of(&event.properties)
            .is_ok_and(|changes| changes.iter().any(|change| self.traits.contains(&change.name)))
    }

    fn takes_named(&self, kind: u8, name: &str) -> bool {
        self.takes_all() || self.types.contains(&kind) || (!name.is_empty() && self.names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use isthmus_domain::Stamp;

    use super::*;
    use crate::feed::Place;

    fn filter(change: impl FnOnce(&mut FeedFilter)) -> Filter {
        let mut filter = FeedFilter::default();
        change(&mut filter);
        Filter::of(filter).unwrap()
    }

    fn row(what: What) -> Row {
        Row { place: Place::end_of(Stamp(1)), facet: FacetId::from_bytes([1; 16]), what }
    }

    fn event(kind: EventType, name: &str) -> Row {
        row(What::Event { timestamp: 1, key: [0; 16], kind: kind as u8, name: name_hash(name) })
    }

    #[test]
    fn what_is_given_is_wanted_and_nothing_given_wants_all() {
        let members = row(What::Members { before: 0, epoch: 1 });
        let (identify, order) = (event(EventType::Identify, ""), event(EventType::Track, "Order Completed"));
        let all = Filter::default();
        assert!([members, identify, order].iter().all(|row| all.may_take(row)));
        let orders = filter(|filter| filter.names = vec!["Order Completed".into()]);
        assert_eq!([members, identify, order].map(|row| orders.may_take(&row)), [false, false, true]);
        let traits = filter(|filter| filter.traits = vec!["email".into()]);
        assert_eq!([members, identify, order].map(|row| traits.may_take(&row)), [false, true, false]);
        let both = filter(|filter| (filter.types, filter.members) = (vec![2], true));
        assert_eq!([members, identify, order].map(|row| both.may_take(&row)), [true, false, true]);
    }

    #[test]
    fn traits_are_found_in_what_a_stored_event_says() {
        let wanted = filter(|filter| filter.traits = vec!["firstName".into()]);
        let says = |json: &str| EventRecord {
            kind: EventType::Identify as i32,
            properties: json.to_owned().into(),
            ..EventRecord::default()
        };
        assert!(wanted.takes_event(&says(r#"{"first_name":null}"#)));
        assert!(!wanted.takes_event(&says(r#"{"lastName":"B"}"#)));
        let track = EventRecord { kind: EventType::Track as i32, ..says(r#"{"firstName":1}"#) };
        assert!(!wanted.takes_event(&track));
    }

    #[test]
    fn others_identifiers_are_passed_over_unless_they_were_linked() {
        let wanted = filter(|filter| filter.facets = vec![vec![1; 16].into()]);
        let takes = |facet: u8, linked| {
            wanted.takes_facet(&FacetId::from_bytes([facet; 16]), || Ok::<_, Error>(linked)).unwrap()
        };
        assert!(takes(1, false) && takes(2, true) && !takes(2, false));
        assert!(
            Filter::of(FeedFilter { facets: vec![vec![1; 15].into()], ..FeedFilter::default() }).is_err()
        );
        assert!(Filter::of(FeedFilter { types: vec![7], ..FeedFilter::default() }).is_err());
    }
}
