//! People who buy things, and what they did: the same for everyone who asks for the same size.

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_domain::{
    EventRecord, EventType, FacetId, FacetSummary, Identifier, IdentityKey, Namespace, Profile, Stamp,
    record::TraitChange,
};

/// The cluster's key.
pub const KEY: IdentityKey = IdentityKey::new([7; 32]);
/// 2026-01-01.
pub const START: i64 = 1_767_225_600_000_000;
pub const DAY: i64 = 86_400_000_000;
const PRODUCTS: [&str; 8] = ["lamp", "chair", "table", "sofa", "rug", "shelf", "bed", "clock"];
const COUNTRIES: [&str; 4] = ["DE", "FR", "IT", "PL"];
const SOURCES: [&str; 3] = ["web", "shop", "app"];

/// An event, and what its shard knows of it.
#[derive(Clone)]
pub struct Event {
    pub record: EventRecord,
    pub received_at: i64,
}

/// Everything.
pub struct World {
    pub events: Vec<Event>,
    /// The home of each facet.
    pub homes: BTreeMap<FacetId, FacetId>,
    /// The identifier of each facet.
    pub identifiers: BTreeMap<FacetId, Identifier>,
}

/// A small generator of numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

impl World {
    /// So many people.
    pub fn of(people: u64) -> Self {
        let mut dice = Dice(people);
        let mut world = Self { events: Vec::new(), homes: BTreeMap::new(), identifiers: BTreeMap::new() };
        for person in 0..people {
            world.person(person, &mut dice);
        }
        for person in (0..people).step_by(10) {
            let user = user(person);
            let at = START + 60 * DAY;
            world.event(&user, EventType::Track, "Support Ticket", at, None, vec![], &mut dice);
        }
        world
    }

