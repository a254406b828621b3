//! Definitions as clients send and get them.

use isthmus_proto::v1::{ComputedTrait, Segment};
use isthmus_segment::definition;

/// A segment, as it is shown.
pub(super) fn shown(segment: &definition::Segment) -> Segment {
    Segment {
        name: segment.name.clone(),
        expression: segment.expression.clone(),
        description: segment.description.clone(),
        version: segment.version,
    }
}

/// A computed trait, as it is shown.
pub(super) fn shown_trait(it: &definition::ComputedTrait) -> ComputedTrait {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ComputedTrait {
        name: it.name.clone(),
        aggregate: it.aggregate.clone(),
        of: text(&it.of),
        r#type: text(&it.of_type),
        events: it.events.clone(),
        event_type: text(&it.event_type),
        filter: text(&it.filter),
        window: text(&it.window),
        limit: it.limit.unwrap_or_default(),
        bound: it.bound.unwrap_or_default(),
        description: it.description.clone(),
    }
}

/// A computed trait, as it was sent.
pub(super) fn read_trait(it: ComputedTrait) -> definition::ComputedTrait {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let number = |number: u32| Some(number).filter(|number| *number > 0);
    definition::ComputedTrait {
        name: it.name,
        aggregate: it.aggregate,
        of: given(it.of),
        of_type: given(it.r#type),
        events: it.events,
        event_type: given(it.event_type),
        filter: given(it.filter),
        window: given(it.window),
        limit: number(it.limit),
        bound: number(it.bound),
        description: it.description,
    }
}
