//! `SetConfig`: the only way in for what apply depends on.

use std::sync::Arc;

use isthmus_domain::{ShardMap, Stamp, identity::IdentityRules};
use isthmus_proto::internal::v1::SetConfigCommand;
use isthmus_raft::Broken;

use super::Outcome;
use crate::state::State;

/// Puts a newer configuration in force; an older or equal one changes nothing.
pub(super) fn apply(state: &mut State, stamp: u64, set: &SetConfigCommand) -> Result<Outcome, Broken> {
    state.next_stamp(stamp, Stamp::ZERO);
    if set.version > state.meta.config_version {
        let Ok(map) = ShardMap::decode(&set.shard_map) else {
            return Ok(Outcome::Refused("the shard map can't be read"));
        };
        if !set.identity_rules.is_empty() {
            let Ok(rules) = IdentityRules::decode(&set.identity_rules) else {
                return Ok(Outcome::Refused("the identity rules can't be read"));
            };
            if rules != *state.meta.rules {
                state.meta.rules = Arc::new(rules);
                state.meta.sweep.begin();
            }
        }
        state.meta.config_version = set.version;
        if let Some(watch) = &mut state.active.watch {
            watch.slots_change(&state.meta.owned);
        }
        // Slots that come bring facets that nothing said of.
        state.active.journal = None;
        state.meta.set_map(state.shard, map);
    }
    Ok(Outcome::Configured(state.meta.config_version))
}
