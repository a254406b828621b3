//! Which identifiers an event carries, which of them is its primary, and how the others are linked to it.
//!
//! They come, in this order, from `userId`, `anonymousId`, `previousId` (of an `alias`: once as a `user_id`, once as
//! an `anonymous_id`, since the sender may mean either), `context.externalIds[]`, and the e-mail address and phone
//! number in `traits` and `context.traits`. The `traits` of a `group` event describe the group, so they don't count.
//!
//! Null, blank and blocked ones are left out and noted; too long ones and those with forbidden characters refuse the
//! event, since leaving them out would file it under someone else.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::item::{Item, id_text};
use super::{AcceptContext, EventType, Reason, Refused};
use crate::hash::FacetId;
use crate::identifier::{Identifier, IdentifierError, Namespace};
use crate::link::LinkKind;
use crate::record::Link;
use crate::value::{Map, Value};

/// The item's own id fields and what they are.
pub(crate) const ID_FIELDS: [(&str, Namespace); 2] =
    [("userId", Namespace::USER_ID), ("anonymousId", Namespace::ANONYMOUS_ID)];

/// Whether an identifier of this namespace can only have come from the item's own field: neither an external id nor
/// an alias's `previousId` names its kind. Such a field is not kept beside the identifier, and can be put back.
pub(crate) fn comes_from_id_field(kind: EventType, context: Option<&Map>, namespace: &Namespace) -> bool {
    let entries = ["externalIds", "external_ids"].into_iter().filter_map(|name| context?.get(name));
    let mut entries =
        entries.filter_map(|ids| if let Value::List(ids) = ids { Some(ids) } else { None }).flatten();
    let names_it = |entry: &Value| {
        let part = |field| entry.as_map()?.get(field)?.as_str().map(str::trim);
        part("type").is_some_and(|kind| external_namespace(kind, part("encoding")).as_ref() == Ok(namespace))
    };
    kind != EventType::Alias && !entries.any(names_it)
}

fn external_namespace(kind: &str, encoding: Option<&str>) -> Result<Namespace, IdentifierError> {
    match encoding.filter(|e| !matches!(*e, "" | "none")) {
        None => Namespace::parse(kind),
        Some(encoding) => Namespace::parse(&format!("{kind}_{encoding}")),
    }
}

/// The identifiers of an event.
pub(super) struct Star {
    pub(super) primary: Identifier,
    /// Sorted by priority, then value; without the primary.
    pub(super) links: Vec<Link>,
    /// Which of `userId` and `anonymousId` need not be kept a second time: their text is the value of the only
    /// identifier of its namespace, and [`comes_from_id_field`] finds that out again.
    pub(super) elided: Vec<&'static str>,
}

struct Found<'a> {
    ctx: &'a AcceptContext<'a>,
    notes: &'a mut Vec<String>,
    /// In the order of finding; true for those of an alias's `previousId`.
    all: Vec<(Identifier, bool)>,
    /// Id fields whose text is the identifier's value.
    as_sent: Vec<&'static str>,
    blank: usize,
    placeholders: usize,
}

pub(super) fn of_item(
    item: &Item,
    kind: EventType,
    ctx: &AcceptContext<'_>,
    notes: &mut Vec<String>,
) -> Result<Star, Refused> {
    let mut found =
        Found { ctx, notes, all: Vec::with_capacity(4), as_sent: Vec::new(), blank: 0, placeholders: 0 };
    found.field(item, "userId", Namespace::USER_ID)?;
    found.field(item, "anonymousId", Namespace::ANONYMOUS_ID)?;
    if kind == EventType::Alias {
        let before = found.all.len();
        let previous = item.get("previousId").unwrap_or(&Value::Null);
        found.value(previous, "previousId", Namespace::USER_ID, true)?;
        if found.all.len() == before {
            let what = "previousId is missing, blank or a placeholder: an alias event needs it";
            return Err(Refused::new(Reason::FieldMissing, "previousId", what));
        }
        found.value(previous, "previousId", Namespace::ANONYMOUS_ID, true)?;
    }
    let context = item.object("context");
    if let Some(context) = context {
        found.external_ids(context)?;
    }
    if kind != EventType::Group
        && let Some(traits) = item.object("traits")
    {
        found.traits(traits, "traits")?;
    }
    if let Some(traits) = context.and_then(|c| c.get("traits")).and_then(Value::as_map) {
        found.traits(traits, "context.traits")?;
    }
    found.star(kind, context)
}

