//! The state that lets a stopped `ingest` go on where it was.
//!
//! A small file says how far each input was dealt with: up to which line, what these lines were (a hash), and what
//! became of them. It is replaced whole, at most once a second and when a run stops, and removed when all is done. The
//! same command finds it again. It counts only for the cluster that it was written for, for the same sender, and for a
//! file that begins as it did then and is read by the same mapping; otherwise the file is sent from its beginning,
//! which is safe: message ids make every event count once. So a state that is lost, old or damaged costs time alone.
//!
//! Standard input and pipes can't be read again; nothing is kept of them.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{IngestCommand, files::Input, sender::Sender};
use crate::{
    Client, Counts,
    cli::{failure::Failure, output::complain},
    files::Mark,
};

/// The format of the file; another one is not read.
const FORMAT: u32 = 1;
/// How long the cluster may take to say which one it is, unless told otherwise.
const ASK_FOR: Duration = Duration::from_secs(10);
/// The same in the middle of a run, where others wait for it.
const ASK_BRIEFLY_FOR: Duration = Duration::from_secs(2);

/// How far an input was dealt with, and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dealt {
    pub mark: Mark,
    pub counts: Counts,
}

/// Where the state is kept, and for whom it counts.
pub struct Resume {
    /// Nowhere when nothing can be read again, or there is no place.
    file: Option<PathBuf>,
    sender: String,
    cluster: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct State {
    format: u32,
    cluster_id: String,
    sender: String,
    inputs: Vec<InputState>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct InputState {
    path: PathBuf,
    dataset: String,
    mapping: String,
    lines: u64,
    digest: String,
    accepted: u64,
    duplicate: u64,
    quarantined: u64,
    rejected: u64,
}

impl InputState {
    fn of(input: &Input, dealt: &Dealt) -> Option<Self> {
        let path = input.path.as_ref().filter(|_| input.is_regular() && dealt.mark.lines > 0)?;
        let counts = &dealt.counts;
        Some(Self {
            path: std::path::absolute(path).ok()?,
            dataset: input.dataset.clone(),
            mapping: input.mapping_digest().to_owned(),
            lines: dealt.mark.lines,
            digest: format!("{:032x}", dealt.mark.digest),
            accepted: counts.accepted,
            duplicate: counts.duplicate,
            quarantined: counts.quarantined,
            rejected: counts.rejected,
        })
    }

    /// How far the same input was dealt with.
    fn dealt(&self, input: &Input) -> Option<Dealt> {
        let path = std::path::absolute(input.path.as_ref()?).ok()?;
        let same = path == self.path && input.is_regular() && input.mapping_digest() == self.mapping;
        let digest = u128::from_str_radix(&self.digest, 16).ok()?;
        same.then_some(Dealt {
            mark: Mark { lines: self.lines, digest },
            counts: Counts {
                accepted: self.accepted,
                duplicate: self.duplicate,
                quarantined: self.quarantined,
                rejected: self.rejected,
                unknown: 0,
            },
        })
    }
}

impl Resume {
    /// Decides where the state of a command is kept.
    pub fn of(command: &IngestCommand, sender: &Sender, inputs: &[Input]) -> Self {
        // A key is kept as its hash alone.
        let sender = match sender {
            Sender::Source(source) => format!("source {source}"),
            Sender::Key(key) => format!("key {}", &blake3::hash(key.as_bytes()).to_hex()[..16]),
            Sender::Default => "default".to_owned(),
        };
        let file = command.resume_file.clone().or_else(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(sender.as_bytes());
            for argument in &command.files {
                let path = std::path::absolute(argument).unwrap_or_else(|_| argument.clone());
                hasher.update(b"\0").update(path.as_os_str().as_encoded_bytes());
            }
            hasher.update(b"\0").update(command.dataset.as_deref().unwrap_or_default().as_bytes());
            let name = format!("ingest-{}.json", &hasher.finalize().to_hex()[..16]);
            Some(state_folder()?.join(name))
        });
        let file = file.filter(|_| inputs.iter().any(Input::is_regular));
        Self { file, sender, cluster: None }
    }

    /// How far an earlier run of the command dealt with each input.
    ///
    /// # Errors
    /// When there is a state and the cluster can't be asked whether it is the one.
    pub async fn load(
        &mut self,
        client: &Client,
        retry_for: Option<Duration>,
        inputs: &[Input],
    ) -> Result<Vec<Dealt>, Failure> {
        let nothing = vec![Dealt::default(); inputs.len()];
        let Some(file) = &self.file else { return Ok(nothing) };
        let state = match read(file) {
            Ok(Some(state)) => state,
            Ok(None) => return Ok(nothing),
            Err(error) => {
                complain(&format!("{}: {error}: beginning anew, which is safe", file.display()));
                return Ok(nothing);
            }
        };
        let asked = client.with_deadline(retry_for.unwrap_or(ASK_FOR));
        let cluster = asked.cluster_status().await?.cluster_id;
        let fits = !cluster.is_empty() && state.cluster_id == cluster && state.sender == self.sender;
        self.cluster = Some(cluster).filter(|id| !id.is_empty());
        if !fits {
            let what = "is of another cluster or sender: beginning anew";
            complain(&format!("{}: {what}", file.display()));
            return Ok(nothing);
        }
        let known: BTreeMap<&str, &InputState> =
            state.inputs.iter().map(|input| (input.dataset.as_str(), input)).collect();
        let dealt = |input: &Input| known.get(input.dataset.as_str())?.dealt(input);
        Ok(inputs.iter().map(|input| dealt(input).unwrap_or_default()).collect())
    }

    /// Keeps how far each input was dealt with. Returns where, if it could.
    pub async fn save(&mut self, client: &Client, inputs: &[Input], dealt: &[Dealt]) -> Option<&Path> {
        self.file.as_ref()?;
        let states: Vec<InputState> =
            inputs.iter().zip(dealt).filter_map(|(input, dealt)| InputState::of(input, dealt)).collect();
        if states.is_empty() {
            return None;
        }
        if self.cluster.is_none() {
            let status = client.with_deadline(ASK_BRIEFLY_FOR).cluster_status().await;
            self.cluster = status.ok().map(|status| status.cluster_id).filter(|id| !id.is_empty());
        }
        let state = State {
            format: FORMAT,
            cluster_id: self.cluster.clone()?,
            sender: self.sender.clone(),
            inputs: states,
        };
        if let Some(Err(error)) = self.file.as_deref().map(|file| write(file, &state)) {
            let file = self.file.take().unwrap_or_default();
            complain(&format!("{}: can't keep how far it came: {error}", file.display()));
        }
        self.file.as_deref()
    }

    /// All is done: the next run begins at the beginning.
    pub fn remove(&self) {
        let Some(file) = &self.file else { return };
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                complain(&format!("{}: can't be removed: {error}", file.display()));
            }
            _ => {}
        }
    }
}

