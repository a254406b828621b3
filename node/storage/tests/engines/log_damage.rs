//! The files of the Raft log, cut at every byte, flipped, and missing.

use std::fs;
use std::path::{Path, PathBuf};

use isthmus_storage::Error;
use isthmus_storage::log::{EngineLog, EngineLogOptions, EntryId, Log};

use crate::log_model::{Model, SMALL, append, hard_state, open};

/// Bytes before the first record of a file.
const FILE_HEADER_BYTES: usize = 53 + 16;

/// A log of some records, with the model after each of them.
struct Written {
    dir: tempfile::TempDir,
    /// The model before the first record, after the first, and so on.
    models: Vec<Model>,
}

/// Writes, compaction, a reset and a removal: one record each, all in one file.
fn written() -> Written {
    let dir = tempfile::tempdir().unwrap();
    let log = EngineLog::open(dir.path(), EngineLogOptions::default()).unwrap();
    let mut models = vec![Model::default()];
    let mut model = Model::default();
    for round in 0..4u64 {
        let mut writes = [append(1, round * 2 + 1, round + 1, 2), append(2, round + 1, 1, 1)];
        writes[0].hard_state = Some(hard_state(round + 1, 3, round * 2 + 1));
        log.write(&writes).unwrap();
        model.write(&writes);
        models.push(model.clone());
    }
    let base = EntryId { index: 5, term: 3 };
    log.compact(1, base).unwrap();
    model.compact(1, base);
    models.push(model.clone());
    let mut reset = append(2, 31, 7, 1);
    reset.reset = Some(EntryId { index: 30, term: 7 });
    reset.hard_state = Some(hard_state(7, 0, 31));
    log.write(std::slice::from_ref(&reset)).unwrap();
    model.write(&[reset]);
    models.push(model.clone());
    log.remove(1).unwrap();
    model.0.remove(&1);
    models.push(model.clone());
    model.assert_equals(&log);
    drop(log);
    Written { dir, models }
}

/// The newest file of the first queue.
fn newest(dir: &Path) -> PathBuf {
    files(dir).pop().expect("a log file")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "raftlog"))
        .collect();
    files.sort();
    files
}

/// The ends of the records, that of the header first.
fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![FILE_HEADER_BYTES];
    while let Some(header) = bytes[*ends.last().unwrap()..].first_chunk::<8>() {
        ends.push(ends.last().unwrap() + (u64::from_be_bytes(*header) >> 8) as usize);
    }
    ends
}

/// A copy of the directory with other content of its newest file.
fn copy_with(dir: &Path, newest_content: &[u8]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(copy.path().join(newest(dir).file_name().unwrap()), newest_content).unwrap();
    copy
}

#[test]
fn cut_at_any_byte_of_its_last_records_the_log_is_a_prefix_that_can_be_written_on() {
    let written = written();
    let bytes = fs::read(newest(written.dir.path())).unwrap();
    let ends = record_ends(&bytes);
    assert_eq!(ends.len(), written.models.len());
    for length in ends[ends.len() - 5]..=bytes.len() {
        // A crash leaves the file cut, or with zeros that were allocated ahead.
        let mut content = bytes[..length].to_vec();
        if length % 3 == 0 {
            content.resize(bytes.len() + 100, 0);
        }
        let copy = copy_with(written.dir.path(), &content);
        // Zeros at the end of a record may be those of the record itself.
        let whole =
            ends.iter().rposition(|end| bytes[..*end] == content[..*end.min(&content.len())]).unwrap();
        let mut model = written.models[whole].clone();
        let log = open(copy.path());
        model.assert_equals(&log);
        let first = model.0.get(&2).map_or(1, |group| group.last().index + 1);
        let write = append(2, first, 9, 1);
        log.write(std::slice::from_ref(&write)).unwrap();
        model.write(&[write]);
        drop(log);
        model.assert_equals(&open(copy.path()));
    }
}

#[test]
fn cut_in_its_header_the_newest_file_is_empty() {
    let written = written();
    let bytes = fs::read(newest(written.dir.path())).unwrap();
    for length in 0..=FILE_HEADER_BYTES {
        let copy = copy_with(written.dir.path(), &bytes[..length]);
        let log = open(copy.path());
        Model::default().assert_equals(&log);
        log.write(&[append(1, 1, 1, 1)]).unwrap();
    }
}

#[test]
fn a_flipped_bit_before_the_last_record_refuses_to_open_and_says_where() {
    let written = written();
    let file = newest(written.dir.path());
    let bytes = fs::read(&file).unwrap();
    let ends = record_ends(&bytes);
    for position in 0..ends[ends.len() - 2] {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1 << (position % 8);
        let copy = copy_with(written.dir.path(), &damaged);
        let begin = ends.iter().rev().find(|end| **end <= position).copied().unwrap_or(0);
        match EngineLog::open(copy.path(), SMALL) {
            Err(Error::Corrupt { place, .. }) => {
                assert!(place.contains(file.file_name().unwrap().to_str().unwrap()), "{place}");
                assert!(place.ends_with(&format!("offset {begin}")), "{place}: flipped at {position}");
            }
            Err(other) => panic!("flipped at {position}: {other}"),
            Ok(_) => panic!("flipped at {position}: opened"),
        }
        let untouched = fs::read(copy.path().join(file.file_name().unwrap())).unwrap();
        assert_eq!(untouched, damaged, "a refused log is left as it is");
    }
}

#[test]
fn damage_in_an_older_file_or_a_missing_one_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        for round in 0..40 {
            log.write(&[append(1, round * 5 + 1, 1, 5)]).unwrap();
        }
    }
    let files = files(dir.path());
    assert!(files.len() >= 3);
    let older = fs::read(&files[1]).unwrap();

    // Its end, which in the newest file would be a torn record.
    fs::write(&files[1], &older[..older.len() - 1]).unwrap();
    let error = EngineLog::open(dir.path(), SMALL).err().unwrap();
    assert!(
        matches!(&error, Error::Corrupt { place, .. } if place.contains(files[1].to_str().unwrap())),
        "{error}"
    );

    fs::remove_file(&files[1]).unwrap();
    let error = EngineLog::open(dir.path(), SMALL).err().unwrap();
    assert!(
        matches!(&error, Error::Corrupt { place, .. } if place.contains(files[0].to_str().unwrap())),
        "{error}"
    );

    fs::write(&files[1], &older).unwrap();
    assert_eq!(open(dir.path()).state(1).unwrap().unwrap().last.index, 200);
}

#[test]
fn missing_oldest_files_are_found() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        for round in 0..40 {
            log.write(&[append(1, round * 5 + 1, 1, 5)]).unwrap();
        }
    }
    fs::remove_file(&files(dir.path())[0]).unwrap();
    let error = EngineLog::open(dir.path(), SMALL).err().unwrap();
    assert!(matches!(&error, Error::Corrupt { place, .. } if place.contains("group 1")), "{error}");
}