impl Found<'_> {
    /// One of the item's own id fields, whose text may turn out to be the identifier's value.
    fn field(&mut self, item: &Item, field: &'static str, namespace: Namespace) -> Result<(), Refused> {
        let Some(value) = item.get(field) else { return Ok(()) };
        let before = self.all.len();
        self.value(value, field, namespace, false)?;
        if self.all.len() > before && value.as_str() == Some(self.all[before].0.value()) {
            self.as_sent.push(field);
        }
        Ok(())
    }

    fn value(
        &mut self,
        value: &Value,
        path: &str,
        namespace: Namespace,
        of_alias: bool,
    ) -> Result<(), Refused> {
        if value.is_null() {
            self.note("IDENTIFIER_NULL", path);
            return Ok(());
        }
        let text = id_text(value).ok_or_else(|| Refused::wrong_type(path, "a string", value))?;
        match Identifier::normalise_unless(namespace, &text, self.ctx.blocked) {
            Ok(identifier) => {
                if !self.all.iter().any(|(known, alias)| *known == identifier && *alias == of_alias) {
                    self.all.push((identifier, of_alias));
                }
                if self.all.len() > self.ctx.limits.identifiers_max {
                    let what =
                        format!("more than {} identifiers on one event", self.ctx.limits.identifiers_max);
                    return Err(Refused::new(Reason::TooManyIdentifiers, path, what));
                }
                Ok(())
            }
            Err(IdentifierError::Blank) => {
                self.blank += 1;
                self.note("IDENTIFIER_BLANK", path);
                Ok(())
            }
            Err(IdentifierError::Blocked) => {
                self.placeholders += 1;
                self.note("IDENTIFIER_BLOCKED", path);
                Ok(())
            }
            Err(error) => Err(Refused::identifier(path, error)),
        }
    }

    fn note(&mut self, code: &str, path: &str) {
        let note = format!("{code} {path}");
        // An alias's `previousId` is looked at twice.
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// `{id, type, collection, encoding}`. A collection other than `users` is not about a person. An encoded value
    /// (a hashed e-mail address) is another kind of name than the plain one: `email_sha256`.
    fn external_ids(&mut self, context: &Map) -> Result<(), Refused> {
        let (name, ids) = match (context.get("externalIds"), context.get("external_ids")) {
            (Some(_), Some(_)) => {
                let what = "externalIds and external_ids are one field: send one of them";
                return Err(Refused::new(Reason::DuplicateKey, "context.externalIds", what));
            }
            (Some(ids), None) => ("externalIds", ids),
            (None, Some(ids)) => ("external_ids", ids),
            (None, None) => return Ok(()),
        };
        let ids = match ids {
            Value::Null => return Ok(()),
            Value::List(ids) => ids,
            other => return Err(Refused::wrong_type(&format!("context.{name}"), "an array", other)),
        };
        for (i, entry) in ids.iter().enumerate() {
            let path = format!("context.{name}[{i}]");
            let Some(entry) = entry.as_map() else {
                return Err(Refused::wrong_type(&path, "an object with id and type", entry));
            };
            let part = |field: &str| match entry.get(field) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.trim())),
                Some(other) => Err(Refused::wrong_type(&format!("{path}.{field}"), "a string", other)),
            };
            if part("collection")?.is_some_and(|c| !matches!(c, "" | "users" | "user")) {
                self.note("EXTERNAL_ID_NOT_OF_A_PERSON", &path);
                continue;
            }
            let type_path = format!("{path}.type");
            let Some(kind) = part("type")? else {
                let what = format!("{type_path} is missing: it says what kind of id this is");
                return Err(Refused::new(Reason::FieldMissing, type_path, what));
            };
            let namespace = external_namespace(kind, part("encoding")?);
            let namespace = namespace.map_err(|e| Refused::identifier(&type_path, e))?;
            self.value(entry.get("id").unwrap_or(&Value::Null), &format!("{path}.id"), namespace, false)?;
        }
        Ok(())
    }

    /// A trait need not be a text; where it is not, it is no identifier, but still a trait.
    fn traits(&mut self, traits: &Map, path: &str) -> Result<(), Refused> {
        for (name, namespace) in [("email", Namespace::EMAIL), ("phone", Namespace::PHONE)] {
            let Some(value) = traits.get(name) else { continue };
            let path = format!("{path}.{name}");
            // Null removes the trait; it is not a missing identifier, so there is nothing to note.
            if value.is_null() {
                continue;
            }
            if id_text(value).is_none() {
                self.note("IDENTIFIER_NOT_TEXT", &path);
                continue;
            }
            self.value(value, &path, namespace, false)?;
        }
        Ok(())
    }

    fn star(self, kind: EventType, context: Option<&Map>) -> Result<Star, Refused> {
        let order = &self.ctx.source.primary_order;
        // The first of the best: for an alias, `userId` comes before `previousId`.
        let best = self.all.iter().min_by(|(a, _), (b, _)| rank(order, a).cmp(&rank(order, b)));
        let Some((primary, primary_of_alias)) = best.cloned() else {
            return Err(self.none());
        };
        // One link for each counterpart; what an alias says goes further than what stood beside it.
        let mut links: BTreeMap<&Identifier, LinkKind> = BTreeMap::new();
        for (identifier, of_alias) in self.all.iter().filter(|(i, _)| *i != primary) {
            let kind = if *of_alias || primary_of_alias { LinkKind::Alias } else { LinkKind::Plain };
            let known = links.entry(identifier).or_insert(kind);
            *known = kind.max(*known);
        }
        let link = |(identifier, kind): (&Identifier, LinkKind)| Link {
            namespace: identifier.namespace().to_string(),
            value: identifier.value().to_owned(),
            kind: kind.into(),
            facet: Bytes::copy_from_slice(FacetId::of(self.ctx.key, identifier).as_bytes()),
        };
        let links = links.into_iter().map(link).collect();
        let elided = ID_FIELDS.into_iter().filter(|(field, namespace)| {
            self.as_sent.contains(field)
                && self.all.iter().filter(|(i, _)| i.namespace() == namespace).count() == 1
                && comes_from_id_field(kind, context, namespace)
        });
        let elided = elided.map(|(field, _)| field).collect();
        Ok(Star { primary, links, elided })
    }

    fn none(&self) -> Refused {
        if self.blank > 0 && self.placeholders == 0 {
            let what = "every identifier is blank: send userId, anonymousId or an external id";
            return Refused::new(Reason::IdentifierBlank, "userId", what);
        }
        let what = if self.placeholders > 0 {
            "only placeholders such as null or 0 were sent as identifiers: send a real one"
        } else {
            "no identifier: send userId, anonymousId or an external id"
        };
        Refused::new(Reason::NoIdentifier, "", what)
    }
}

/// Where a namespace stands in a source's order: those listed, then others by name, then `anonymous_id`.
fn rank<'a>(order: &[Namespace], identifier: &'a Identifier) -> (usize, &'a str) {
    let namespace = identifier.namespace();
    match order.iter().position(|n| n == namespace) {
        Some(place) => (place, ""),
        None if *namespace == Namespace::ANONYMOUS_ID => (usize::MAX, ""),
        None => (order.len(), namespace.as_str()),
    }
}
