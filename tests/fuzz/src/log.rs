//! A shard's log: any commands, one after the other.
//!
//! Each is decoded and applied as a replica does. A command that can't be read, or contradicts the state, stops a replica;
//! nothing else may. What the rest has made is written out, and loaded again: it has the same meta row, and streams
//! that are as long.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use isthmus_domain::{LinkKind, RawItem, ShardMap, accept};
use isthmus_proto::internal::v1::{
    CommandItem, CourierMessage, DeliverCommand, ExpireFeedCommand, IngestCommand, RetractCommand,
    SetConfigCommand, ShardCommand, SweepCommand, TrimCommand, command_item::Body, shard_command::Command,
};
use isthmus_shard::{
    State, apply,
    state::{self, Needs},
    tables,
    write_out::write_out,
};
use isthmus_storage::{
    control::MemoryControl,
    keeper::{GroupMeta, Keeper, KeeperOptions},
    runs::{MemoryRuns, RunOptions},
};
use prost::Message as _;

use crate::{
    intake::{NOW, RULES_IN_FORCE},
    pieces::{Pieces, pieces},
};

/// The shard, one of two.
pub const SHARD: u64 = 1;

/// An empty replica that owns the first half of the slots.
pub fn replica(storage: &Keeper) -> State {
    let meta = storage.create_group(SHARD, 1, Bytes::new(), Bytes::new()).unwrap();
    let mut state = State::load(storage, &meta).unwrap_or_else(|broken| panic!("{broken:?}"));
    let map = ShardMap::even(2).unwrap();
    let set = SetConfigCommand { version: 1, shard_map: map.encode().into(), ..SetConfigCommand::default() };
    assert!(applied(&mut state, &command(1, Command::SetConfig(set))));
    state
}

/// Storage in memory, and where its runs are.
pub fn storage() -> (Arc<MemoryRuns>, Keeper) {
    let runs = MemoryRuns::new(RunOptions::default()).unwrap();
    let control = Arc::new(MemoryControl::new());
    let storage =
        Keeper::open(Path::new("/keeper"), control, runs.clone(), tables(), KeeperOptions::default());
    (runs, storage.unwrap())
}

/// Applies a stored command. False: the replica has to stop.
pub fn applied(state: &mut State, data: &[u8]) -> bool {
    let decoded = state::decode(Bytes::copy_from_slice(data)).and_then(apply::decode);
    let Ok(decoded) = decoded else { return false };
    apply::needs(&decoded, &mut Needs::default()).is_ok() && apply::apply(state, decoded).is_ok()
}

/// Writes all that was applied out.
pub fn written_out(storage: &Keeper, state: &mut State, index: u64) -> GroupMeta {
    let frozen = Arc::new(std::mem::take(&mut state.active));
    let meta = GroupMeta {
        group: state.shard,
        replica: 1,
        store: state.store.0,
        applied_index: index,
        conf_state: isthmus_raft::encode_conf(&state.conf),
        state: state.meta.encode(),
        ..GroupMeta::default()
    };
    let rows = write_out(&frozen, meta).unwrap_or_else(|fault| panic!("{fault}"));
    storage.write_out(rows).unwrap_or_else(|error| panic!("{error}"));
    storage.group(state.shard).unwrap().unwrap()
}

/// The target.
pub fn run(bytes: &[u8]) {
    let (_, storage) = storage();
    let mut state = replica(&storage);
    for data in Pieces(bytes) {
        if !applied(&mut state, data) {
            return;
        }
    }
    let meta = written_out(&storage, &mut state, 1);
    let loaded = State::load(&storage, &meta)
        .unwrap_or_else(|broken| panic!("what was written can't be loaded: {broken:?}"));
    assert_eq!(loaded.meta.encode(), state.meta.encode());
    assert_eq!(loaded.streams.waiting(), state.streams.waiting());
}

/// A command as it is stored.
pub fn command(stamp: u64, command: Command) -> Vec<u8> {
    ShardCommand { stamp, command: Some(command) }.encode_to_vec()
}

/// Commands of a shard's ordinary life.
pub fn ordinary() -> Vec<Vec<u8>> {
    let context = RULES_IN_FORCE.context(None);
    let item = |number: u64, json: &str| {
        let accepted = accept(RawItem::Json(json.as_bytes()), &context).unwrap();
        let body = Some(Body::Record(accepted.record.to_bytes()));
        CommandItem { attempt: number, body, origin: String::new(), ..CommandItem::default() }
    };
    let items = (0..16).map(|number| {
        let json = match number % 4 {
            0 => format!(r#"{{"type":"identify","userId":"{number}","anonymousId":"a-{number}","messageId":"m{number}","traits":{{"email":"{number}@b.de"}}}}"#),
            1 => format!(r#"{{"type":"track","event":"Seen","userId":"{number}","messageId":"m{number}","properties":{{"revenue":"1.5"}}}}"#),
            2 => format!(r#"{{"type":"group","groupId":"g-{}","userId":"{number}","messageId":"m{number}","traits":{{"name":"Acme"}}}}"#, number % 8),
            _ => format!(r#"{{"type":"alias","previousId":"a-{number}","userId":"{number}","messageId":"m{number}"}}"#),
        };
        item(number, &json)
    });
    let stamp = NOW.cast_unsigned();
    let fact = accept(
        RawItem::Json(br#"{"type":"alias","previousId":"a-0","userId":"0","messageId":"m"}"#),
        &context,
    );
    let record = fact.unwrap().record;
    let facts: Vec<_> = record.link_facts().map(Result::unwrap).collect();
    assert!(facts.iter().any(|fact| fact.kind != LinkKind::Plain));
    let retraction = isthmus_domain::identity::Retraction {
        given_at: NOW,
        id: "r".to_owned(),
        scope: isthmus_domain::identity::Scope::Identifier(facts[0].a.clone()),
        until: isthmus_domain::identity::Until::Ever,
        by: String::new(),
        reason: String::new(),
    };
    let retract = RetractCommand { facet: record.facet.clone(), retraction: retraction.encode().into() };
    vec![
        command(stamp, Command::Ingest(IngestCommand { items: items.collect() })),
        command(stamp + 1, Command::Deliver(DeliverCommand { from_shard: 2, ..DeliverCommand::default() })),
        command(stamp + 2, Command::Sweep(SweepCommand::default())),
        command(stamp + 3, Command::Retract(retract)),
        command(stamp + 4, Command::Trim(TrimCommand { to_shard: 2, through_sequence: 1 })),
        command(stamp + 5, Command::ExpireFeed(ExpireFeedCommand::default())),
    ]
}

/// Inputs to begin with: the commands, alone and all together, and what one shard sends another of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let commands = ordinary();
    let mut state = replica(&storage().1);
    for command in &commands[..1] {
        assert!(applied(&mut state, command));
    }
    let sent = state.streams.parcels(64, 1 << 14, |_| Some(0));
    let deliveries = sent.into_iter().map(|parcel| {
        let deliver = DeliverCommand {
            from_shard: 2,
            first_sequence: 1,
            messages: parcel
                .messages
                .into_iter()
                .map(|message| CourierMessage::decode(message).unwrap())
                .collect(),
        };
        command(NOW.cast_unsigned() + 9, Command::Deliver(deliver))
    });
    let deliveries: Vec<Vec<u8>> = deliveries.collect();
    let mut seeds: Vec<Vec<u8>> =
        commands.iter().chain(&deliveries).map(|one| pieces([one.as_slice()])).collect();
    seeds.push(pieces(commands.iter().chain(&deliveries).map(Vec::as_slice)));
    seeds
}
