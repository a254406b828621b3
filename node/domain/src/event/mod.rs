//! Accepting an event: from what a client sent to the record that is replicated, or to a reason why not.
//!
//! [`accept`] is one pure function for all ways in. JSON and the typed values of protobuf become the same
//! [`Value`] first, so an event means the same whichever way it came; then, in this order:
//!
//! 1. *shape*: the fields of the Segment spec, in camelCase or snake_case, with the types that they must have;
//! 2. *message id*: the sender's, or one from the generator that is passed in;
//! 3. *time*: the client's, its clock skew corrected where both `sentAt` and `originalTimestamp` were sent;
//! 4. *identifiers*: normalised, the null, blank and blocked ones left out and noted; the primary chosen by the
//!    source's order; the rest linked to it as a star;
//! 5. *revenue* as an exact decimal, *traits* as changes;
//! 6. the *body hash* over the canonical event, which tells a repetition from another event under the same id.
//!
//! The first rule that is broken refuses the event. A refusal is an answer, not an error: it has a stable
//! [`Reason::code`], the field, and a sentence for people that says what to do and quotes no value.
//!
//! What is not here: schemas ([`Reason::SchemaViolation`] is for those who check them), deduplication (it needs
//! state), merging a batch's top-level `context` into its items, and anything that depends on a region.
//!
//! Source: the Segment spec, <https://segment.com/docs/connections/spec/common/>.

mod body;
mod identifiers;
mod item;
mod reason;
mod time;
mod traits;

use bytes::Bytes;

pub(crate) use identifiers::{ID_FIELDS, comes_from_id_field};
pub use reason::{Reason, Refused};
pub use time::time_of;
pub use traits::RESERVED_TRAITS;
pub(crate) use traits::of_stored as trait_changes;

use crate::amount::Amount;
use crate::group::GroupId;
use crate::hash::{FacetId, IdentityKey, hash128};
use crate::identifier::{BlockedValues, IdentifierError, Namespace, is_forbidden};
use crate::record::{EventRecord, GroupRef};
use crate::value::{Map, Value};
use item::Item;

/// The types of the Segment spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum EventType {
    /// Never stored.
    Unspecified = 0,
    /// Says who someone is: sets and removes traits.
    Identify = 1,
    /// Something happened; it has a name.
    Track = 2,
    /// A web page was seen.
    Page = 3,
    /// A screen of an app was seen.
    Screen = 4,
    /// Someone belongs to a group.
    Group = 5,
    /// One id replaces another.
    Alias = 6,
}

impl EventType {
    /// The name in the Segment spec.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
        }
    }

    /// The type with this name, which is written in lower case.
    pub fn parse(name: &str) -> Option<Self> {
        const ALL: [EventType; 6] = [
            EventType::Track,
            EventType::Identify,
            EventType::Page,
            EventType::Screen,
            EventType::Group,
            EventType::Alias,
        ];
        ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What accepting needs to know about the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// Which namespaces make the primary identifier, first choice first; fixed when the source is created. Those
    /// not listed follow by name, `anonymous_id` last.
    pub primary_order: Vec<Namespace>,
    /// The currency of revenue that comes without one: three upper-case letters.
    pub default_currency: String,
}

impl SourceView {
    /// A source with the default order (`user_id`, `email`, `phone`) and currency (`USD`).
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            primary_order: vec![Namespace::USER_ID, Namespace::EMAIL, Namespace::PHONE],
            default_currency: "USD".to_owned(),
        }
    }
}

/// Bounds on one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The largest event: bytes as sent for JSON, bytes of canonical JSON for typed values.
    pub event_bytes_max: usize,
    /// The longest message id, in characters.
    pub message_id_chars_max: usize,
    /// How far ahead of the server's clock an event may be, in microseconds.
    pub future_micros_max: i64,
    /// How many distinct identifiers an event may carry.
    pub identifiers_max: usize,
}

impl Default for Limits {
    /// 32 KiB, 100 characters, 24 hours, 100 identifiers.
    fn default() -> Self {
        Self {
            event_bytes_max: 32 * 1024,
            message_id_chars_max: 100,
            future_micros_max: 24 * 60 * 60 * 1_000_000,
            identifiers_max: 100,
        }
    }
}

