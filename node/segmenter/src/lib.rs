//! Segments and computed traits at work: worked out beside the leader of each shard, and kept in the shard's log.
//!
//! [`isthmus_segment`] says what definitions mean, what has to be known of a facet, and what that answers; this crate
//! says who follows the events, where what was found is kept, and who may be asked.
//!
//! | part | does |
//! | --- | --- |
//! | [`definitions`] | the definitions in force: a document of the metadata group, compiled once by each node |
//! | [`engine`] | pure: what is known of a shard's facets and profiles under one plan, and what an event changes |
//! | [`gather`] | an engine made anew from all events of a shard, as of a stamp |
//! | [`evaluator`] | a shard's engine: follows the feed, proposes what it finds, answers |
//! | `shelf` | what was handed out to queries, for the stamps of their snapshots |
//! | [`exchange`] | states of facets on their way to the shards that put their profiles together |
//! | [`answer`] | answers from an engine |
//! | [`hosted`] | a shard with its part in segments, as the router calls it |
//!
//! **Who owns what.** Who is in which segment is replicated state of the shard: rows by home and segment, changed by
//! commands `Segments` alone, each change with a row of the feed in the same command (`isthmus_shard::segments`). All
//! else is the evaluator's, one task beside each replica, at work while that leads: the states of facets, which are a
//! cache of the events; where profiles stand, their next wakes, and bitmaps. Whoever comes to lead makes them anew.
//!
//! **Data flow.** The evaluator follows the shard's own feed: events, and rows that say that an identifier has another home
//! (apply writes these for it). An event changes the state of its facet, and only segments that it can touch are answered
//! anew, for the profile of the facet's home. What has changed goes into the log by a command that says up to which
//! stamp the feed is in it; the command is taken only if the one before it ended where its leader thinks. One is under way at
//! a time; the feed is followed meanwhile. A proposal whose outcome isn't known makes the evaluator begin anew from what the
//! log says.
//!
//! **Time is the log's.** Segments are answered at the stamps of commands, never at a clock's time: so what is answered is
//! a function of the log. If a profile's wake is due and nothing happens, the leader proposes an empty command, whose
//! stamp then is the time; what is due at it follows in commands of at most 1,000 profiles.
//!
//! **What it promises.**
//! 1. At a stamp that was worked out, a profile is in a segment exactly if a full evaluation of the events up to that
//!    stamp, of the facets whose home it is at that stamp, by that time, says so. An answer names its stamp, and works out
//!    what is due up to it first.
//! 2. Every transition is a change of the feed once, whatever leaders come and go, with the change that brought it about,
//!    as long as the feed reaches back to where the last leader was. Where it doesn't, what has changed by then is told
//!    without its cause.
//! 3. New definitions are gathered beside the old ones, which answer until then. They take over in all shards at one stamp,
//!    when they are ready in all: nobody who was answered by the new ones is answered by the old ones later. They begin with
//!    a copy of what the old ones know: only what those don't ask is gathered, and only what they don't define is answered.
//! 4. Answers of several shards are of one stamp, above all that was acknowledged before: each profile is judged by what all
//!    shards knew then. An evaluator that is held for that stays where it is until it has answered, for as long as a lease
//!    says: until then the feed of segments waits.
//!
//! **What fails how.** A replica that leads no more drops all it has. Storage that fails makes the evaluator begin anew,
//! after a pause. A document that this version can't compile is told in the log, and the definitions before it stay in
//! force. A queue of questions that is full refuses the next one.
//!
//! **What it leaves out.** States are kept in memory without a bound of their own. Transitions on the feed are of each shard's
//! own progress: where a customer's identifiers lie in several shards, they are told when the news has come. A leader that
//! comes during an edit knows the newest definitions alone, so questions wait until those are worked out. Since when somebody
//! is in a segment is the stamp at which the log was told.

pub mod answer;
pub mod definitions;
pub mod engine;
pub mod evaluator;
pub mod exchange;
pub mod gather;
mod gauges;
pub mod hosted;
mod shelf;

pub use definitions::{Definitions, InForce};
pub use engine::{Cause, Engine};
pub use gauges::Gauges;
pub use hosted::{Hosted, Segments};
