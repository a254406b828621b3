//! A [`Config`] that was checked, with its defaults filled in and its names turned into numbers.

use crate::config::{Config, ConfigError, PARTS_MAX, Part, RULES_MAX, Rule, TRAITS_MAX, Take, TraitConfig};
use crate::kind::Kind;

/// Names are kept with every pair.
const NAME_BYTES_MAX: usize = 256;

/// What to compare and how, checked. Made by [`Config::plan`].
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The configuration that it was made of.
    pub(crate) config: Config,
    pub(crate) traits: Box<[PlanTrait]>,
    /// Pairs of traits that swap, each once, the smaller number first.
    pub(crate) swaps: Box<[(usize, usize)]>,
    pub(crate) rules: Box<[PlanRule]>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanTrait {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) close_at: f64,
    pub(crate) similar_at: f64,
    pub(crate) term_frequencies: bool,
    /// Whether it swaps with another trait and is the one that says so.
    pub(crate) swaps: bool,
    /// The trait that it mostly follows from.
    pub(crate) given: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanRule {
    pub(crate) parts: Box<[(usize, Take)]>,
    pub(crate) sorted: bool,
    pub(crate) unordered: bool,
}

impl Plan {
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        ranges(config)?;
        names(config)?;
        let swaps = swaps(config)?;
        let given = given(config)?;
        let traits = config
            .traits
            .iter()
            .enumerate()
            .map(|(at, t)| {
                let (close_at, similar_at) = t.kind.thresholds();
                PlanTrait {
                    name: t.name.clone(),
                    kind: t.kind,
                    close_at: t.close_at.unwrap_or(close_at),
                    similar_at: t.similar_at.unwrap_or(similar_at),
                    term_frequencies: t.term_frequencies,
                    swaps: swaps.iter().any(|&(one, _)| one == at),
                    given: given[at],
                }
            })
            .collect::<Box<[_]>>();
        if traits.iter().any(|t| t.similar_at > t.close_at) {
            return Err(ConfigError::Range { field: "similar_at", range: "no more than close_at" });
        }
        let rules =
            if config.blocking.is_empty() { by_kind(&config.traits) } else { config.blocking.clone() };
        let rules = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| numbered(config, at + 1, rule))
            .collect::<Result<_, _>>()?;
        Ok(Self { config: config.clone(), traits, swaps: swaps.into(), rules })
    }

    /// The configuration that this was made of.
    pub const fn config(&self) -> &Config {
        &self.config
    }
}

fn index(config: &Config, field: &'static str, name: &str) -> Result<usize, ConfigError> {
    let unknown = || ConfigError::Unknown { field, name: name.to_owned() };
    config.traits.iter().position(|t| t.name == name).ok_or_else(unknown)
}

fn ranges(config: &Config) -> Result<(), ConfigError> {
    let check =
        |fits: bool, field, range| if fits { Ok(()) } else { Err(ConfigError::Range { field, range }) };
    // NaN is in no range.
    let share = |x: f64| (0.0..=1.0).contains(&x);
    check(config.link_at > 0.0 && share(config.link_at), "link_at", "above 0, up to 1")?;
    check((0.01..=config.link_at).contains(&config.review_at), "review_at", "0.01 to link_at")?;
    check((2..=10_000).contains(&config.block_members_max), "block_members_max", "2 to 10,000")?;
    check((2..=1_000).contains(&config.window), "window", "2 to 1,000")?;
    check((1_000..=10_000_000).contains(&config.random_pairs), "random_pairs", "1,000 to 10,000,000")?;
    check(
        (1_000..=20_000_000).contains(&config.training_pairs_max),
        "training_pairs_max",
        "1,000 to 20,000,000",
    )?;
    check((2..=10_000_000).contains(&config.learn_from_max), "learn_from_max", "2 to 10,000,000")?;
    check((0.001..=100.0).contains(&config.duplicates_expected), "duplicates_expected", "0.001 to 100")?;
    for t in &config.traits {
        check(t.close_at.is_none_or(share), "close_at", "0 to 1")?;
        check(t.similar_at.is_none_or(share), "similar_at", "0 to 1")?;
    }
    Ok(())
}

fn names(config: &Config) -> Result<(), ConfigError> {
    if !(1..=TRAITS_MAX).contains(&config.traits.len()) {
        return Err(ConfigError::Traits(config.traits.len()));
    }
    for (at, t) in config.traits.iter().enumerate() {
        if t.name.is_empty() {
            return Err(ConfigError::Nameless);
        }
        if t.name.len() > NAME_BYTES_MAX {
            return Err(ConfigError::Range { field: "a trait's name", range: "of 256 bytes at most" });
        }
        if config.traits[..at].iter().any(|earlier| earlier.name == t.name) {
            return Err(ConfigError::Twice { name: t.name.clone() });
        }
    }
    Ok(())
}

