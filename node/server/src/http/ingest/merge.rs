//! What a batch says at the top for all of its events.

use isthmus_domain::{Map, Value};

/// Fields that go into each event of a batch, under what it says itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared {
    /// `context`.
    pub context: Option<Map>,
    /// `integrations`.
    pub integrations: Option<Map>,
    /// `sentAt` that is no time.
    pub sent_at: Option<Value>,
}

impl Shared {
    /// Whether nothing goes into the events.
    pub fn is_empty(&self) -> bool {
        let empty = |map: &Option<Map>| map.as_ref().is_none_or(Map::is_empty);
        empty(&self.context) && empty(&self.integrations) && self.sent_at.is_none()
    }

    /// Puts it into an event. What the event says stands, in objects key by key; null counts as said in an object, and
    /// as absent where the whole field is null.
    pub fn put_into(&self, event: &mut Map) {
        for (field, shared) in [("context", &self.context), ("integrations", &self.integrations)] {
            let Some(shared) = shared else { continue };
            match event.get_or_insert_with(field, || Value::Null) {
                Value::Map(own) => fill(own, shared),
                slot @ Value::Null => *slot = Value::Map(shared.clone()),
                // Not what the spec says: the event is kept and told so.
                _ => {}
            }
        }
        if let Some(sent_at) = &self.sent_at
            && !event.contains_key("sent_at")
        {
            event.get_or_insert_with("sentAt", || sent_at.clone());
        }
    }
}

/// Adds what is not there yet. Both were read by our parser, so their depth is bounded.
fn fill(own: &mut Map, shared: &Map) {
    for (key, value) in shared {
        match (own.get_mut(key), value) {
            (Some(Value::Map(own)), Value::Map(shared)) => fill(own, shared),
            (Some(_), _) => {}
            (None, value) => {
                own.insert(key.clone(), value.clone());
            }
        }
    }
}
