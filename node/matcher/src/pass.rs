//! Learning a model from the profiles of all shards.
//!
//! Of more profiles than [`Config::learn_from_max`] a part is drawn, by a hash of their ids: so what is held is bounded,
//! and the same profiles give the same model.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use isthmus_domain::{FacetId, IdentityKey, Slot};
use isthmus_matching::{Config, ConfigError, LearnError, Prepared, RecordId, TraitConfig, learn_from_sample};
use isthmus_proto::internal::v1::{MatchingChange, MatchingDocument, ModelPart, matching_change::Change};
use isthmus_router::{Error, Router};
use thiserror::Error;
use tokio::time::Instant;

use crate::{model, record};

/// Profiles that are read at a time, and shards.
const PAGE: u32 = 1_000;
const SHARDS: usize = 4;
/// How long a page may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a part of a model: rows are small.
const PART_BYTES: usize = 32 << 10;
/// Parts that are kept by one command.
const PARTS: usize = 16;
/// Without a configuration, traits that fewer than one in so many profiles have are not compared.
const RARE: usize = 100;
/// The most traits that are compared.
const TRAITS_MAX: usize = 24;

/// Why nothing was learned.
#[derive(Debug, Error)]
pub enum PassError {
    /// The configuration can't be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are fewer than two profiles with any of the traits.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// No profile has a trait whose name says what it holds.
    #[error(
        "no profile has a trait whose name says that it helps to know a person (such as lastName, birthday, phone): \
         name the traits and their kinds in a configuration"
    )]
    NoTraits,
    /// A shard didn't answer in time.
    #[error(transparent)]
    Router(#[from] Error),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

/// A model that was learned and whose parts are kept: to be put in force.
#[derive(Debug)]
pub struct Learned {
    /// The document that names it.
    pub document: MatchingDocument,
}

/// What is read of a profile.
type Texts = Vec<(String, String)>;

/// Profiles, or a part of them that was drawn.
struct Sample {
    most: usize,
    /// One in so many, a power of two.
    one_in: u32,
    profiles: BTreeMap<FacetId, Texts>,
}

impl Sample {
    fn add(&mut self, id: FacetId, texts: Texts) {
        if self.draws(&id) {
            self.profiles.insert(id, texts);
        }
        while self.profiles.len() > self.most {
            self.one_in = self.one_in.saturating_mul(2);
            let one_in = self.one_in;
            self.profiles.retain(|id, _| drawn(id, one_in));
        }
    }

    fn draws(&self, id: &FacetId) -> bool {
        drawn(id, self.one_in)
    }
}

/// By the end of the id, which is a hash; its beginning is the slot.
fn drawn(id: &FacetId, one_in: u32) -> bool {
    u128::from_be_bytes(*id.as_bytes()) as u32 & (one_in - 1) == 0
}

/// Learns a model under a configuration, or by the names of the traits, and keeps its parts under a number.
///
/// # Errors
/// As in [`PassError`]; nothing is in force then.
pub async fn learn(
    router: &Router,
    key: &IdentityKey,
    currency: &str,
    config: Option<Config>,
    number: u64,
    threads: NonZeroUsize,
) -> Result<Learned, PassError> {
    let most = config.as_ref().map_or_else(|| Config::default().learn_from_max, |it| it.learn_from_max);
    let mut sample = Sample { most: most as usize, one_in: 1, profiles: BTreeMap::new() };
    let mut pages = stream::iter(router.shards())
        .map(|shard| {
            stream::try_unfold(Some(None), move |after| page(router, key, currency, shard, after)).boxed()
        })
        .flatten_unordered(SHARDS)
        .boxed();
    let compared = |name: &str| match &config {
        Some(config) => config.traits.iter().any(|it| it.name == name),
        None => TraitConfig::guess(name).is_some(),
    };
    while let Some(page) = pages.try_next().await? {
        for (id, mut texts) in page {
            texts.retain(|(name, _)| compared(name));
            sample.add(id, texts);
        }
    }
    drop(pages);
    let learned = tokio::task::spawn_blocking(move || from_sample(sample, config, threads));
    let (config, model) = learned.await.map_err(|error| PassError::Internal(error.to_string()))??;
    let records = model.records();
    let packed = tokio::task::spawn_blocking(move || model::pack(&model)).await;
    let packed = packed.map_err(|error| PassError::Internal(error.to_string()))?;
    let packed = packed.map_err(PassError::Internal)?;
    let slot =
        Slot::of_hash(blake3::hash(&number.to_be_bytes()).as_bytes()[..16].try_into().unwrap_or(&[0; 16]));
    let slot = u32::from(slot.number());
    let parts: Vec<MatchingChange> = (0..)
        .zip(packed.chunks(PART_BYTES))
        .map(|(part, content)| {
            let part = ModelPart { slot, model: number, part, content: content.to_vec().into() };
            MatchingChange { change: Some(Change::PutPart(part)) }
        })
        .collect();
    for some in parts.chunks(PARTS) {
        router.change_matching(some, Instant::now() + TIMEOUT).await?;
    }
    let config_json = serde_json::to_vec(&config).map_err(|error| PassError::Internal(error.to_string()))?;
    let document = MatchingDocument {
        config_json: config_json.into(),
        slot,
        model: number,
        parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        hash: blake3::hash(&packed).as_bytes().to_vec().into(),
        records,
    };
    Ok(Learned { document })
}

/// Lets the parts of a model go that is in force no more.
///
/// # Errors
/// When a shard doesn't answer in time.
pub async fn forget(router: &Router, document: &MatchingDocument) -> Result<(), Error> {
    let parts: Vec<MatchingChange> = (0..document.parts)
        .map(|part| {
            let part = ModelPart { slot: document.slot, model: document.model, part, ..ModelPart::default() };
            MatchingChange { change: Some(Change::DropPart(part)) }
        })
        .collect();
    router.change_matching(&parts, Instant::now() + TIMEOUT).await.map(|_| ())
}

type Page = Vec<(FacetId, Texts)>;

/// A page of a shard's own profiles, and behind which id the next one begins.
async fn page(
    router: &Router,
    key: &IdentityKey,
    currency: &str,
    shard: u64,
    after: Option<Option<FacetId>>,
) -> Result<Option<(Page, Option<Option<FacetId>>)>, PassError> {
    let Some(after) = after else { return Ok(None) };
    let page = router.profiles_of(shard, after, PAGE, Instant::now() + TIMEOUT).await?;
    let last = page.profiles.last().map(|(id, _)| *id);
    let mut own = Vec::with_capacity(page.profiles.len());
    for (id, parts) in page.profiles {
        let folded = parts.map(|parts| parts.fold(key, currency, page.stamp)).transpose();
        let folded = folded.map_err(|error| PassError::Internal(error.to_string()))?.flatten();
        if let Some(profile) = folded.filter(|profile| profile.profile_id == id) {
            own.push((id, record::traits(&profile)));
        }
    }
    let next = last.filter(|_| page.more).map(Some);
    Ok(Some((own, next)))
}

fn from_sample(
    sample: Sample,
    config: Option<Config>,
    threads: NonZeroUsize,
) -> Result<(Config, isthmus_matching::Model), PassError> {
    let config = match config {
        Some(config) => config,
        None => guessed(&sample.profiles)?,
    };
    let plan = config.plan()?;
    let records: Vec<Prepared> = sample
        .profiles
        .iter()
        .map(|(id, texts)| {
            let texts = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
            Prepared::new(&plan, RecordId(u128::from_be_bytes(*id.as_bytes())), texts)
        })
        .filter(|record| record.filled() > 0)
        .collect();
    let one_in = NonZeroU32::new(sample.one_in).unwrap_or(NonZeroU32::MIN);
    Ok((config, learn_from_sample(&plan, &records, one_in, threads)?))
}

/// The traits whose names say what they hold, the commonest first come first served, by name.
fn guessed(profiles: &BTreeMap<FacetId, Texts>) -> Result<Config, PassError> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in profiles.values().flatten() {
        *counts.entry(name).or_default() += 1;
    }
    let mut common: Vec<(usize, &str)> = counts
        .into_iter()
        .filter(|(name, count)| TraitConfig::guess(name).is_some() && count * RARE >= profiles.len())
        .map(|(name, count)| (count, name))
        .collect();
    common.sort_unstable_by_key(|(count, name)| (std::cmp::Reverse(*count), *name));
    common.truncate(TRAITS_MAX);
    let mut names: Vec<&str> = common.into_iter().map(|(_, name)| name).collect();
    names.sort_unstable();
    let traits: Vec<TraitConfig> = names.into_iter().filter_map(TraitConfig::guess).collect();
    if traits.is_empty() { Err(PassError::NoTraits) } else { Ok(Config::of(traits)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> FacetId {
        FacetId::from_bytes(n.to_be_bytes())
    }

    #[test]
    fn a_sample_is_bounded_and_the_same_in_any_order() {
        let of = |ids: &mut dyn Iterator<Item = u128>| {
            let mut sample = Sample { most: 100, one_in: 1, profiles: BTreeMap::new() };
            ids.for_each(|n| sample.add(id(n), Vec::new()));
            (sample.one_in, sample.profiles.into_keys().collect::<Vec<_>>())
        };
        let (one_in, drawn) = of(&mut (0..1_000));
        assert_eq!((one_in, drawn.len()), (16, 63));
        assert_eq!(of(&mut (0..1_000).rev()), (one_in, drawn));
    }

    #[test]
    fn traits_are_known_by_their_names_and_rare_ones_left_out() {
        let texts = |n: u128| {
            let mut texts =
                vec![("surname".to_owned(), "lee".to_owned()), ("shoe".to_owned(), "9".to_owned())];
            if n == 0 {
                texts.push(("ssn".to_owned(), "1".to_owned()));
            }
            texts
        };
        let profiles: BTreeMap<FacetId, Texts> = (0..200).map(|n| (id(n), texts(n))).collect();
        let config = guessed(&profiles).unwrap();
        assert_eq!(config.traits.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["surname"]);
        assert!(matches!(guessed(&BTreeMap::new()), Err(PassError::NoTraits)));
    }
}
