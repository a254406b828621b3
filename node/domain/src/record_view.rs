//! An event record read in place.
//!
//! Replicas keep accepted events as they are encoded and look into them a few times: when they are applied, written
//! out, folded or shown. A [`RecordView`] does that without an allocation: its texts and blobs are slices of the
//! encoding. It takes the same bytes that [`EventRecord::from_bytes`] takes and says the same of them, but for one
//! thing that nobody writes: a record with a protobuf group in it is refused.
//!
//! Traits, links and notes are found by going over the encoding again; records that have none are not gone over.
//!
//! [`EventRecord::from_bytes`]: crate::EventRecord::from_bytes

use prost::DecodeError;

use crate::amount::Amount;
use crate::error::Error;
use crate::event::EventType;
use crate::facet::read_amount;
use crate::hash::FacetId;
use crate::identifier::{Identifier, IdentifierError};
use crate::link::{LinkFact, LinkKind};
use crate::wire::{Content, Fields, blob_bytes, field_bytes, number_bytes, put_blob, put_head, put_number};

/// Tags of [`EventRecord`](crate::EventRecord)'s repeated fields.
const TRAITS: u32 = 13;
const LINKS: u32 = 16;
const NOTES: u32 = 17;
/// The tag of its group.
const GROUP: u32 = 19;

/// An accepted event: the fields of [`EventRecord`](crate::EventRecord), borrowed. No `Debug`: it would show them.
#[derive(Clone)]
pub struct RecordView<'a> {
    /// The facet.
    pub facet: FacetId,
    /// The primary identifier's namespace.
    pub namespace: &'a str,
    /// The primary identifier's normalised value.
    pub value: &'a str,
    /// The message id.
    pub message_id: &'a str,
    /// The name of the source that sent it.
    pub source: &'a str,
    /// Which of the six types it is.
    pub kind: EventType,
    /// The event's, page's or screen's name; empty when there is none.
    pub name: &'a str,
    /// When it happened, microseconds since the epoch.
    pub timestamp: i64,
    /// What tells a repetition from another event under the same message id.
    pub body_hash: [u8; 16],
    /// Under what a repetition is recognised.
    pub dedup_key: [u8; 16],
    /// `properties.revenue`.
    pub revenue: Option<Amount>,
    /// The currency of `revenue`.
    pub currency: &'a str,
    /// Canonical JSON; empty when nothing was sent.
    pub properties: &'a [u8],
    /// Canonical JSON; empty when nothing is left.
    pub context: &'a [u8],
    /// `sentAt` as the client said it, microseconds since the epoch.
    pub sent_at: Option<i64>,
    /// The group that it names.
    pub group: Option<GroupView<'a>>,
    bytes: &'a [u8],
    traits: usize,
    links: usize,
    notes: usize,
}

/// A counterpart of the primary identifier: the fields of [`Link`](crate::record::Link), borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkView<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its normalised value.
    pub value: &'a str,
    /// What sort of link.
    pub kind: LinkKind,
    /// Its facet.
    pub facet: FacetId,
    kind_number: i32,
}

/// The group that an event names: the fields of [`GroupRef`](crate::record::GroupRef), borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GroupView<'a> {
    /// Its normalised name.
    pub value: &'a str,
    /// Where it lies.
    pub facet: FacetId,
}

