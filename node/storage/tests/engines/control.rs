//! The same scenarios and random operations on every engine of the control store.

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_storage::control::{
    BATCH_ROWS_MAX, ControlStore, ControlWrite, KEY_BYTES_MAX, KeyRange, MemoryControl, Order, PAGE_ROWS_MAX,
    SledControl, SledOptions, VALUE_BYTES_MAX, rows,
};
use isthmus_storage::{Error, Result};
use proptest::prelude::*;

pub const SMALL: SledOptions = SledOptions { cache_bytes: 8 << 20 };

fn on_each(scenario: impl Fn(&dyn ControlStore)) {
    scenario(&MemoryControl::new());
    let dir = tempfile::tempdir().unwrap();
    scenario(&SledControl::open(dir.path(), SMALL).unwrap());
}

fn put(key: &str, value: &str) -> ControlWrite {
    ControlWrite::put(key, value.to_owned())
}

fn keys(store: &dyn ControlStore, range: &KeyRange, order: Order) -> Vec<String> {
    let all: Result<Vec<_>> = rows(store, range, order).collect();
    all.unwrap().into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

#[test]
fn what_was_applied_is_read() {
    on_each(|store| {
        store.apply(&[put("a", "1"), put("b", "2"), put("c", "")]).unwrap();
        store.apply(&[put("a", "3"), ControlWrite::delete("b"), ControlWrite::delete("x")]).unwrap();
        store.apply(&[]).unwrap();
        assert_eq!(store.get(b"a").unwrap(), Some(Bytes::from("3")));
        assert_eq!(store.get(b"b").unwrap(), None);
        assert_eq!(store.get(b"c").unwrap(), Some(Bytes::new()));
        store.flush_durable().unwrap();
    });
}

#[test]
fn of_two_writes_of_one_key_the_last_counts() {
    on_each(|store| {
        store.apply(&[put("a", "1"), put("a", "2"), put("b", "1"), ControlWrite::delete("b")]).unwrap();
        assert_eq!(store.get(b"a").unwrap(), Some(Bytes::from("2")));
        assert_eq!(store.get(b"b").unwrap(), None);
    });
}

#[test]
fn scans_go_both_ways_and_respect_their_bounds() {
    on_each(|store| {
        let writes: Vec<_> = ["a", "b", "ba", "bb", "c"].map(|key| put(key, key)).into();
        store.apply(&writes).unwrap();
        let range = KeyRange::between("b", "c");
        assert_eq!(keys(store, &range, Order::Ascending), ["b", "ba", "bb"]);
        assert_eq!(keys(store, &range, Order::Descending), ["bb", "ba", "b"]);
        assert_eq!(keys(store, &KeyRange::prefix(b"b"), Order::Ascending), ["b", "ba", "bb"]);
        assert_eq!(keys(store, &KeyRange::all(), Order::Descending), ["c", "bb", "ba", "b", "a"]);
        assert!(keys(store, &KeyRange::between("c", "b"), Order::Ascending).is_empty());
        let page = store.scan(&range, Order::Ascending, 2).unwrap();
        assert_eq!((page.rows.len(), page.more), (2, true));
        let page = store.scan(&range, Order::Ascending, 3).unwrap();
        assert_eq!((page.rows.len(), page.more), (3, false));
    });
}

#[test]
fn a_scan_of_many_rows_comes_in_bounded_pages() {
    on_each(|store| {
        let count = PAGE_ROWS_MAX * 2 + 10;
        let names: Vec<_> = (0..count).map(|number| format!("{number:06}")).collect();
        for part in names.chunks(BATCH_ROWS_MAX) {
            store.apply(&part.iter().map(|name| put(name, "x")).collect::<Vec<_>>()).unwrap();
        }
        let page = store.scan(&KeyRange::all(), Order::Ascending, usize::MAX).unwrap();
        assert_eq!((page.rows.len(), page.more), (PAGE_ROWS_MAX, true));
        assert_eq!(keys(store, &KeyRange::all(), Order::Ascending), names);
        let backwards: Vec<_> = names.into_iter().rev().collect();
        assert_eq!(keys(store, &KeyRange::all(), Order::Descending), backwards);
    });
}

#[test]
fn a_page_of_large_rows_is_bounded_too() {
    on_each(|store| {
        for number in 0..40u8 {
            let write = ControlWrite::put(vec![number], vec![number; VALUE_BYTES_MAX]);
            store.apply(&[write]).unwrap();
        }
        let page = store.scan(&KeyRange::all(), Order::Ascending, usize::MAX).unwrap();
        assert!(page.more && page.rows.len() <= 17, "{} rows", page.rows.len());
        assert_eq!(rows(store, &KeyRange::all(), Order::Ascending).count(), 40);
    });
}

#[test]
fn what_breaks_the_limits_is_refused_whole() {
    on_each(|store| {
        let many: Vec<_> = (0..=BATCH_ROWS_MAX).map(|number| put(&number.to_string(), "x")).collect();
        let large = [put("a", "x"), ControlWrite::put("b", vec![0; VALUE_BYTES_MAX + 1])];
        let long = [put("a", "x"), ControlWrite::put(vec![0; KEY_BYTES_MAX + 1], "x")];
        let empty = [put("a", "x"), put("", "x")];
        for writes in [&many[..], &large, &long, &empty] {
            assert!(matches!(store.apply(writes), Err(Error::Refused(_))));
        }
        assert_eq!(rows(store, &KeyRange::all(), Order::Ascending).count(), 0);
        store.apply(&many[1..]).unwrap();
    });
}

type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let key = prop::collection::vec(0u8..4, 1..4);
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec(prop::collection::vec((key, value), 0..20), 1..20)
}

