//! Random runs against plain maps.

use std::collections::BTreeMap;

use arrow::compute::concat_batches;
use proptest::prelude::*;

use super::super::merge::Merge;
use super::super::*;
use super::*;

fn event() -> impl Strategy<Value = Event> {
    let body = prop::option::of("[a-z]{0,60}");
    (0..12_u64, -5..5_i64, any::<u64>(), prop::sample::select(vec!["page", "track", "a kind"]), body)
        .prop_map(|(point, time, number, kind, body)| (spread(point), time, number, kind, body))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn columnar_reads_equal_the_model(
        runs in prop::collection::vec(prop::collection::vec(event(), 1..150), 1..5),
        page_rows in 1..40_usize,
        batch_rows in 1..60_usize,
        limit in 1..30_usize,
        time in -5..5_i64,
    ) {
        for (store, ..) in engines() {
            let table = events_table(5, page_rows);
            let mut writer = Writer { store: store.as_ref(), next: 0 };
            let mut opened = Vec::new();
            let mut sorted_runs = Vec::new();
            for rows in &runs {
                let mut rows = rows.clone();
                rows.sort_by_key(|row| (row.0, row.1, row.2));
                opened.push(writer.events(&table, &rows));
                sorted_runs.push(rows);
            }
            let mut all: Vec<Event> = sorted_runs.concat();
            all.sort_by_key(|row| (row.0, row.1, row.2));
            let merged = writer.run(&table, 1, RowSource::Runs(opened.iter().rev().cloned().collect())).unwrap();
            for set in [set(&table, opened), set(&table, vec![merged])] {
                let batches: Vec<_> = set.scan(EVENTS, None, None, Projection::ALL, batch_rows).unwrap().map(Result::unwrap).collect();
                prop_assert!(batches.iter().all(|batch| batch.num_rows() <= batch_rows));
                prop_assert_eq!(&rows(&batches), &all);
                let (from, to) = (spread(3), spread(8));
                let part: Vec<_> = all.iter().filter(|row| row.0 >= from && row.0 < to).cloned().collect();
                let scan = set.scan(EVENTS, Some(from), Some(to), Projection::ALL, batch_rows).unwrap();
                prop_assert_eq!(rows(&scan.map(Result::unwrap).collect::<Vec<_>>()), part);
                for point in (0..14).map(spread) {
                    let of_point: Vec<_> = all.iter().filter(|row| row.0 == point).cloned().collect();
                    prop_assert!(of_point.is_empty() || set.may_contain(EVENTS, &point));
                    let mut found = rows(&set.rows_of(EVENTS, &point, Projection::ALL).unwrap());
                    found.sort_by_key(|row| (row.0, row.1, row.2));
                    prop_assert_eq!(&found, &of_point);
                    let before = SortKey::of_point(&point).then_i64(time);
                    for before in [None, Some(&before)] {
                        let earlier: Vec<_> = of_point.iter().filter(|row| before.is_none() || row.1 < time).cloned().collect();
                        let mut tail = Vec::new();
                        for batch in set.tail(EVENTS, &point, before, limit, Projection::ALL).unwrap() {
                            prop_assert!(batch.num_rows() <= limit);
                            tail.extend(rows(&[batch]));
                        }
                        tail.sort_by_key(|row| (row.0, row.1, row.2));
                        let last = limit.min(earlier.len());
                        prop_assert_eq!(&tail[tail.len() - last..], &earlier[earlier.len() - last..]);
                    }
                }
            }
        }
    }

    #[test]
    fn flat_reads_equal_the_model(
        runs in prop::collection::vec(prop::collection::btree_map(0..400_u64, any::<u8>(), 1..200), 1..5),
    ) {
        for (store, ..) in engines() {
            let table = seen_table();
            let mut writer = Writer { store: store.as_ref(), next: 0 };
            let (mut model, mut opened) = (BTreeMap::new(), Vec::new());
            let key = |number: u64| [spread(number / 3).as_slice(), &(number as u32).to_be_bytes()].concat();
            for run in &runs {
                let rows: BTreeMap<Vec<u8>, u8> = run.iter().map(|(number, value)| (key(*number), *value)).collect();
                let flat = rows.iter().flat_map(|(key, value)| [key.as_slice(), &[*value; 57]].concat()).collect();
                opened.push(writer.run(&table, 0, RowSource::Rows(Rows::Flat(flat))).unwrap());
                model.extend(rows);
            }
            let merged = writer.run(&table, 1, RowSource::Runs(opened.iter().rev().cloned().collect())).unwrap();
            prop_assert_eq!(merged.meta().rows, model.len() as u64);
            for set in [set(&table, opened), set(&table, vec![merged])] {
                let keys: Vec<_> = (0..420).map(key).collect();
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let found = set.flat_get_sorted(SEEN, &keys).unwrap();
                for (key, found) in keys.iter().zip(found) {
                    let expected = model.get(*key).map(|value| vec![*value; 57]);
                    prop_assert_eq!(found.as_deref(), expected.as_deref());
                    let single = set.flat_get(SEEN, key).unwrap();
                    prop_assert_eq!(single.as_deref(), expected.as_deref());
                }
                let scan: Result<Vec<_>> = set.flat_scan(SEEN, None, None).unwrap().collect();
                let scan: BTreeMap<_, _> = scan.unwrap().into_iter().map(|row| (row.key.to_vec(), row.value[0])).collect();
                prop_assert_eq!(&scan, &model);
                let (from, to) = (spread(40), spread(90));
                let part = set.flat_scan(SEEN, Some(from), Some(to)).unwrap().count();
                prop_assert_eq!(part, model.range(from.to_vec()..to.to_vec().max(from.to_vec())).count());
            }
        }
    }

    #[test]
    fn a_merge_folds_equal_keys(
        runs in prop::collection::vec(prop::collection::vec((0..30_u64, -100..100_i64), 1..60), 1..6),
        page_rows in 1..20_usize,
        batch_rows in 1..20_usize,
    ) {
        for (store, ..) in engines() {
            let table = sums_table(page_rows);
            let mut writer = Writer { store: store.as_ref(), next: 0 };
            let mut model: BTreeMap<PointKey, i64> = BTreeMap::new();
            let mut opened = Vec::new();
            for run in &runs {
                let mut rows: Vec<_> = run.iter().map(|(point, value)| (spread(*point), *value)).collect();
                rows.sort();
                rows.iter().for_each(|(point, value)| *model.entry(*point).or_default() += value);
                let source = RowSource::Rows(Rows::Columnar(vec![sum_rows(rows.into_iter())]));
                opened.push(writer.run(&table, 0, source).unwrap());
            }
            opened.reverse();
            let oldest_first: Vec<_> = opened.iter().rev().cloned().collect();
            let merge = Merge::new(&table, &oldest_first, (None, None), Projection::ALL, batch_rows).unwrap();
            let folded: Result<Vec<_>> = merge.combining(table.columnar().unwrap().combine.clone()).collect();
            let merged = writer.run(&table, 1, RowSource::Runs(opened)).unwrap();
            let set = set(&table, vec![merged]);
            let batches: Result<Vec<_>> = set.scan(SUMS, None, None, Projection::ALL, 1000).unwrap().collect();
            let batch = concat_batches(&sum_schema(), &batches.unwrap()).unwrap();
            let expected = sum_rows(model.into_iter());
            prop_assert_eq!(&batch, &expected);
            // However small the batches of a merge are, none ends inside of a group.
            prop_assert_eq!(concat_batches(&sum_schema(), &folded.unwrap()).unwrap(), expected);
        }
    }
}
