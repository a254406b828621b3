//! Messages, writes and members in words, for transcripts.

use std::fmt::Write as _;

use isthmus_raft::{ConfState, PeerId, core::Write};
use raft::eraftpb::{Message, MessageType};

pub fn node_of(id: u64) -> u32 {
    PeerId(id).node()
}

fn nodes_of(ids: &[u64]) -> String {
    ids.iter().map(|id| node_of(*id).to_string()).collect::<Vec<_>>().join(" ")
}

pub fn conf_text(conf: &ConfState) -> String {
    let mut text = format!("({})", nodes_of(&conf.voters));
    if !conf.voters_outgoing.is_empty() {
        write!(text, "&({})", nodes_of(&conf.voters_outgoing)).unwrap();
    }
    if !conf.learners.is_empty() {
        write!(text, " learners ({})", nodes_of(&conf.learners)).unwrap();
    }
    text
}

pub fn write_text(write: &Write) -> String {
    let mut text = String::new();
    if let Some(base) = write.reset {
        write!(text, "reset {}@{} ", base.index, base.term).unwrap();
    }
    write!(text, "[{}]", entries_text(&write.entries)).unwrap();
    if let Some(hard_state) = &write.hard_state {
        write!(
            text,
            " term={} vote={} commit={}",
            hard_state.term,
            node_of(hard_state.vote),
            hard_state.commit
        )
        .unwrap();
    }
    text
}

fn entries_text(entries: &[raft::eraftpb::Entry]) -> String {
    let text = entries.iter().map(|entry| {
        let what = match entry.get_entry_type() {
            raft::eraftpb::EntryType::EntryNormal => String::from_utf8_lossy(&entry.data).into_owned(),
            _ => "members".to_owned(),
        };
        format!("{}@{} {what}", entry.index, entry.term).trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join(", ")
}

pub fn message_text(message: &Message) -> String {
    let mut text = format!("{}->{} ", node_of(message.from), node_of(message.to));
    let reject = if message.reject { " reject" } else { "" };
    match message.get_msg_type() {
        MessageType::MsgAppend => write!(
            text,
            "append {}@{} [{}] commit={}",
            message.index,
            message.log_term,
            entries_text(&message.entries),
            message.commit
        ),
        MessageType::MsgAppendResponse => write!(text, "appended {}{reject}", message.index),
        MessageType::MsgHeartbeat => {
            let read = if message.context.is_empty() { "" } else { " read" };
            write!(text, "heartbeat commit={}{read}", message.commit)
        }
        MessageType::MsgHeartbeatResponse => {
            let read = if message.context.is_empty() { "" } else { " read" };
            write!(text, "alive{read}")
        }
        MessageType::MsgRequestPreVote => {
            write!(text, "would-you-vote {}@{}", message.index, message.log_term)
        }
        MessageType::MsgRequestPreVoteResponse => write!(text, "would-vote{reject}"),
        MessageType::MsgRequestVote => write!(text, "vote-for-me {}@{}", message.index, message.log_term),
        MessageType::MsgRequestVoteResponse => write!(text, "vote{reject}"),
        MessageType::MsgSnapshot => {
            let meta = message.get_snapshot().get_metadata();
            write!(text, "snapshot {}@{}", meta.index, meta.term)
        }
        MessageType::MsgReadIndex => write!(text, "read?"),
        MessageType::MsgReadIndexResp => write!(text, "read {}", message.index),
        MessageType::MsgTimeoutNow => write!(text, "lead-now"),
        other => write!(text, "{other:?}"),
    }
    .unwrap();
    write!(text, " (term {})", message.term).unwrap();
    text
}
