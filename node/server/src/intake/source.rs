//! Which source a batch is from.
//!
//! A write key names it: in the request, or in the call's headers as `authorization: Bearer KEY`, `authorization: Basic
//! base64(KEY:)` (what Segment's clients send) or `x-write-key: KEY`. Without a key it is the source that the request
//! names, else the built-in `default`.

use isthmus_coordinator::{DEFAULT_SOURCE, Source, View};
use isthmus_domain::SourceView;
use tonic::Code;

use crate::fault::Refusal;

/// The longest write key that is looked at.
const KEY_BYTES_MAX: usize = 256;

/// The source of a batch with this key, which names this source or none (empty), as accepting needs it. The view has to
/// be one that can be believed about the key.
///
/// # Errors
/// UNAUTHENTICATED `WRITE_KEY_INVALID`; NOT_FOUND; FAILED_PRECONDITION `SOURCE_DISABLED`; INVALID_ARGUMENT when key and
/// name don't agree; UNAVAILABLE while the node knows no cluster.
pub fn of(view: &View, key: Option<&str>, name: &str) -> Result<SourceView, Refusal> {
    let source = match key {
        Some(key) => {
            let source = of_key(view, key).filter(|source| !source.disabled).ok_or_else(|| {
                let message = "the write key is unknown, was rotated away, or its source is disabled";
                Refusal::new(Code::Unauthenticated, "WRITE_KEY_INVALID", message)
            })?;
            if !name.is_empty() && name != source.name {
                let what = "the write key belongs to another source: leave source out, or name that one";
                return Err(Refusal::field("SOURCE_MISMATCH", "source", what));
            }
            source
        }
        None => named(view, name)?,
    };
    Ok(viewed(source))
}

/// The source that a key belongs to, disabled or not.
pub fn of_key<'a>(view: &'a View, key: &str) -> Option<&'a Source> {
    view.source_by_key(key).filter(|_| key.len() <= KEY_BYTES_MAX).map(|source| &**source)
}

fn named<'a>(view: &'a View, name: &str) -> Result<&'a Source, Refusal> {
    let wanted = if name.is_empty() { DEFAULT_SOURCE } else { name };
    let source = view.sources.get(wanted).ok_or_else(|| {
        if view.version == 0 {
            return Refusal::new(Code::Unavailable, "NO_LEADER", "this node doesn't know its cluster yet")
                .retry_after(std::time::Duration::from_millis(100));
        }
        Refusal::new(Code::NotFound, "SOURCE_NOT_FOUND", "there is no such source: create it first")
    })?;
    if source.disabled {
        return Err(Refusal::new(Code::FailedPrecondition, "SOURCE_DISABLED", "the source is disabled"));
    }
    Ok(source)
}

/// A source as accepting needs it.
pub fn viewed(source: &Source) -> SourceView {
    let mut view = SourceView::new(source.name.as_str());
    if !source.primary_order.is_empty() {
        view.primary_order.clone_from(&source.primary_order);
    }
    view.default_currency.clone_from(&source.default_currency);
    view
}

/// The write key that a call's headers hold, if any: of gRPC's metadata or of HTTP. `get` gives a header's bytes by its
/// name in lower case.
///
/// # Errors
/// UNAUTHENTICATED `WRITE_KEY_INVALID` when it can't be read.
pub fn key_of_headers<'a>(get: impl Fn(&'static str) -> Option<&'a [u8]>) -> Result<Option<String>, Refusal> {
    let unreadable = || {
        let message =
            "the authorization header can't be read: send `Bearer KEY`, or `Basic` with base64 of `KEY:`";
        Refusal::new(Code::Unauthenticated, "WRITE_KEY_INVALID", message)
    };
    let text = |value: &'a [u8]| {
        let plain = value.iter().all(|b| matches!(b, b'\t' | b' '..=b'~'));
        std::str::from_utf8(value).ok().filter(|_| plain).ok_or_else(unreadable)
    };
    if let Some(value) = get("x-write-key") {
        return Ok(Some(text(value)?.to_owned()));
    }
    let Some(value) = get("authorization") else { return Ok(None) };
    let (scheme, rest) = text(value)?.split_once(' ').ok_or_else(unreadable)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > 2 * KEY_BYTES_MAX {
        return Err(unreadable());
    }
    let pair = base64(rest).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)?;
    let key = pair.split_once(':').map_or(pair.as_str(), |(key, _)| key);
    Ok(Some(key.to_owned()))
}