/// Who swaps with whom: what is configured, and two names or two addresses among those that say nothing.
fn swaps(config: &Config) -> Result<Vec<(usize, usize)>, ConfigError> {
    let mut pairs = Vec::new();
    let mut add = |one: usize, two: usize| {
        let pair = (one.min(two), one.max(two));
        let partner = |why| ConfigError::Partner { name: config.traits[one].name.clone(), why };
        if one == two {
            return Err(partner("it can't swap with itself"));
        }
        if pairs.contains(&pair) {
            return Ok(());
        }
        if pairs.iter().any(|&(a, b)| [a, b].contains(&one) || [a, b].contains(&two)) {
            return Err(partner("a trait can swap with one other only"));
        }
        if config.traits[one].kind != config.traits[two].kind {
            return Err(partner("only traits of one kind can swap"));
        }
        pairs.push(pair);
        Ok(())
    };
    for (at, t) in config.traits.iter().enumerate() {
        if let Some(partner) = t.swaps_with.as_deref().filter(|partner| !partner.is_empty()) {
            add(at, index(config, "swaps_with", partner)?)?;
        }
    }
    for kind in [Kind::Name, Kind::Address] {
        let alike: Vec<usize> =
            (0..config.traits.len()).filter(|&at| config.traits[at].kind == kind).collect();
        let silent = alike.iter().all(|&at| config.traits[at].swaps_with.is_none());
        if let ([one, two], true) = (alike.as_slice(), silent) {
            add(*one, *two)?;
        }
    }
    pairs.sort_unstable();
    Ok(pairs)
}

/// What follows from what: what is configured, else places from postcodes and categories from places.
fn given(config: &Config) -> Result<Vec<Option<usize>>, ConfigError> {
    let first = |kind| config.traits.iter().position(|t| t.kind == kind);
    let mut given = Vec::with_capacity(config.traits.len());
    for (at, t) in config.traits.iter().enumerate() {
        given.push(match t.given.as_deref() {
            Some("") => None,
            Some(name) => Some(index(config, "given", name)?),
            None => match t.kind {
                Kind::Place => first(Kind::Postcode),
                Kind::Category => first(Kind::Place).or(first(Kind::Postcode)),
                _ => None,
            },
        });
        if given[at] == Some(at) {
            return Err(ConfigError::Partner { name: t.name.clone(), why: "it can't be given itself" });
        }
    }
    for at in 0..given.len() {
        let (mut seen, mut next) = (0, given[at]);
        while let Some(on) = next {
            seen += 1;
            if seen > given.len() {
                let name = config.traits[at].name.clone();
                return Err(ConfigError::Partner { name, why: "its chain of given traits is a circle" });
            }
            next = given[on];
        }
    }
    Ok(given)
}

fn numbered(config: &Config, number: usize, rule: &Rule) -> Result<PlanRule, ConfigError> {
    let bad = |why| Err(ConfigError::Rule { rule: number, why });
    if number > RULES_MAX {
        return bad("48 rules are the most there can be");
    }
    if !(1..=PARTS_MAX).contains(&rule.parts.len()) {
        return bad("it needs 1 to 4 parts");
    }
    if rule.sorted && rule.unordered {
        return bad("it can't be both sorted and unordered");
    }
    let parts = rule.parts.iter().map(|part| Ok((index(config, "blocking", &part.name)?, part.take)));
    Ok(PlanRule { parts: parts.collect::<Result<_, _>>()?, sorted: rule.sorted, unordered: rule.unordered })
}

/// The blocking rules that follow from the kinds.
///
/// Alone: every trait that tells many people apart. Such a key alone finds a pair that has but one trait intact, as
/// long as the value isn't common; the common ones are left out by their number, so in a large set the pairs below
/// take over. Together: how two names sound, in any order; how a name sounds with the postcode, and with the year
/// of a date; the postcode with the date. Sorted: by one name and the other, and by the first address, for what no
/// equal part is left of.
fn by_kind(traits: &[TraitConfig]) -> Vec<Rule> {
    let of = |kind| traits.iter().filter(move |t: &&TraitConfig| t.kind == kind).map(|t| t.name.as_str());
    let part = |name: &str, take| Part { name: name.to_owned(), take };
    let rule = |parts: Vec<Part>, sorted, unordered| Rule { parts, sorted, unordered };
    let mut rules = Vec::new();
    for t in traits.iter().filter(|t| !matches!(t.kind, Kind::Number | Kind::Category)) {
        rules.push(rule(vec![part(&t.name, Take::Value)], false, false));
    }
    let names: Vec<&str> = of(Kind::Name).take(2).collect();
    for name in &names {
        for postcode in of(Kind::Postcode).take(1) {
            rules.push(rule(vec![part(name, Take::Sound), part(postcode, Take::Value)], false, false));
        }
        for date in of(Kind::Date).take(1) {
            rules.push(rule(vec![part(name, Take::Sound), part(date, Take::Start)], false, false));
        }
    }
    if let [one, two] = names[..] {
        rules.push(rule(vec![part(one, Take::Sound), part(two, Take::Sound)], false, true));
        rules.push(rule(vec![part(one, Take::Value), part(two, Take::Value)], true, false));
        rules.push(rule(vec![part(two, Take::Value), part(one, Take::Value)], true, false));
    } else if let [one] = names[..] {
        rules.push(rule(vec![part(one, Take::Value)], true, false));
        rules.push(rule(vec![part(one, Take::Reversed)], true, false));
    }
    for (postcode, date) in of(Kind::Postcode).zip(of(Kind::Date)).take(1) {
        rules.push(rule(vec![part(postcode, Take::Value), part(date, Take::Value)], false, false));
        rules.push(rule(vec![part(postcode, Take::Value), part(date, Take::Start)], false, false));
    }
    for address in of(Kind::Address).take(1) {
        rules.push(rule(vec![part(address, Take::Value)], true, false));
    }
    rules
}