impl<'a> RecordView<'a> {
    /// Reads and checks an encoded record.
    ///
    /// # Errors
    /// As [`EventRecord::from_bytes`](crate::EventRecord::from_bytes).
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let decode = || Error::decode("event record");
        let mut view = Self {
            facet: FacetId::default(),
            namespace: "",
            value: "",
            message_id: "",
            source: "",
            kind: EventType::Unspecified,
            name: "",
            timestamp: 0,
            body_hash: [0; 16],
            dedup_key: [0; 16],
            revenue: None,
            currency: "",
            properties: &[],
            context: &[],
            sent_at: None,
            group: None,
            bytes,
            traits: 0,
            links: 0,
            notes: 0,
        };
        let mut hashes: [&[u8]; 3] = [&[]; 3];
        let (mut kind, mut linked) = (0, true);
        let mut group: Option<(&str, &[u8])> = None;
        let mut fields = Fields::of(bytes);
        while let Some((tag, content)) = fields.next().map_err(decode())? {
            match tag {
                TRAITS => {
                    change(content).map_err(decode())?;
                    view.traits += 1;
                }
                LINKS => {
                    linked &= link(content).map_err(decode())?.is_some();
                    view.links += 1;
                }
                NOTES => {
                    content.text().map_err(decode())?;
                    view.notes += 1;
                }
                GROUP => {
                    let (value, facet) = group.get_or_insert(("", &[]));
                    group_field(content, value, facet).map_err(decode())?;
                }
                _ => view.take(tag, content, &mut hashes, &mut kind).map_err(decode())?,
            }
        }
        let bad = |why| Error::Invalid { what: "event record", why };
        let [facet, body_hash, dedup_key] = hashes.map(|hash| <[u8; 16]>::try_from(hash).ok());
        let (Some(facet), Some(body_hash), Some(dedup_key)) = (facet, body_hash, dedup_key) else {
            return Err(bad("a hash in it is not 16 bytes long"));
        };
        (view.facet, view.body_hash, view.dedup_key) = (FacetId::from_bytes(facet), body_hash, dedup_key);
        if !linked {
            return Err(bad("a counterpart's facet is not 16 bytes long"));
        }
        if let Some((value, facet)) = group {
            let facet = FacetId::from_slice(facet).ok_or(bad("a group's facet is not 16 bytes long"))?;
            view.group = Some(GroupView { value, facet });
        }
        view.kind = EventType::try_from(kind).unwrap_or(EventType::Unspecified);
        if view.kind == EventType::Unspecified {
            return Err(bad("its type is unknown"));
        }
        if view.namespace.is_empty() || view.value.is_empty() || view.message_id.is_empty() {
            return Err(bad("it has no identifier or message id"));
        }
        if view.timestamp < 0 {
            return Err(bad("its time is before 1970"));
        }
        if [view.properties, view.context].iter().any(|json| std::str::from_utf8(json).is_err()) {
            return Err(bad("its properties or its context are no text"));
        }
        Ok(view)
    }

    /// An event of which a row keeps only what was sent, for whoever needs nothing that follows from its properties: no
    /// revenue, no changes of traits, no links. Its identifier and the hash of what was said are gone, as in
    /// [`EventRecord::restored`](crate::EventRecord::restored).
    pub fn of_row(facet: FacetId, kind: EventType, timestamp: i64, dedup_key: [u8; 16]) -> Self {
        Self {
            facet,
            namespace: "-",
            value: "-",
            message_id: "",
            source: "",
            kind,
            name: "",
            timestamp,
            body_hash: [0; 16],
            dedup_key,
            revenue: None,
            currency: "",
            properties: &[],
            context: &[],
            sent_at: None,
            group: None,
            bytes: &[],
            traits: 0,
            links: 0,
            notes: 0,
        }
    }

    /// Takes a field that is not repeated; of several with one tag the last counts.
    fn take(
        &mut self,
        tag: u32,
        content: Content<'a>,
        hashes: &mut [&'a [u8]; 3],
        kind: &mut i32,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => hashes[0] = content.bytes()?,
            2 => self.namespace = content.text()?,
            3 => self.value = content.text()?,
            4 => self.message_id = content.text()?,
            5 => self.source = content.text()?,
            6 => *kind = content.int32()?,
            7 => self.name = content.text()?,
            8 => self.timestamp = content.signed()?,
            9 => hashes[1] = content.bytes()?,
            10 => hashes[2] = content.bytes()?,
            11 => read_amount(self.revenue.get_or_insert_default(), content)?,
            12 => self.currency = content.text()?,
            14 => self.properties = content.bytes()?,
            15 => self.context = content.bytes()?,
            18 => self.sent_at = Some(content.signed()?),
            _ => {}
        }
        Ok(())
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What it says about traits: names, and canonical JSON or nothing for a removal.
    pub fn traits(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.repeated(TRAITS, self.traits).filter_map(|content| change(content).ok())
    }

    /// How many counterparts it has.
    pub fn links_len(&self) -> usize {
        self.links
    }

    /// The other identifiers on the event.
    pub fn links(&self) -> impl Iterator<Item = LinkView<'a>> + use<'a> {
        self.repeated(LINKS, self.links).filter_map(|content| link(content).ok().flatten())
    }

    /// What was left out or filled in.
    pub fn notes(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.repeated(NOTES, self.notes).filter_map(|content| content.text().ok())
    }

    /// All of this was looked at when the view was made, so nothing is left out here.
    fn repeated(&self, tag: u32, count: usize) -> impl Iterator<Item = Content<'a>> + use<'a> {
        let mut fields = Fields::of(self.bytes);
        let next = move || {
            while let Ok(Some((found, content))) = fields.next() {
                if found == tag {
                    return Some(content);
                }
            }
            None
        };
        std::iter::from_fn(next).take(count)
    }

    /// The link facts of its star, in their order; none for most events.
    pub fn link_facts(&self) -> impl Iterator<Item = Result<LinkFact, IdentifierError>> + '_ {
        self.links().zip(0..).map(|(link, position)| {
            Ok(LinkFact {
                a: Identifier::from_stored(self.namespace, self.value)?,
                b: Identifier::from_stored(link.namespace, link.value)?,
                timestamp: self.timestamp,
                source: self.source.to_owned(),
                message_id: self.message_id.to_owned(),
                kind: link.kind,
                position,
            })
        })
    }

    /// Appends its links as a record that has nothing else; nothing when it has none.
    pub fn encode_links(&self, out: &mut Vec<u8>) {
        for link in self.links() {
            let kind = i64::from(link.kind_number).cast_unsigned();
            let facet = link.facet.as_bytes();
            let length = blob_bytes(1, link.namespace.as_bytes())
                + blob_bytes(2, link.value.as_bytes())
                + number_bytes(3, kind)
                + field_bytes(4, facet.len());
            put_head(LINKS, length, out);
            put_blob(1, link.namespace.as_bytes(), out);
            put_blob(2, link.value.as_bytes(), out);
            put_number(3, kind, out);
            put_blob(4, facet, out);
        }
    }
}

