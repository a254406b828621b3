//! Questions: answered from the engine at work, or from one that is made for them; and the rounds by which those of several
//! shards are answered at one stamp ([`super::holds`]).

use std::{sync::Arc, time::Duration};

use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::{CallError, CallErrorCode, segment_call::Ask};
use isthmus_router::SegmentsWanted;
use tokio::time::Instant;

use super::{
    Failure, TIMEOUT, Work,
    beside::{Beside, PREVIEWS_FROM, PREVIEWS_MAX},
    holds::Named,
};
use crate::{
    answer,
    definitions::compile,
    gather::blocking,
    hosted::{Question, error},
};

/// Questions that are answered together.
const TOGETHER: usize = 64;
/// The most members that a preview shows.
const SAMPLE_MAX: usize = 100;
/// Commands that a shard is asked for to tell what was found under the definitions before.
const LAST_COMMANDS_MAX: usize = 4;

/// What became of a question.
enum Served {
    /// It has its answer, or whoever works on it has.
    Done,
    /// Its time has not come.
    Later(Question),
}

impl Work<'_> {
    /// Answers what was asked, of a moment that is not before the questions.
    pub(super) async fn answer(&mut self) -> Result<(), Failure> {
        while self.waiting.len() < TOGETHER
            && let Ok(question) = self.asked.try_recv()
        {
            self.waiting.push_back(question);
        }
        self.waiting.retain(|question| question.deadline > Instant::now() && !question.reply.is_closed());
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.now.engine()?.owned().is_some_and(|owned| *owned != self.handle.owned()) {
            return Err(Failure::Feed("the shard has other slots now"));
        }
        let mut settled = None;
        for question in std::mem::take(&mut self.waiting) {
            match self.serve(question, &mut settled).await? {
                Served::Done => {}
                Served::Later(question) => self.waiting.push_back(question),
            }
        }
        Ok(())
    }

    /// A stamp that all is below which was acknowledged before the questions that are looked at.
    async fn settle(&self, settled: &mut Option<Stamp>) -> Result<Stamp, Failure> {
        if let Some(stamp) = *settled {
            return Ok(stamp);
        }
        let stamp = self.handle.settle(Instant::now() + TIMEOUT).await?;
        *settled = Some(stamp);
        Ok(stamp)
    }

    async fn serve(&mut self, question: Question, settled: &mut Option<Stamp>) -> Result<Served, Failure> {
        let (hold, version) = (question.call.hold, question.call.document_version);
        match &question.call.ask {
            None => {
                let fault = error(CallErrorCode::Invalid, "a question about segments that asks nothing");
                return Ok(refuse(question, fault));
            }
            Some(Ask::Ship(_)) => {
                let fault = error(CallErrorCode::Invalid, "a state where a question belongs");
                return Ok(refuse(question, fault));
            }
            Some(Ask::Status(_)) => return self.tell_where(question, None, false),
            Some(Ask::Release(_)) => {
                self.holds.release(hold);
                return self.tell_where(question, None, false);
            }
            _ => {}
        }
        // Until all others have told what they know, nothing is exact. Who holds others as well doesn't wait for that.
        if self.kept.is_some() {
            return match hold {
                0 => Ok(Served::Later(question)),
                _ => self.tell_where(question, None, true),
            };
        }
        match &question.call.ask {
            Some(Ask::Beside(ask)) => {
                let (document, lease) = (ask.document.clone(), Duration::from_millis(ask.lease_ms.into()));
                self.preview(version, document, lease, question).await
            }
            Some(Ask::Stop(ask)) => {
                let lease = Duration::from_millis(ask.lease_ms.into());
                self.stop(question, lease, settled).await
            }
            Some(Ask::Reach(ask)) => {
                let stamp = Stamp(ask.stamp);
                self.reach(question, stamp).await
            }
            _ if hold != 0 => self.held(question).await,
            _ if !self.now.exchange.is_alone() || version >= PREVIEWS_FROM => {
                self.tell_where(question, None, true)
            }
            _ if version > self.now.engine()?.version() => Ok(Served::Later(question)),
            _ => {
                let stamp = self.settle(settled).await?;
                if self.holds.limit().is_some_and(|limit| limit < stamp) {
                    return Ok(Served::Later(question));
                }
                let currency = self.segments.currency.clone();
                while !self.now.advance(self.handle, &currency, stamp).await? {}
                self.reply(question).await
            }
        }
    }

    /// Says where this evaluator is, and nothing else.
    fn tell_where(
        &mut self,
        question: Question,
        stamp: Option<Stamp>,
        gone: bool,
    ) -> Result<Served, Failure> {
        let ready_version = self.ready_version()?;
        let owned = self.handle.owned();
        let engine = self.now.engine()?;
        let mut reply = answer::head(engine, &owned);
        reply.stamp = stamp.unwrap_or_else(|| engine.at()).0;
        (reply.gone, reply.ready_version) = (gone, ready_version);
        _ = question.reply.send(Ok(reply));
        Ok(Served::Done)
    }

    /// The first round of a hold: from here on this evaluator goes no further than it says.
    async fn stop(
        &mut self,
        question: Question,
        lease: Duration,
        settled: &mut Option<Stamp>,
    ) -> Result<Served, Failure> {
        let (hold, version) = (question.call.hold, question.call.document_version);
        let is_there = match version >= PREVIEWS_FROM {
            true => self.beside.get(&version).is_some_and(Beside::is_ready),
            false => self.now.engine()?.version() >= version || self.ready_version()? >= version,
        };
        if !is_there {
            return self.tell_where(question, None, true);
        }
        let stamp = self.settle(settled).await?;
        let at = self.now.engine()?.at().max(stamp);
        match self.holds.stop(hold, at, lease, Instant::now()) {
            Some(floor) => self.tell_where(question, Some(floor), false),
            None => {
                Ok(refuse(question, error(CallErrorCode::Overloaded, "too many hold this shard's segments")))
            }
        }
    }

    /// The second round: this evaluator comes to exactly the stamp, and others get what they have to know by then.
    async fn reach(&mut self, question: Question, stamp: Stamp) -> Result<Served, Failure> {
        let (hold, version) = (question.call.hold, question.call.document_version);
        if self.holds.name(hold, stamp, Instant::now()) == Named::Gone {
            return self.tell_where(question, None, true);
        }
        if self.holds.limit().is_some_and(|limit| limit < stamp) {
            return Ok(Served::Later(question));
        }
        self.handle.advance(stamp, Instant::now() + TIMEOUT).await?;
        let currency = self.segments.currency.clone();
        while !self.now.advance(self.handle, &currency, stamp).await? {}
        if version != self.now.engine()?.version() {
            let Some(side) = self.beside.get_mut(&version).and_then(Beside::side) else {
                return self.tell_where(question, None, true);
            };
            side.hear(stamp);
            while !side.advance(self.handle, &currency, stamp).await? {}
            while !side.tell().await? {}
            if !side.exchange.is_done() {
                return Ok(Served::Later(question));
            }
            if version < PREVIEWS_FROM {
                // What was found by the definitions before goes into the log with what brought it about.
                self.put_all().await?;
                for _ in 0..LAST_COMMANDS_MAX {
                    let engine = self.now.engine()?;
                    let proposed = if engine.has_pending() { engine.propose() } else { None };
                    let Some(proposed) = proposed else { break };
                    self.put(proposed).await?;
                }
                if !self.take_over(version).await? {
                    return self.tell_where(question, None, true);
                }
            }
            return self.tell_where(question, None, false);
        }
        while !self.now.tell().await? {}
        match self.now.exchange.is_done() {
            true => self.tell_where(question, None, false),
            false => Ok(Served::Later(question)),
        }
    }

    /// The third round: all have what they have to know, so what has come up to the stamp is all there is.
    async fn held(&mut self, question: Question) -> Result<Served, Failure> {
        let (hold, version) = (question.call.hold, question.call.document_version);
        let Some(stamp) = self.holds.stamp(hold) else { return self.tell_where(question, None, true) };
        let side = match version == self.now.engine()?.version() {
            true => Some(&mut self.now),
            false => self.beside.get_mut(&version).and_then(Beside::side),
        };
        let Some(side) = side.filter(|side| side.at() == Some(stamp)) else {
            return self.tell_where(question, None, true);
        };
        side.hear(stamp);
        let engine = side.engine()?;
        while !engine.reach(stamp, usize::MAX) {}
        let served = self.reply(question).await;
        self.holds.release(hold);
        served
    }

    /// Answers from where an engine is.
    async fn reply(&mut self, question: Question) -> Result<Served, Failure> {
        let Question { call, reply, .. } = question;
        let owned = self.handle.owned();
        let side = match self.beside.get_mut(&call.document_version).and_then(Beside::side) {
            Some(side) if call.document_version >= PREVIEWS_FROM => side,
            _ => &mut self.now,
        };
        let engine = side.engine()?;
        let mut answer = answer::head(engine, &owned);
        let found = match &call.ask {
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
            Some(Ask::Preview(ask)) if call.document_version >= PREVIEWS_FROM => {
                answer::preview(engine, &ask.segment, (ask.limit as usize).min(SAMPLE_MAX), &mut answer);
                Ok(())
            }
            Some(Ask::Settle(_)) => Ok(()),
            Some(Ask::Freeze(ask)) => {
                let names = (!ask.all).then(|| ask.segments.clone());
                let frozen = engine.freeze(&SegmentsWanted { names, since: ask.since });
                let at = engine.at();
                match frozen {
                    // The pin is another replica's, or gone.
                    Ok(_) if self.handle.snapshot(ask.pin).is_none_or(|snapshot| snapshot.at() != at) => {
                        answer.gone = true;
                        Ok(())
                    }
                    Ok(frozen) => {
                        let lease = Duration::from_millis(ask.lease_ms.into());
                        self.shelf.put(ask.pin, Arc::new(frozen), lease, self.segments);
                        Ok(())
                    }
                    Err(most) => Err(error(
                        CallErrorCode::Invalid,
                        format!(
                            "a shard tells of {most} members since when they are, and there are more: name segments, or leave \
                         the column out"
                        ),
                    )),
                }
            }
            _ => Err(error(CallErrorCode::Invalid, "nothing that can be answered")),
        };
        _ = reply.send(found.map(|()| answer));
        Ok(Served::Done)
    }

    /// Has definitions worked out beside those in force, or lets them go.
    async fn preview(
        &mut self,
        number: u64,
        document: bytes::Bytes,
        lease: Duration,
        question: Question,
    ) -> Result<Served, Failure> {
        if number < PREVIEWS_FROM {
            return Ok(refuse(
                question,
                error(CallErrorCode::Invalid, "a preview with the number of a version"),
            ));
        }
        if document.is_empty() {
            self.beside.remove(&number);
        } else if !self.beside.contains_key(&number) {
            if self.beside.range(PREVIEWS_FROM..).count() >= PREVIEWS_MAX {
                return Ok(refuse(
                    question,
                    error(CallErrorCode::Overloaded, "too many previews are worked out"),
                ));
            }
            let currency = self.segments.currency.clone();
            match blocking(move || Ok(compile(&document, &currency))).await? {
                Ok(plan) => self.begin_beside(number, Arc::new(plan), Some(lease)),
                Err(faults) => {
                    let fault = faults.first().map(ToString::to_string).unwrap_or_default();
                    return Ok(refuse(question, error(CallErrorCode::Invalid, fault)));
                }
            }
        }
        self.tell_where(question, None, false)
    }
}

fn refuse(question: Question, fault: CallError) -> Served {
    _ = question.reply.send(Err(fault));
    Served::Done
}

fn invalid(fault: &isthmus_segment::Fault) -> CallError {
    let (line, column) = fault.place.map_or((0, 0), |place| (place.line, place.column));
    CallError { line, column, ..error(CallErrorCode::Invalid, fault.to_string()) }
}
