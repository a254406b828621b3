//! Which fields of a profile a caller wants.

use prost_types::FieldMask;

use crate::grpc::status::Refusal;

/// All fields of `isthmus.v1.Profile`.
pub const NAMES: [&str; 13] = [
    "profile_id",
    "identifiers",
    "traits",
    "event_counts",
    "revenue",
    "revenue_by_currency",
    "first_seen",
    "last_seen",
    "sources",
    "version",
    "type_counts",
    "rules_version",
    SEGMENTS,
];

/// What is filled only where it is named.
const SEGMENTS: &str = "segments";

/// A set of the fields of `isthmus.v1.Profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields(u16);

impl Fields {
    /// The fields that a mask names; all without one.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `INVALID_FIELD_MASK` for a path that is no field of a profile.
    pub(super) fn of(mask: Option<&FieldMask>) -> Result<Self, Refusal> {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() {
            return Ok(Self(!bit(SEGMENTS).unwrap_or_default()));
        }
        paths.iter().try_fold(0, |set, path| Some(set | bit(path)?)).map(Self).ok_or_else(|| {
            let what = format!("each path is a field of Profile: {}", NAMES.join(", "));
            Refusal::field("INVALID_FIELD_MASK", "fields", what)
        })
    }

    /// Whether segments are.
    pub(super) fn has_segments(self) -> bool {
        self.has(SEGMENTS)
    }

    /// Whether the field is wanted.
    pub(super) fn has(self, name: &str) -> bool {
        bit(name).is_some_and(|bit| self.0 & bit != 0)
    }
}

fn bit(name: &str) -> Option<u16> {
    NAMES.iter().position(|known| *known == name).map(|index| 1 << index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str]) -> Result<Fields, Refusal> {
        Fields::of(Some(&FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }))
    }

    #[test]
    fn a_mask_names_fields_and_none_names_all() {
        let some = of(&["traits", "revenue"]).unwrap();
        assert!(some.has("traits") && some.has("revenue") && !some.has("sources"));
        for all in [Fields::of(None).unwrap(), of(&[]).unwrap()] {
            assert!(NAMES.iter().all(|name| all.has(name) == (*name != SEGMENTS)));
            assert!(of(&["segments"]).unwrap().has(SEGMENTS));
        }
        assert!(of(&["traits.email"]).is_err() && of(&["nothing"]).is_err());
    }
}
