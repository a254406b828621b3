//! `isthmus watch` and `isthmus profile watch`

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use serde::Serialize;

use crate::{
    Client, Error, Reason, Watch, WatchNews, WatchOptions as Watching, json,
    key::ProfileKey,
    proto::{self, WatchFrom, change::What},
};

use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain, harmless},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus watch
  isthmus watch --event \"Order Completed\" --trait email --output json
  isthmus watch --cursor-file orders.cursor --output json >> orders.jsonl
  isthmus watch --from now --limit 0 --cursor-file all.cursor && isthmus profile list --output json > all.jsonl
  isthmus profile watch user_id:42

A watch goes on by itself when nodes restart, and says on standard error when it has to wait for them. A change may come
again after a restart of the watch, with the id that it had. With --cursor-file a watch goes on where the last one ended; the
fourth example lists all profiles so that a watch from the cursor brings all that comes later.";

/// `isthmus watch`
#[derive(Debug, Args)]
pub struct WatchCommand {
    /// Only changes of the customer with this identifier, as NAMESPACE:VALUE or by profile id. May be repeated
    #[arg(long = "identifier", value_name = "PROFILE", value_parser = profile_key)]
    identifiers: Vec<ProfileKey>,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    options: WatchOptions,
}

/// Which changes of profiles to watch.
#[derive(Debug, Args)]
pub struct Wanted {
    /// Events of this name. May be repeated; of this and the next four any that fits passes
    #[arg(long = "event", value_name = "NAME")]
    events: Vec<String>,
    /// Events of this type: identify, track, page, screen, group, alias. May be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    types: Vec<proto::EventType>,
    /// `identify` events that set or remove this trait. May be repeated
    #[arg(long = "trait", value_name = "NAME")]
    traits: Vec<String>,
    /// Who enters this segment and leaves it. May be repeated
    #[arg(long = "segment", value_name = "NAME")]
    segments: Vec<String>,
    /// Changes of who belongs to a profile
    #[arg(long)]
    members: bool,
}

/// What all watches share.
#[derive(Debug, Args)]
pub struct WatchOptions {
    /// Where to begin: `now`, `beginning` (of what is kept), or a cursor [default: the cursor file's, else now]
    #[arg(long, value_name = "PLACE")]
    from: Option<String>,
    /// Keep the cursor here, after what it covers was printed, and go on from it at the next start
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// End after so many changes; 0 ends at once, with the cursor
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Wait so long for a hub that is away before giving up [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    retry_for: Option<Duration>,
}

fn profile_key(text: &str) -> Result<ProfileKey, Error> {
    text.parse()
}

fn event_type(text: &str) -> Result<proto::EventType, String> {
    let all = (1..=6).filter_map(|number| proto::EventType::try_from(number).ok());
    all.into_iter()
        .find(|kind| json::type_name(*kind) == text)
        .ok_or_else(|| "is none of identify, track, page, screen, group, alias".to_owned())
}

/// The cursor, where nothing else is printed.
#[derive(Serialize)]
struct Cursor<'a> {
    cursor: &'a str,
}

pub async fn run(command: WatchCommand, client: Client, output: &mut Output) -> Result<Done, Failure> {
    watch(command.identifiers, command.wanted, command.options, client, output).await
}

/// `isthmus segment watch`
pub async fn watch_segments(
    names: Vec<String>,
    options: WatchOptions,
    client: Client,
    output: &mut Output,
) -> Result<Done, Failure> {
    let open = |place: Place, watching| {
        let Place { cursor, start, response_changes_max } = place;
        let start = start.into();
        let segments = names.clone();
        let request = proto::SegmentServiceWatchRequest { segments, cursor, start, response_changes_max };
        client.watch_segments(request, watching)
    };
    follow(open, options, output).await
}

/// Watches until the limit, or for ever.
pub async fn watch(
    keys: Vec<ProfileKey>,
    wanted: Wanted,
    options: WatchOptions,
    client: Client,
    output: &mut Output,
) -> Result<Done, Failure> {
    let Wanted { events, types, traits, segments, members } = wanted;
    let types = types.into_iter().map(Into::into).collect();
    let mut filter = proto::WatchFilter { events, types, traits, segments, members, ..Default::default() };
    for key in keys {
        match key {
            ProfileKey::Identifier { namespace, value } => {
                filter.identifiers.push(proto::Identifier { namespace, value });
            }
            ProfileKey::ProfileId(id) => filter.profile_ids.push(id),
        }
    }
    let open = |place: Place, watching| {
        let Place { cursor, start, response_changes_max } = place;
        let (start, filter) = (start.into(), Some(filter.clone()));
        client.watch_with(proto::WatchRequest { cursor, start, filter, response_changes_max }, watching)
    };
    follow(open, options, output).await
}

/// Where a watch begins, and how much comes at once.
#[derive(Clone)]
struct Place {
    cursor: String,
    start: WatchFrom,
    response_changes_max: u32,
}