/// All that accepting depends on besides the item.
pub struct AcceptContext<'a> {
    /// Who sends.
    pub source: &'a SourceView,
    /// The cluster's key.
    pub key: &'a IdentityKey,
    /// When the item was received, microseconds since the epoch.
    pub now_micros: i64,
    /// `sentAt` of the batch, microseconds since the epoch; an item's own comes first.
    pub sent_at: Option<i64>,
    /// Bounds.
    pub limits: Limits,
    /// Identifiers to leave out besides the built-in ones.
    pub blocked: &'a BlockedValues,
    /// Makes a message id for an item that has none: unique, 1 to 100 printable characters.
    pub make_message_id: &'a dyn Fn() -> String,
}

/// An item as it came in.
#[derive(Clone)]
pub enum RawItem<'a> {
    /// JSON text of one event.
    Json(&'a [u8]),
    /// The same object as typed values.
    Typed(Map),
}

/// An event that can be proposed at its slot.
#[derive(Clone, PartialEq, Debug)]
pub struct Accepted {
    /// What is replicated and stored.
    pub record: EventRecord,
    /// The facet that it belongs to, whose slot says where it is proposed.
    pub facet: FacetId,
}

/// Standardises and checks one item. See the module for the rules and their order.
pub fn accept(raw: RawItem<'_>, ctx: &AcceptContext<'_>) -> Result<Accepted, Refused> {
    let mut item = Item::read(raw, &ctx.limits)?;
    let message_id = message_id(&item, &ctx.limits)?;
    let sent_id = message_id.clone();
    accept_item(&mut item, message_id, ctx).map_err(|refused| refused.with_message_id(sent_id))
}

fn accept_item(
    item: &mut Item,
    message_id: Option<String>,
    ctx: &AcceptContext<'_>,
) -> Result<Accepted, Refused> {
    let kind = item.kind()?;
    item.check_objects()?;
    let mut notes = std::mem::take(&mut item.notes);
    let message_id = message_id.unwrap_or_else(|| {
        notes.push("MESSAGE_ID_MADE messageId".to_owned());
        (ctx.make_message_id)()
    });
    let times = time::of_item(item, ctx, &mut notes)?;
    let name = name(item, kind)?;
    let group = group(item, kind, ctx.key, &mut notes)?;
    let star = identifiers::of_item(item, kind, ctx, &mut notes)?;
    let revenue = revenue(item, kind, &ctx.source.default_currency, &mut notes)?;
    let traits = match item.object("traits").filter(|_| kind == EventType::Identify) {
        Some(traits) => traits::changes(traits, &mut notes),
        None => Vec::new(),
    };
    let body = body::of_item(item, kind, &name, times.timestamp, &star);
    if body.bytes > ctx.limits.event_bytes_max {
        return Err(Refused::too_large(ctx.limits.event_bytes_max));
    }

    let primary = &star.primary;
    let facet = FacetId::of(ctx.key, primary);
    let dedup_key = hash128(
        ctx.key,
        &[
            primary.namespace().as_str().as_bytes(),
            primary.value().as_bytes(),
            ctx.source.name.as_bytes(),
            message_id.as_bytes(),
        ],
    );
    let (revenue, currency) = revenue.map_or((None, String::new()), |(r, c)| (Some(r), c));
    let record = EventRecord {
        facet: Bytes::copy_from_slice(facet.as_bytes()),
        namespace: primary.namespace().to_string(),
        value: primary.value().to_owned(),
        message_id,
        source: ctx.source.name.clone(),
        kind: kind.into(),
        name,
        timestamp: times.timestamp,
        body_hash: Bytes::copy_from_slice(&body.hash),
        dedup_key: Bytes::copy_from_slice(&dedup_key),
        revenue,
        currency,
        traits,
        properties: body.properties,
        context: body.context,
        links: star.links,
        notes,
        sent_at: times.sent_at,
        group,
    };
    Ok(Accepted { record, facet })
}

/// The sender's message id; `None` when it sent none, or a blank one.
fn message_id(item: &Item, limits: &Limits) -> Result<Option<String>, Refused> {
    const FIELD: &str = "messageId";
    let Some(text) = item.text(FIELD)?.filter(|t| !t.trim().is_empty()) else { return Ok(None) };
    if text.chars().count() > limits.message_id_chars_max {
        let what = format!("messageId is longer than {} characters", limits.message_id_chars_max);
        return Err(Refused::new(Reason::MessageIdTooLong, FIELD, what));
    }
    if text.chars().any(is_forbidden) {
        let what = "messageId holds a control or bidirectional formatting character: remove it";
        return Err(Refused::new(Reason::IdentifierForbiddenCharacter, FIELD, what));
    }
    Ok(Some(text.into_owned()))
}