fn writes(batch: &Batch) -> Vec<ControlWrite> {
    let write = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| ControlWrite {
        key: key.clone(),
        value: value.clone().map(Bytes::from),
    };
    batch.iter().map(write).collect()
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn apply_to(model: &mut Map, batch: &Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

fn contents(store: &dyn ControlStore, range: &KeyRange, order: Order) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows(store, range, order)
        .map(|row| row.unwrap())
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

fn assert_equals(store: &dyn ControlStore, model: &Map, bounds: &(Vec<u8>, Vec<u8>)) {
    let all: Vec<_> = model.clone().into_iter().collect();
    assert_eq!(contents(store, &KeyRange::all(), Order::Ascending), all);
    let range = KeyRange::between(bounds.0.clone(), bounds.1.clone());
    let mut inside: Vec<_> = all.into_iter().filter(|(key, _)| range.contains(key)).collect();
    assert_eq!(contents(store, &range, Order::Ascending), inside);
    inside.reverse();
    assert_eq!(contents(store, &range, Order::Descending), inside);
}

fn bounds() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (prop::collection::vec(0u8..4, 0..3), prop::collection::vec(0u8..5, 1..3))
}

proptest! {
    #![proptest_config(crate::cases(48))]

    #[test]
    fn rows_in_memory_are_the_model_and_a_crash_keeps_whole_batches_in_order(
        batches in batches(), bounds in bounds(), flushed in 0usize..20, survivors in 0usize..20,
    ) {
        let store = MemoryControl::new();
        let mut models = vec![Map::new()];
        for (number, batch) in batches.iter().enumerate() {
            if number == flushed {
                store.flush_durable().unwrap();
            }
            store.apply(&writes(batch)).unwrap();
            let mut model = models.last().unwrap().clone();
            apply_to(&mut model, batch);
            models.push(model);
        }
        assert_equals(&store, models.last().unwrap(), &bounds);
        store.crash(survivors);
        let durable = if flushed < batches.len() { flushed } else { 0 };
        assert_equals(&store, &models[(durable + survivors).min(batches.len())], &bounds);
    }

    #[test]
    fn rows_on_disk_are_the_model_also_after_a_restart(batches in batches(), bounds in bounds()) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Map::new();
        {
            let store = SledControl::open(dir.path(), SMALL).unwrap();
            for batch in &batches {
                store.apply(&writes(batch)).unwrap();
                apply_to(&mut model, batch);
            }
            assert_equals(&store, &model, &bounds);
            store.flush_durable().unwrap();
        }
        assert_equals(&SledControl::open(dir.path(), SMALL).unwrap(), &model, &bounds);
    }
}