/// Where programs keep state of a user (XDG Base Directory Specification 0.8).
fn state_folder() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(folder?.join("isthmus"))
}

fn read(file: &Path) -> io::Result<Option<State>> {
    let text = match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let state: State = serde_json::from_slice(&text).map_err(|_| unreadable("is damaged"))?;
    if state.format != FORMAT {
        return Err(unreadable("was written by another version"));
    }
    Ok(Some(state))
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Replaces the file: the old state is there or the new one, whatever happens.
fn write(file: &Path, state: &State) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = file.with_file_name(name);
    let mut out = File::create(&new)?;
    out.write_all(&serde_json::to_vec(state)?)?;
    out.write_all(b"\n")?;
    out.sync_data()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(inputs: Vec<InputState>) -> State {
        State { format: FORMAT, cluster_id: "c".into(), sender: "source shop".into(), inputs }
    }

    proptest! {
        #[test]
        fn a_state_is_read_as_it_was_written(
            inputs in prop::collection::vec(("[a-z/ é\"]{1,9}", any::<u64>(), any::<u128>(), any::<u64>()), 0..4)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("deep/er/state.json");
            let inputs = inputs.into_iter().map(|(name, lines, digest, count)| InputState {
                path: PathBuf::from(&name),
                dataset: name,
                mapping: String::new(),
                lines,
                digest: format!("{digest:032x}"),
                accepted: count,
                duplicate: 0,
                quarantined: count / 2,
                rejected: 1,
            });
            let state = state(inputs.collect());
            write(&file, &self::state(vec![])).unwrap();
            write(&file, &state).unwrap();
            prop_assert_eq!(read(&file).unwrap(), Some(state));
            prop_assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        }
    }

    #[test]
    fn a_damaged_state_and_none_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        assert!(matches!(read(&file), Ok(None)));
        let whole = serde_json::to_vec(&state(vec![])).unwrap();
        for text in [
            &b""[..],
            b"{}",
            &whole[..whole.len() - 1],
            b"{\"format\":2,\"cluster_id\":\"\",\"sender\":\"\",\"inputs\":[]}",
        ] {
            fs::write(&file, text).unwrap();
            assert!(read(&file).is_err());
        }
    }
}
