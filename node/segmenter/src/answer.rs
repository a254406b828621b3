//! Answers from an engine.

use std::collections::BTreeSet;

use bytes::Bytes;
use isthmus_domain::{FacetId, SlotRanges};
use isthmus_proto::internal::v1::{ComputedValue, SegmentMembersAsk, SegmentProfile, SegmentReply};
use isthmus_segment::{Algebra, Fault, Held, Membership, Scalar, Sets};

use crate::Engine;

/// Members of a page, and profiles that are asked for at once.
const PAGE_MAX: usize = 1_000;

/// What every answer says.
pub fn head(engine: &Engine, owned: &SlotRanges) -> SegmentReply {
    SegmentReply {
        stamp: engine.at().0,
        document_version: engine.version(),
        owned_bounds: owned.to_bounds(),
        profiles: engine.all().len(),
        ..SegmentReply::default()
    }
}

fn algebra(engine: &Engine, expression: &str) -> Result<Algebra, Fault> {
    let segments = engine.plan().definitions().iter().filter(|definition| definition.is_segment);
    Algebra::parse(expression, segments.map(|definition| definition.name.as_str()))
}

fn sets<'e>(engine: &'e Engine, name: &str) -> Option<Sets<'e>> {
    Some(Sets { members: engine.set(name)?, unknown: engine.overflowing(name)? })
}

/// How many profiles are in a set, and of how many that can't be said.
///
/// # Errors
/// What is wrong with the expression.
pub fn count(engine: &Engine, expression: &str, reply: &mut SegmentReply) -> Result<(), Fault> {
    let algebra = algebra(engine, expression)?;
    (reply.count, reply.overflows) = algebra.count(&|name| sets(engine, name), engine.all());
    Ok(())
}

/// Who is in a set.
///
/// # Errors
/// What is wrong with the expression.
pub fn members(engine: &Engine, ask: &SegmentMembersAsk, reply: &mut SegmentReply) -> Result<(), Fault> {
    let algebra = algebra(engine, &ask.expression)?;
    let set = algebra.members(&|name| sets(engine, name), engine.all());
    let limit = (ask.limit as usize).clamp(1, PAGE_MAX);
    let after = FacetId::from_slice(&ask.after);
    let mut found =
        engine.profiles_after(after).filter(|(_, number)| set.contains(*number)).map(|(home, _)| home);
    reply.homes = found.by_ref().take(limit).map(bytes).collect();
    reply.more = found.next().is_some();
    Ok(())
}

/// What is known of profiles.
pub fn profiles(engine: &Engine, homes: &[Bytes], reply: &mut SegmentReply) {
    let homes = homes.iter().take(PAGE_MAX);
    reply.known = homes
        .map(|home| FacetId::from_slice(home).map_or_else(Default::default, |home| profile(engine, home)))
        .collect();
}

fn profile(engine: &Engine, home: FacetId) -> SegmentProfile {
    let Some(answers) = engine.answers(&home) else { return SegmentProfile::default() };
    let mut known = SegmentProfile { present: true, ..SegmentProfile::default() };
    for answer in answers {
        let Some(definition) = engine.plan().definitions().get(answer.definition) else { continue };
        let name = definition.name.clone();
        if definition.is_segment {
            match answer.held.membership() {
                Membership::In => known.segments.push(name),
                Membership::Overflow => known.overflows.push(name),
                Membership::Out => {}
            }
        } else if answer.held != Held::Null {
            known.computed.push(ComputedValue { name, json: json(&answer.held) });
        }
    }
    known.segments.sort();
    known.overflows.sort();
    known.computed.sort_by(|a, b| a.name.cmp(&b.name));
    known
}

/// A value as JSON; empty where a bound was passed. Numbers are texts, so that no reader rounds them.
fn json(held: &Held<'_>) -> String {
    fn scalar(scalar: &Scalar<'_>) -> String {
        let mut json = Vec::new();
        scalar.write_json(&mut json);
        String::from_utf8_lossy(&json).into_owned()
    }
    match held {
        Held::Null => "null".to_owned(),
        Held::Overflow => String::new(),
        Held::Is(value) => scalar(value),
        Held::List(items) => format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(",")),
    }
}

/// How many and who are in a segment of an engine that was made for this.
pub fn preview(engine: &Engine, segment: &str, limit: usize, reply: &mut SegmentReply) {
    reply.profiles = engine.all().len();
    reply.count = engine.set(segment).map_or(0, roaring::RoaringBitmap::len);
    reply.overflows = engine.overflowing(segment).map_or(0, roaring::RoaringBitmap::len);
    reply.homes = homes(engine, segment).into_iter().take(limit).map(bytes).collect();
}

/// The profiles of a segment.
pub fn homes(engine: &Engine, segment: &str) -> BTreeSet<FacetId> {
    let set = engine.set(segment).into_iter().flatten();
    set.filter_map(|number| engine.home_of_number(number)).collect()
}

fn bytes(home: FacetId) -> Bytes {
    Bytes::copy_from_slice(home.as_bytes())
}