    fn person(&mut self, person: u64, dice: &mut Dice) {
        let user = user(person);
        let mut known = vec![user.clone()];
        if !person.is_multiple_of(3) {
            known.push(Identifier::normalise(Namespace::ANONYMOUS_ID, &format!("anon-{person}")).unwrap());
        }
        if person % 4 == 1 {
            known.push(Identifier::normalise(Namespace::EMAIL, &format!("u{person}@example.com")).unwrap());
        }
        let facets: Vec<FacetId> = known.iter().map(|id| FacetId::of(&KEY, id)).collect();
        // Any member may be the home, and any may have been first.
        let home = facets[dice.roll(facets.len() as u64) as usize];
        for (facet, id) in facets.iter().zip(&known) {
            self.homes.insert(*facet, home);
            self.identifiers.insert(*facet, id.clone());
        }
        let country = COUNTRIES[(person % 4) as usize];
        let joined = START + DAY * dice.roll(120) as i64 + dice.roll(86_400) as i64 * 1_000_000;
        let traits = [("country", format!("\"{country}\"")), ("age", format!("{}", 18 + dice.roll(60)))];
        let traits =
            traits.map(|(name, value)| TraitChange { name: name.to_owned(), value: Bytes::from(value) });
        self.event(&user, EventType::Identify, "", joined, None, traits.to_vec(), dice);
        let visits = 1 + dice.roll(12);
        let mut at = joined;
        for _ in 0..visits {
            at += DAY * dice.roll(25) as i64 + dice.roll(3600) as i64 * 1_000_000;
            let who = known[dice.roll(known.len() as u64) as usize].clone();
            let product = PRODUCTS[dice.roll(8) as usize];
            self.event(&who, EventType::Track, "Product Viewed", at, Some((product, None)), vec![], dice);
            if dice.roll(3) > 0 {
                at += 60_000_000 * (1 + dice.roll(30) as i64);
                self.event(&who, EventType::Track, "Product Added", at, Some((product, None)), vec![], dice);
                if dice.roll(2) > 0 {
                    at += 60_000_000 * (1 + dice.roll(90) as i64);
                    let cents = 500 + dice.roll(50_000);
                    self.event(
                        &who,
                        EventType::Track,
                        "Order Completed",
                        at,
                        Some((product, Some(cents))),
                        vec![],
                        dice,
                    );
                }
            }
        }
        if dice.roll(5) == 0 {
            self.event(&user, EventType::Page, "Home", at + 5_000_000, None, vec![], dice);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "an event is many things")]
    fn event(
        &mut self,
        who: &Identifier,
        kind: EventType,
        name: &str,
        timestamp: i64,
        bought: Option<(&str, Option<u64>)>,
        traits: Vec<TraitChange>,
        dice: &mut Dice,
    ) {
        let number = self.events.len();
        let currency = if dice.roll(10) == 0 { "EUR" } else { "USD" };
        let revenue =
            bought.and_then(|(_, cents)| cents).map(|cents| format!("{}.{:02}", cents / 100, cents % 100));
        let properties = bought.map(|(product, cents)| match cents {
            None => format!("{{\"product\":\"{product}\",\"rank\":{}}}", number % 7),
            Some(cents) => format!(
                "{{\"items\":[{{\"sku\":\"{product}\"}}],\"orderId\":\"o{number}\",\"product\":\"{product}\",\"quantity\":{},\"revenue\":{}.{:02}}}",
                1 + number % 3,
                cents / 100,
                cents % 100
            ),
        });
        let record = EventRecord {
            facet: Bytes::copy_from_slice(FacetId::of(&KEY, who).as_bytes()),
            namespace: who.namespace().as_str().to_owned(),
            value: who.value().to_owned(),
            message_id: format!("m{number}"),
            source: SOURCES[dice.roll(3) as usize].to_owned(),
            kind: kind.into(),
            name: name.to_owned(),
            timestamp,
            dedup_key: Bytes::copy_from_slice(
                &(number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c).to_be_bytes(),
            ),
            revenue: revenue.as_ref().map(|text| text.parse().unwrap()),
            currency: if revenue.is_some() { currency.to_owned() } else { String::new() },
            traits,
            properties: properties.map_or_else(Bytes::new, Bytes::from),
            context: Bytes::from(format!("{{\"context\":{{\"page\":{{\"path\":\"/p{}\"}}}}}}", number % 5)),
            ..EventRecord::default()
        };
        self.events.push(Event { record, received_at: timestamp + 1_000 * number as i64 % 1_000_000 });
    }

    /// What the events of each facet come to.
    pub fn summaries(&self) -> BTreeMap<FacetId, FacetSummary> {
        let mut all: BTreeMap<FacetId, FacetSummary> = BTreeMap::new();
        for event in &self.events {
            all.entry(facet_of(event)).or_default().absorb(&event.record);
        }
        all
    }

    /// The profiles as the domain folds them, by home.
    pub fn profiles(&self) -> BTreeMap<FacetId, Profile> {
        let summaries = self.summaries();
        let none = FacetSummary::default();
        let mut members: BTreeMap<FacetId, Vec<FacetId>> = BTreeMap::new();
        for (facet, home) in &self.homes {
            members.entry(*home).or_default().push(*facet);
        }
        let fold = |facets: &Vec<FacetId>| {
            let parts = facets
                .iter()
                .map(|facet| (self.identifiers[facet].clone(), summaries.get(facet).unwrap_or(&none)));
            Profile::fold(&KEY, parts, "USD", Stamp(1)).unwrap()
        };
        members.iter().map(|(home, facets)| (*home, fold(facets))).collect()
    }

    /// The name of the profile of each event.
    pub fn names(&self) -> Vec<String> {
        let profiles = self.profiles();
        self.events
            .iter()
            .map(|event| profiles[&self.homes[&facet_of(event)]].profile_id.to_string())
            .collect()
    }
}

fn user(person: u64) -> Identifier {
    Identifier::normalise(Namespace::USER_ID, &format!("u{person}")).unwrap()
}

pub fn facet_of(event: &Event) -> FacetId {
    FacetId::from_slice(&event.record.facet).unwrap()
}