/// The group that a `group` event names. A placeholder names none: SDKs send `undefined` where nobody has one, and what
/// the event says of its customer's visit is true all the same.
fn group(
    item: &Item,
    kind: EventType,
    key: &IdentityKey,
    notes: &mut Vec<String>,
) -> Result<Option<GroupRef>, Refused> {
    const FIELD: &str = "groupId";
    if kind != EventType::Group {
        return Ok(None);
    }
    let missing = || Refused::new(Reason::FieldMissing, FIELD, "groupId is missing: a group event needs it");
    let text = item.text(FIELD)?.ok_or_else(missing)?;
    match GroupId::normalise(&text) {
        Ok(group) => {
            let facet = group.facet(key);
            let value = group.value().to_owned();
            Ok(Some(GroupRef { value, facet: Bytes::copy_from_slice(facet.as_bytes()) }))
        }
        Err(IdentifierError::Blocked) => {
            notes.push(format!("GROUP_BLOCKED {FIELD}"));
            Ok(None)
        }
        Err(IdentifierError::Blank) => Err(missing()),
        Err(IdentifierError::TooLong) => {
            let what = "groupId is longer than 256 bytes";
            Err(Refused::new(Reason::IdentifierTooLong, FIELD, what))
        }
        Err(error) => {
            let what = format!("groupId can't name a group: {error}");
            Err(Refused::new(Reason::IdentifierForbiddenCharacter, FIELD, what))
        }
    }
}

/// The event's name: required of `track`, optional for pages and screens, trimmed.
fn name(item: &Item, kind: EventType) -> Result<String, Refused> {
    let field = match kind {
        EventType::Track => "event",
        EventType::Page | EventType::Screen => "name",
        _ => return Ok(String::new()),
    };
    let name = match item.get(field) {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text.trim(),
        Some(other) => return Err(Refused::wrong_type(field, "a string", other)),
    };
    if kind == EventType::Track && name.is_empty() {
        let what = "a track event needs a name: send it in the field event";
        return Err(Refused::new(Reason::EventNameMissing, field, what));
    }
    Ok(name.to_owned())
}

/// `properties.revenue` and its currency, if there is one.
fn revenue(
    item: &Item,
    kind: EventType,
    default_currency: &str,
    notes: &mut Vec<String>,
) -> Result<Option<(Amount, String)>, Refused> {
    const FIELD: &str = "properties.revenue";
    if matches!(kind, EventType::Identify | EventType::Group) {
        return Ok(None);
    }
    let Some(properties) = item.object("properties") else { return Ok(None) };
    let Some(value) = properties.get("revenue") else { return Ok(None) };
    let amount = Amount::of_value(value)
        .map_err(|e| Refused::new(Reason::InvalidRevenue, FIELD, format!("properties.revenue is {e}")))?;
    let Some(amount) = amount else {
        notes.push(format!("REVENUE_BLANK {FIELD}"));
        return Ok(None);
    };
    let currency = match properties.get("currency") {
        None | Some(Value::Null) => default_currency.to_owned(),
        Some(Value::String(text)) if text.trim().is_empty() => {
            notes.push("CURRENCY_BLANK properties.currency".to_owned());
            default_currency.to_owned()
        }
        Some(Value::String(text)) if is_currency(text.trim()) => text.trim().to_ascii_uppercase(),
        Some(_) => {
            let what = "properties.currency must be a code of three letters, such as EUR";
            return Err(Refused::new(Reason::InvalidCurrency, "properties.currency", what));
        }
    };
    Ok(Some((amount, currency)))
}

/// The revenue that the properties of an accepted event say, with its currency.
pub(crate) fn revenue_of_stored(
    kind: EventType,
    properties: &Map,
    default_currency: &str,
) -> Option<(Amount, String)> {
    if matches!(kind, EventType::Identify | EventType::Group) {
        return None;
    }
    let amount = Amount::of_value(properties.get("revenue")?).ok()??;
    let currency = match properties.get("currency") {
        Some(Value::String(text)) if is_currency(text.trim()) => text.trim().to_ascii_uppercase(),
        _ => default_currency.to_owned(),
    };
    Some((amount, currency))
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic())
}