fn change(content: Content<'_>) -> Result<(&str, &[u8]), DecodeError> {
    let (mut name, mut value): (&str, &[u8]) = ("", &[]);
    let mut fields = Fields::of(content.bytes()?);
    while let Some((tag, content)) = fields.next()? {
        match tag {
            1 => name = content.text()?,
            2 => value = content.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// A group; of several with one tag protobuf takes them together, field by field.
fn group_field<'a>(
    content: Content<'a>,
    value: &mut &'a str,
    facet: &mut &'a [u8],
) -> Result<(), DecodeError> {
    let mut fields = Fields::of(content.bytes()?);
    while let Some((tag, content)) = fields.next()? {
        match tag {
            1 => *value = content.text()?,
            2 => *facet = content.bytes()?,
            _ => {}
        }
    }
    Ok(())
}

/// A link; `None` when its facet is not 16 bytes long.
fn link(content: Content<'_>) -> Result<Option<LinkView<'_>>, DecodeError> {
    let (mut namespace, mut value, mut kind_number, mut facet): (_, _, _, &[u8]) = ("", "", 0, &[]);
    let mut fields = Fields::of(content.bytes()?);
    while let Some((tag, content)) = fields.next()? {
        match tag {
            1 => namespace = content.text()?,
            2 => value = content.text()?,
            3 => kind_number = content.int32()?,
            4 => facet = content.bytes()?,
            _ => {}
        }
    }
    let kind = LinkKind::try_from(kind_number).unwrap_or(LinkKind::Plain);
    Ok(FacetId::from_slice(facet).map(|facet| LinkView { namespace, value, kind, facet, kind_number }))
}
