//! What lies in quarantine.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use isthmus_domain::QuarantineEntry;
use isthmus_raft::Broken;

use super::control_rows::rows;
use crate::{error::broken, keys, machine::Shared};

/// Which entries are asked for.
#[derive(Clone, Debug, Default)]
pub struct QuarantineQuery {
    /// Only ids above this one.
    pub after: Option<[u8; 16]>,
    /// At most so many.
    pub limit: usize,
    /// Only of this source; empty: of all.
    pub source: String,
    /// Only with this reason; empty: with any.
    pub reason: String,
    /// Also entries that are resolved.
    pub resolved_too: bool,
}

/// A page of entries.
pub struct QuarantinePage {
    /// The entries without their payload, by rising id.
    pub entries: Vec<QuarantineEntry>,
    /// Whether there are more.
    pub more: bool,
}

/// Rows that a filtered page looks at before it ends early: a rare reason must not hold a reader for ever.
const LOOKED_AT_MAX: usize = 10_000;
/// Rows that are read at a time.
const PAGE_ROWS: usize = 256;
/// The same of parts, which are large; most entries have one.
const PART_PAGE_ROWS: usize = 16;

/// A page of entries. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn page(shared: &Shared, query: &QuarantineQuery) -> Result<QuarantinePage, Broken> {
    let mut start = match &query.after {
        Some(id) => keys::quarantine(id),
        None => vec![keys::table::QUARANTINE],
    };
    if query.after.is_some() {
        start.push(0);
    }
    let mut entries = Vec::new();
    let mut looked_at = 0;
    loop {
        let (rows, next) = rows(shared, &start, &[keys::table::QUARANTINE], PAGE_ROWS)?;
        for (_, value) in rows {
            looked_at += 1;
            let entry = QuarantineEntry::from_bytes(value).map_err(broken)?;
            let fits = |asked: &str, has: &str| asked.is_empty() || asked == has;
            let asked_for = query.resolved_too || entry.resolution.is_none();
            if asked_for && fits(&query.source, &entry.source) && fits(&query.reason, &entry.reason) {
                if entries.len() == query.limit {
                    return Ok(QuarantinePage { entries, more: true });
                }
                entries.push(entry);
            }
        }
        let Some(next) = next else { return Ok(QuarantinePage { entries, more: false }) };
        // The page has to bring its reader on, so an early end needs an entry to go on from.
        if looked_at >= LOOKED_AT_MAX && !entries.is_empty() {
            return Ok(QuarantinePage { entries, more: true });
        }
        start = next;
    }
}

/// One entry with its payload. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn entry(shared: &Shared, id: &[u8; 16]) -> Result<Option<QuarantineEntry>, Broken> {
    let key = keys::quarantine(id);
    let (head, _next) = rows(shared, &key, &[keys::table::QUARANTINE], 1)?;
    let Some((_, value)) = head.into_iter().find(|(found, _)| *found == key) else { return Ok(None) };
    let mut entry = QuarantineEntry::from_bytes(value).map_err(broken)?;
    let mut payload = BytesMut::new();
    part_rows(shared, id, |part| payload.extend_from_slice(&part))?;
    entry.payload = payload.freeze();
    Ok(Some(entry))
}

/// Shows the parts of what an entry says, in order; how many there are.
fn part_rows(shared: &Shared, id: &[u8; 16], mut take: impl FnMut(Bytes)) -> Result<u32, Broken> {
    let mut start = keys::quarantine_part(id, 0);
    let prefix = start[..start.len() - 2].to_vec();
    let mut count = 0;
    loop {
        let (parts, next) = rows(shared, &start, &[keys::table::QUARANTINE_PART], PART_PAGE_ROWS)?;
        let whole = parts.len();
        let own = parts.into_iter().take_while(|(key, _)| key.starts_with(&prefix));
        let own = own.map(|(_, part)| take(part)).count();
        count += u32::try_from(own).unwrap_or(u32::MAX);
        match next {
            Some(next) if own == whole => start = next,
            _ => return Ok(count),
        }
    }
}

/// Counts of a part of the quarantine.
pub struct QuarantineCounted {
    /// Open and resolved entries, by source and reason.
    pub counts: BTreeMap<(String, String), [u64; 2]>,
    /// The last id that was looked at; `None` when there are no more.
    pub next: Option<[u8; 16]>,
}

/// Counts entries above `after` in slots below `end_slot`, looking at most at `limit`. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn count(
    shared: &Shared,
    after: Option<[u8; 16]>,
    end_slot: u16,
    limit: usize,
) -> Result<QuarantineCounted, Broken> {
    let mut counted = QuarantineCounted { counts: BTreeMap::new(), next: None };
    let mut looked_at = 0;
    each(shared, after, |entry| {
        if entry.slot().number() >= end_slot {
            counted.next = None;
            return Ok(false);
        }
        let resolved = usize::from(entry.resolution.is_some());
        counted.next = Some(entry.id());
        counted.counts.entry((entry.source, entry.reason)).or_default()[resolved] += 1;
        looked_at += 1;
        Ok(looked_at < limit)
    })
    .map(|whole| {
        if whole {
            counted.next = None;
        }
    })?;
    Ok(counted)
}

/// An entry that has reached its age.
pub struct Expired {
    /// Its id.
    pub id: [u8; 16],
    /// How many rows hold what it said.
    pub parts: u32,
    /// Source, reason, and whether it was resolved, for the log.
    pub what: (String, String, bool),
}

/// Looks for entries stored with `through` or before, from above `after` on: at most `limit` entries with about
/// `rows_max` rows, of `LOOKED_AT_MAX` that are looked at. And where to go on; `None` at the end. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn expired(
    shared: &Shared,
    after: Option<[u8; 16]>,
    through: u64,
    rows_max: usize,
) -> Result<(Vec<Expired>, Option<[u8; 16]>), Broken> {
    let (mut found, mut looked_at, mut rows) = (Vec::new(), 0, 0);
    let mut next = None;
    let whole = each(shared, after, |entry| {
        let id = entry.id();
        next = Some(id);
        looked_at += 1;
        if entry.received <= through {
            let parts = part_rows(shared, &id, |_| ())?;
            rows += 1 + parts as usize;
            found.push(Expired { id, parts, what: (entry.source, entry.reason, entry.resolution.is_some()) });
        }
        Ok(looked_at < LOOKED_AT_MAX && rows < rows_max)
    })?;
    Ok((found, next.filter(|_| !whole)))
}

/// Shows entries without their content, by rising id, until `take` says false; whether it saw all.
fn each(
    shared: &Shared,
    after: Option<[u8; 16]>,
    mut take: impl FnMut(QuarantineEntry) -> Result<bool, Broken>,
) -> Result<bool, Broken> {
    let mut start = vec![keys::table::QUARANTINE];
    if let Some(id) = after {
        start = keys::quarantine(&id);
        start.push(0);
    }
    loop {
        let (page, next) = rows(shared, &start, &[keys::table::QUARANTINE], PAGE_ROWS)?;
        for (_, value) in page {
            if !take(QuarantineEntry::from_bytes(value).map_err(broken)?)? {
                return Ok(false);
            }
        }
        let Some(next) = next else { return Ok(true) };
        start = next;
    }
}