/// Decodes standard base64 (RFC 4648, section 4); padding may be missing.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let bare = text.trim_end_matches('=');
    if text.len() - bare.len() > 2 || bare.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(bare.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for b in bare.bytes() {
        bits = bits << 6 | u32::from(digit(b)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use isthmus_proto::internal::v1::{ClusterView, SourceRecord};

    use super::*;

    fn view() -> View {
        let source = |name: &str, key: &str, disabled| SourceRecord {
            name: name.to_owned(),
            key_hashes: if key.is_empty() {
                Vec::new()
            } else {
                vec![isthmus_coordinator::KeyHash::of(key).to_bytes()]
            },
            disabled,
            default_currency: "EUR".to_owned(),
            primary_order: vec!["crm_id".to_owned()],
            ..SourceRecord::default()
        };
        let wire = ClusterView {
            version: 1,
            cluster_id: vec![1; 16].into(),
            shard_map: isthmus_domain::ShardMap::even(1)
                .map(|mut map| {
                    map.shards[0].replicas =
                        vec![isthmus_domain::ReplicaId::new(isthmus_domain::NodeId(1), 1)];
                    map.encode().into()
                })
                .unwrap(),
            sources: vec![
                source("default", "", false),
                source("shop", "k1", false),
                source("old", "k2", true),
            ],
            ..ClusterView::default()
        };
        View::from_wire(wire).unwrap()
    }

    fn asked(
        given: &str,
        source: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<String, &'static str> {
        use crate::fault::Fault as _;
        let header =
            |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_bytes());
        let key = match given {
            "" => key_of_headers(header),
            key => Ok(Some(key.to_owned())),
        };
        let found = key.and_then(|key| of(&view(), key.as_deref(), source));
        found.map(|source| source.name).map_err(|refusal| match refusal.reason() {
            "WRITE_KEY_INVALID" => "key",
            "SOURCE_MISMATCH" => "mismatch",
            "SOURCE_NOT_FOUND" => "none",
            "SOURCE_DISABLED" => "disabled",
            _ => "other",
        })
    }

    #[test]
    fn a_source_is_found_by_key_wherever_it_stands_and_else_by_name() {
        assert_eq!(asked("", "", &[]), Ok("default".into()));
        assert_eq!(asked("", "shop", &[]), Ok("shop".into()));
        assert_eq!(asked("k1", "", &[]), Ok("shop".into()));
        assert_eq!(asked("k1", "shop", &[]), Ok("shop".into()));
        assert_eq!(asked("", "", &[("x-write-key", "k1")]), Ok("shop".into()));
        assert_eq!(asked("", "", &[("authorization", "Bearer k1")]), Ok("shop".into()));
        assert_eq!(asked("", "", &[("authorization", "Basic azE6")]), Ok("shop".into()));
    }

    #[test]
    fn what_names_no_source_in_force_is_refused() {
        assert_eq!(asked("k9", "", &[]), Err("key"));
        assert_eq!(asked("k2", "", &[]), Err("key"), "disabled");
        assert_eq!(asked("k1", "default", &[]), Err("mismatch"));
        assert_eq!(asked("", "nobody", &[]), Err("none"));
        assert_eq!(asked("", "old", &[]), Err("disabled"));
        for header in ["Basic !!", "Digest k1", "Bearer", "Basic"] {
            assert_eq!(asked("", "", &[("authorization", header)]), Err("key"), "{header}");
        }
    }

    #[test]
    fn base64_is_decoded_with_and_without_padding() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zg", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmE", "fooba")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for bad in ["Z", "Zg===", "Z*==", "Zm9vY"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
