//! One life of a stream, on the calling side: frames out, replies in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use isthmus_proto::internal::v1::{CallErrorCode, ExchangeRequest, ExchangeResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::ExchangeOptions;
use super::link::{Call, Reply};
use crate::error::call_error;

/// How often calls that were sent and never answered are looked for. The other end answers every call it reads, so
/// this is for one that is stuck; callers have given up at their deadlines long before.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How a life of the stream ended.
pub(super) enum End {
    /// At the stop.
    Stopped,
    /// Nobody holds the link any more, and all is answered.
    Unused,
    /// The stream broke. It had worked if a reply had come over it.
    Broken { worked: bool, why: String },
}

/// One life of the stream.
pub(super) struct Session<'a> {
    options: &'a ExchangeOptions,
    /// Calls that wait, oldest first. Those beyond a frame or two are still in the mailbox.
    waiting: &'a mut VecDeque<Call>,
    frames: mpsc::Sender<ExchangeRequest>,
    replies: Streaming<ExchangeResponse>,
    /// Calls that were sent, by number.
    sent: BTreeMap<u64, Sent>,
    last_call: u64,
    worked: bool,
}

struct Sent {
    deadline: Instant,
    reply: Reply,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        options: &'a ExchangeOptions,
        waiting: &'a mut VecDeque<Call>,
        frames: mpsc::Sender<ExchangeRequest>,
        replies: Streaming<ExchangeResponse>,
    ) -> Self {
        Self { options, waiting, frames, replies, sent: BTreeMap::new(), last_call: 0, worked: false }
    }

    /// Runs until the stream ends; what was sent and has no reply is then of unknown outcome, what waits still waits.
    pub(super) async fn run(mut self, calls: &mut mpsc::Receiver<Call>, stop: &CancellationToken) -> End {
        let end = self.carry(calls, stop).await;
        for sent in std::mem::take(&mut self.sent).into_values() {
            sent.reply
                .send(Err(call_error(CallErrorCode::OutcomeUnknown, "the connection to the node was lost")));
        }
        end
    }

    async fn carry(&mut self, calls: &mut mpsc::Receiver<Call>, stop: &CancellationToken) -> End {
        let mut sweep = interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut arrivals = Vec::new();
        let mut held = true;
        loop {
            if !held && self.waiting.is_empty() && self.sent.is_empty() {
                return End::Unused;
            }
            let room = self.options.frame_calls_max;
            // Replies first: they free room.
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                frame = self.replies.message() => match frame {
                    Ok(Some(frame)) => {
                        self.worked = true;
                        settle(&mut self.sent, frame);
                    }
                    Ok(None) => return self.broken("the other end closed the stream".to_owned()),
                    Err(status) => return self.broken(format!("{}: {}", status.code(), status.message())),
                },
                slot = self.frames.reserve(), if !self.waiting.is_empty() => match slot {
                    Ok(slot) => {
                        while self.waiting.len() < room && let Ok(call) = calls.try_recv() {
                            self.waiting.push_back(call);
                        }
                        let frame = fill(self.options, self.waiting, &mut self.sent, &mut self.last_call);
                        if !frame.calls.is_empty() {
                            slot.send(frame);
                        }
                    }
                    Err(_) => return self.broken("the stream takes no more frames".to_owned()),
                },
                count = calls.recv_many(&mut arrivals, room), if held && self.waiting.is_empty() => {
                    held = count > 0;
                    self.waiting.extend(arrivals.drain(..));
                }
                _ = sweep.tick() => {
                    let now = Instant::now();
                    self.sent.retain(|_, sent| !(sent.reply.is_unwanted() && sent.deadline <= now));
                }
            }
        }
    }

    fn broken(&self, why: String) -> End {
        End::Broken { worked: self.worked, why }
    }
}

/// Hands replies to those who wait for them. One that nobody waits for was given up, or is a repetition.
fn settle(sent: &mut BTreeMap<u64, Sent>, frame: ExchangeResponse) {
    for reply in frame.replies {
        let Some(sent) = sent.remove(&reply.call) else { continue };
        let empty =
            || call_error(CallErrorCode::OutcomeUnknown, "the reply has no content that is known here");
        sent.reply.send(reply.body.ok_or_else(empty));
    }
}

/// Fills a frame with what waits, up to the limits. Calls that nobody wants any more are left out.
fn fill(
    options: &ExchangeOptions,
    waiting: &mut VecDeque<Call>,
    sent: &mut BTreeMap<u64, Sent>,
    last_call: &mut u64,
) -> ExchangeRequest {
    let now = Instant::now();
    let (mut calls, mut bytes) = (Vec::with_capacity(waiting.len().min(options.frame_calls_max)), 0);
    while calls.len() < options.frame_calls_max
        && bytes < options.frame_bytes_max
        && let Some(Call { mut call, bytes: more, deadline, reply }) = waiting.pop_front()
    {
        if reply.is_unwanted() || deadline <= now {
            reply.send(Err(call_error(CallErrorCode::Unavailable, "the deadline passed before it was sent")));
            continue;
        }
        *last_call += 1;
        call.call = *last_call;
        // Rounded up, so that the last millisecond is not lost to the other end.
        let left = (deadline - now).as_micros().div_ceil(1_000);
        call.timeout_ms = u32::try_from(left).unwrap_or(u32::MAX);
        sent.insert(call.call, Sent { deadline, reply });
        calls.push(call);
        bytes += more;
    }
    ExchangeRequest { hello: None, calls }
}
