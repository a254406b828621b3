//! Questions: answered from the engine at work, or from one that is made for them.

use std::{collections::VecDeque, sync::Arc};

use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::{CallError, CallErrorCode, SegmentReply, segment_call::Ask};
use tokio::{sync::oneshot, time::Instant};

use super::{Failure, TIMEOUT, Work};
use crate::{
    Cause, answer,
    definitions::compile,
    gather::{blocking, gather},
    hosted::{Question, error},
};

/// Questions that are answered together.
const TOGETHER: usize = 64;
/// The most members that a preview shows.
const SAMPLE_MAX: usize = 100;

impl Work<'_> {
    /// Answers what was asked, of a moment that is not before the questions.
    pub(super) async fn answer(&mut self) -> Result<(), Failure> {
        while self.waiting.len() < TOGETHER
            && let Ok(question) = self.asked.try_recv()
        {
            self.waiting.push_back(question);
        }
        self.waiting.retain(|question| question.deadline > Instant::now() && !question.reply.is_closed());
        if self.waiting.is_empty() || self.kept.is_some() {
            return Ok(());
        }
        let stamp = self.handle.settle(Instant::now() + TIMEOUT).await?;
        while !self.advance(stamp).await? {}
        // What others had told by the time of the question is in the answer.
        self.hear();
        let is_told = self.tell().await? && self.exchange.is_done();
        let version = self.engine()?.version();
        let ready = |question: &Question| {
            let flushed = is_told || !matches!(question.call.ask, Some(Ask::Flush(_)));
            question.call.document_version <= version && question.call.min_stamp <= stamp.0 && flushed
        };
        let (now, later) = std::mem::take(&mut self.waiting).into_iter().partition(ready);
        self.waiting = later;
        let now: VecDeque<Question> = now;
        if let Some(min) = self.waiting.iter().map(|question| question.call.min_stamp).max()
            && min > stamp.0
        {
            self.raise(Stamp(min)).await?;
        }
        for question in now {
            let Question { call, reply, .. } = question;
            let owned = self.handle.owned();
            let engine = self.engine()?;
            let mut answer = answer::head(engine, &owned);
            let found = match &call.ask {
                None => Err(error(CallErrorCode::Invalid, "a question about segments that asks nothing")),
                Some(Ask::Status(_) | Ask::Flush(_)) => Ok(()),
                Some(Ask::Ship(_)) => Err(error(CallErrorCode::Invalid, "a state where a question belongs")),
                Some(Ask::Count(ask)) => {
                    answer::count(engine, &ask.expression, &mut answer).map_err(|fault| invalid(&fault))
                }
                Some(Ask::Members(ask)) => {
                    answer::members(engine, ask, &mut answer).map_err(|fault| invalid(&fault))
                }
                Some(Ask::Profiles(ask)) => {
                    answer::profiles(engine, &ask.homes, &mut answer);
                    Ok(())
                }
                Some(Ask::Preview(_) | Ask::Verify(_)) => {
                    self.beside(call.ask, answer, reply);
                    continue;
                }
            };
            _ = reply.send(found.map(|()| answer));
        }
        Ok(())
    }

    /// Makes the shard's stamp reach another one's.
    async fn raise(&mut self, to: Stamp) -> Result<(), Failure> {
        if to.as_micros() > self.segments.clock.now_micros().saturating_add(1_000_000) {
            return Ok(());
        }
        let engine = self.engine()?;
        if let Some(proposed) = engine.propose() {
            let deadline = Instant::now() + TIMEOUT;
            match self.handle.propose_segments(proposed.command.clone(), to, deadline).await? {
                Ok(stamp) => self.engine()?.taken(&proposed, stamp),
                Err(_) => return Err(Failure::Elsewhere),
            }
        }
        Ok(())
    }

    /// Answers what takes an engine of its own, made of all events as of where this one is.
    fn beside(
        &mut self,
        ask: Option<Ask>,
        mut reply: SegmentReply,
        to: oneshot::Sender<Result<SegmentReply, CallError>>,
    ) {
        let Some(engine) = self.engine.as_deref() else { return };
        let (at, version) = (engine.at(), engine.version());
        let (plan, live) = match &ask {
            Some(Ask::Verify(verify)) if engine.set(&verify.segment).is_none() => {
                let fault = format!("there is no segment {}", verify.segment);
                _ = to.send(Err(error(CallErrorCode::Invalid, fault)));
                return;
            }
            Some(Ask::Verify(verify)) => {
                (Some(engine.plan().clone()), answer::homes(engine, &verify.segment))
            }
            _ => (None, Default::default()),
        };
        // What lies in other shards is worked out there, of the same definitions.
        let foreign = if plan.is_some() { engine.foreign() } else { Vec::new() };
        let (handle, segments) = (self.handle.clone(), self.segments.clone());
        self.segments.tracker.spawn(async move {
            let found = async {
                let _room = segments.making.acquire().await;
                let plan = match (&plan, &ask) {
                    (Some(plan), _) => plan.clone(),
                    (None, Some(Ask::Preview(preview))) => {
                        let (document, currency) = (preview.document.clone(), segments.currency.clone());
                        let compiled = blocking(move || Ok(compile(&document, &currency))).await;
                        let compiled = compiled.map_err(|failure| unavailable(&failure))?;
                        Arc::new(compiled.map_err(|faults| {
                            let fault = faults.first().map(ToString::to_string).unwrap_or_default();
                            error(CallErrorCode::Invalid, fault)
                        })?)
                    }
                    (None, _) => return Err(error(CallErrorCode::Invalid, "nothing to work out")),
                };
                let made = gather(&handle, plan, version, at, &segments.currency);
                let mut made = made.await.map_err(|failure| unavailable(&failure))?;
                for (facet, home, state) in foreign {
                    made.told((0, 0), (facet, home), at, Some(state), Cause::default());
                }
                match &ask {
                    Some(Ask::Verify(verify)) => answer::verified(&live, &made, &verify.segment, &mut reply),
                    Some(Ask::Preview(preview)) => {
                        let limit = (preview.limit as usize).min(SAMPLE_MAX);
                        answer::preview(&made, &preview.segment, limit, &mut reply);
                    }
                    _ => {}
                }
                Ok(reply)
            };
            _ = to.send(found.await);
        });
    }
}

fn invalid(fault: &isthmus_segment::Fault) -> CallError {
    error(CallErrorCode::Invalid, fault.to_string())
}

fn unavailable(failure: &Failure) -> CallError {
    error(CallErrorCode::Unavailable, failure.to_string())
}