/// Prints what a watch brings that `open` begins.
async fn follow(
    open: impl Fn(Place, Watching) -> Watch,
    options: WatchOptions,
    output: &mut Output,
) -> Result<Done, Failure> {
    let WatchOptions { from, cursor_file, limit, retry_for } = options;
    let kept = match (&from, &cursor_file) {
        (None, Some(file)) => read_cursor(file)?,
        _ => None,
    };
    let (start, cursor) = match from.or(kept).as_deref() {
        None | Some("now") => (WatchFrom::Now, String::new()),
        Some("beginning") => (WatchFrom::Beginning, String::new()),
        Some(cursor) => (WatchFrom::Unspecified, cursor.trim().to_owned()),
    };
    let mut left = limit.unwrap_or(u64::MAX);
    let mut place = Place { cursor, start, response_changes_max: response_max(left) };
    let mut watching = Watching::new().on_news(told);
    if let Some(patience) = retry_for {
        watching = watching.patience(patience);
    }
    let mut responses = open(place.clone(), watching.clone());
    while let Some(response) = responses.next().await {
        let response = response.map_err(explained)?;
        if response.changes.len() as u64 > left {
            // Asked for again in smaller parts, so that the cursor fits what was printed.
            place.response_changes_max = response_max(left);
            responses = open(place.clone(), watching.clone());
            continue;
        }
        place.cursor = response.cursor;
        if limit == Some(0) && cursor_file.is_none() {
            match output.is_json() {
                true => output.json(&Cursor { cursor: &place.cursor })?,
                false => output.line(&place.cursor)?,
            }
        }
        for (number, change) in (1..).zip(&response.changes) {
            let cursor = (number == response.changes.len()).then_some(place.cursor.as_str());
            match output.is_json() {
                true => output.json(&json::Change::new(change, cursor)?)?,
                false => output.line(&line(change))?,
            }
        }
        // The cursor is kept after what it covers, never before: what goes into a file is on disk by then, too.
        match &cursor_file {
            Some(file) => {
                output.keep()?;
                write_cursor(file, &place.cursor)?;
            }
            None => output.flush()?,
        }
        left -= response.changes.len() as u64;
        if left == 0 {
            return Ok(Done::Well);
        }
    }
    Ok(Done::NotWell)
}

/// Says on standard error that a watch waits, and that it goes on.
fn told(news: WatchNews<'_>) {
    match news {
        WatchNews::Waits(error) => {
            complain(&format!("the hub is away, and is waited for: {error}"));
        }
        WatchNews::GoesOn => complain("the hub is back: the watch goes on from where it was"),
    }
}

/// Changes in a response, where so many are left to be printed.
fn response_max(left: u64) -> u32 {
    u32::try_from(left).unwrap_or(u32::MAX).clamp(1, 256)
}

/// Says what to do about a cursor that is no good any more.
fn explained(error: Error) -> Failure {
    let begin_anew = |reason: &Reason| matches!(reason.as_str(), "CURSOR_TOO_OLD" | "CURSOR_AHEAD");
    if error.reason().is_some_and(begin_anew) {
        return Failure::Failed(format!(
            "{error}\n  to begin anew: isthmus watch --from now --limit 0 --cursor-file FILE, then isthmus profile list, \
             then isthmus watch --cursor-file FILE"
        ));
    }
    error.into()
}

/// A change on one line, for people.
fn line(change: &proto::Change) -> String {
    let named = |identifiers: &[proto::Identifier], count: u32| {
        let mut names: Vec<String> =
            identifiers.iter().map(|id| format!("{}:{}", id.namespace, id.value)).collect();
        if let Some(more) = (count as usize).checked_sub(names.len()).filter(|more| *more > 0) {
            names.push(format!("and {more} more"));
        }
        names.join(", ")
    };
    let what = match &change.what {
        Some(What::Event(event)) => {
            let mut what = json::type_name(event.r#type()).to_owned();
            for part in [&event.name, &event.traits.join(", ")] {
                if !part.is_empty() {
                    what = format!("{what} {part}");
                }
            }
            format!("{what}  [{}]", event.source)
        }
        Some(What::Members(members)) => {
            let came = named(&members.came, members.came_count);
            let left = named(&members.left, members.left_count);
            let part = |word: &str, names: String| (!names.is_empty()).then(|| format!("{word} {names}"));
            part("joined", came).into_iter().chain(part("parted", left)).collect::<Vec<_>>().join("; ")
        }
        Some(What::Segment(segment)) => {
            let what = match segment.now() {
                proto::SegmentState::In => "entered",
                proto::SegmentState::Unspecified => "left",
                proto::SegmentState::Overflow => "passes a bound of",
            };
            format!("{what} {}", segment.name)
        }
        None => "a change of a kind that this version does not know".to_owned(),
    };
    let at = json::time(change.at.as_ref()).unwrap_or_default();
    let identifier =
        change.identifier.as_ref().map(|id| format!("{}:{}", id.namespace, id.value)).unwrap_or_default();
    harmless(&format!("{at:27}  {}  {identifier:24}  {what}", change.profile_id)).trim_end().to_owned()
}

/// The cursor in a file; nothing when there is no file.
fn read_cursor(file: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Failed(format!("{} can't be read: {error}", file.display()))),
    }
}

/// Replaces the cursor in a file: the old one is there or the new one, whatever happens.
fn write_cursor(file: &Path, cursor: &str) -> Result<(), Failure> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let write = || {
        let mut out = File::create(&new)?;
        out.write_all(cursor.as_bytes())?;
        out.write_all(b"\n")?;
        out.sync_data()?;
        fs::rename(&new, file)
    };
    write().map_err(|error| Failure::Failed(format!("{} can't be written: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c");
        assert_eq!(read_cursor(&file).unwrap(), None);
        write_cursor(&file, "one").unwrap();
        write_cursor(&file, "two").unwrap();
        assert_eq!(read_cursor(&file).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_cursor(&dir.path().join("no/c"), "x").is_err());
    }

    #[test]
    fn a_change_is_one_line_that_obeys_nothing() {
        let members = proto::MembersChange {
            came: vec![proto::Identifier { namespace: "user_id".into(), value: "4\u{1b}2".into() }],
            came_count: 3,
            ..Default::default()
        };
        let change = proto::Change { what: Some(What::Members(members)), ..Default::default() };
        assert!(line(&change).ends_with("joined user_id:4\\u{1b}2, and 2 more"), "{}", line(&change));
    }
}
