//! Matching at work: profiles that share no identifier are compared across all shards, as they come and in full.
//!
//! [`isthmus_matching`] says how two records compare, and what is learned; this crate says who compares which, where
//! what was found is kept, and what follows from it.
//!
//! | part | does |
//! | --- | --- |
//! | [`record`] | a profile as the traits that are compared |
//! | [`model`] | the model in force: learned once, kept in a shard, loaded by every node |
//! | [`pass`] | learning: a sample of all profiles, a model, its parts |
//! | [`blocks`] | the blocks whose keys hash to a shard's slots: who meets there, scored |
//! | [`owner`] | a shard's own profiles: brought to where their blocks lie, again when they change |
//! | [`holders`] | how far all shards are, asked once for all owners of a node |
//! | [`link`] | the link fact of a pair that is taken for one person |
//! | [`hosted`] | a shard with its part in all this, as the router calls it |
//!
//! **Data flow.** A profile is *owned* by the shard of the slot of its id. That shard's leader places the profile's
//! traits under the model, which gives block keys; a key's top 14 bits are a slot, and the shard of that slot holds the
//! block. The owner brings the record to the holders of its blocks; each scores it against the members that it meets
//! there and answers with the pairs. Pairs are kept, replicated, in the shard of the smaller id.
//!
//! **What is kept, and what is not.** Pairs, decisions and models are replicated state. Blocks are not: they are in the
//! memory of whoever leads the shard, and whoever comes to lead begins with none and under a new *incarnation*. Owners
//! see that and bring their profiles again. So nothing has to be repaired: an owner's whole duty is that every holder,
//! in its present incarnation, has been brought every profile as it is. Bringing a profile twice changes nothing.
//!
//! **What it promises.** With a model in force, a pair at or above its threshold is listed when both profiles have been
//! compared, whatever nodes failed meanwhile; `MatchingStatus` says when that is so. A pair that was refused, by a decision
//! or by a split, is not proposed again, under whatever names its two profiles go by then. A pair that either side has
//! grown out of is dropped, unless it was decided about.
//!
//! A holder tells again that a pair is none any more until its owner has kept that, and drops what only earlier leaders
//! of an owner's shard have brought once a later one has brought everything.
//!
//! What one holder saw of a pair is numbered, so that the later counts, whichever owner brings it first.
//!
//! **What it leaves out.** If both sides of a pair change at one moment and it moves from one holder to another, it may
//! stay listed until the next full pass. All records in blocks are held in memory, about a
//! kilobyte for each shard that holds one, without a bound of its own. A full pass reads every profile, within one call.
//! A holder tells at most 250 pairs of one record.

pub mod blocks;
pub mod holders;
pub mod hosted;
pub mod link;
pub mod model;
pub mod owner;
pub mod pass;
pub mod record;

pub use holders::Holders;
pub use hosted::{Hosted, Matching};
pub use model::{InForce, Models};
pub use pass::{Learned, PassError, learn};
