//! How far identity rules have come, as JSON.

use serde::Serialize;

use crate::proto;

/// How far the identity rules in force have come in each shard.
#[derive(Debug, Clone, Serialize)]
pub struct RulesStatus {
    version: u64,
    done: bool,
    messages_under_way: u64,
    shards: Vec<Shard>,
}

#[derive(Debug, Clone, Serialize)]
struct Shard {
    shard: u64,
    version: u64,
    slots: u32,
    swept_slots: u32,
    done: bool,
}

impl From<&proto::GetIdentityRulesStatusResponse> for RulesStatus {
    fn from(status: &proto::GetIdentityRulesStatusResponse) -> Self {
        let shard = |shard: &proto::ShardRules| {
            let proto::ShardRules { shard, version, slots, swept_slots, done } = *shard;
            Shard { shard, version, slots, swept_slots, done }
        };
        Self {
            version: status.version,
            done: status.done,
            messages_under_way: status.messages_under_way,
            shards: status.shards.iter().map(shard).collect(),
        }
    }
}
