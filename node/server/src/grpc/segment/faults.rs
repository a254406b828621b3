//! What is wrong with a definition or an expression, in the words of the request that sent it.
//!
//! Where the fault is at a place of a text that was sent, its line and column are in the metadata, and the field names the
//! text.

use isthmus_segment::{Document, Fault};
use tonic::{Code, Status};

use crate::grpc::status::{Refusal, status};

/// Faults that a refusal tells of.
const TOLD_MAX: usize = 5;
/// The fields of definitions that faults may be in. The last part is what a fault calls it.
const SEGMENT: [&str; 2] = ["segment.name", "segment.expression"];
const COMPUTED_TRAIT: [&str; 10] = [
    "computed_trait.name",
    "computed_trait.aggregate",
    "computed_trait.of",
    "computed_trait.type",
    "computed_trait.events",
    "computed_trait.event_type",
    "computed_trait.filter",
    "computed_trait.window",
    "computed_trait.limit",
    "computed_trait.bound",
];

/// A field is not what it should be.
pub(super) fn invalid(field: &'static str, what: impl Into<String>) -> Refusal {
    Refusal::field("INVALID_SEGMENT", field, what.into())
}

/// What a shard says of an expression is about the request.
pub(super) fn asked(error: &isthmus_router::Error, field: &'static str) -> Status {
    match error {
        isthmus_router::Error::Invalid { message } => invalid(field, message.clone()).into(),
        isthmus_router::Error::Expression { message, line, column } => {
            invalid(field, message.clone()).with("line", line).with("column", column).into()
        }
        other => status(other),
    }
}

/// What of a document was sent, by its name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent<'s> {
    Segment(&'s str),
    ComputedTrait(&'s str),
    /// The expression of a segment that nobody named.
    Preview(&'s str),
    /// The name of a definition that is to go.
    Name,
}

impl Sent<'_> {
    /// The expression of the segment that was sent.
    pub(super) fn expression(self, document: &Document) -> Option<&str> {
        let (Self::Segment(name) | Self::Preview(name)) = self else { return None };
        document.segments.iter().find(|it| it.name == name).map(|it| it.expression.as_str())
    }

    fn field(self) -> &'static str {
        match self {
            Self::Segment(_) => "segment",
            Self::ComputedTrait(_) => "computed_trait",
            Self::Preview(_) => "expression",
            Self::Name => "name",
        }
    }

    /// The field that a fault is in; `None`: it is in nothing that was sent.
    pub(super) fn field_of(self, fault: &Fault) -> Option<&'static str> {
        let (of, name, fields) = match self {
            Self::Segment(name) => ("segment", name, &SEGMENT[..]),
            Self::ComputedTrait(name) => ("computed trait", name, &COMPUTED_TRAIT[..]),
            Self::Preview(name) => ("segment", name, &["expression"][..]),
            Self::Name => return None,
        };
        let part = fault.at.strip_prefix(of)?.strip_prefix(' ')?.strip_prefix(name)?.strip_prefix(": ")?;
        fields.iter().copied().find(|field| field.rsplit('.').next() == Some(part))
    }

    /// The refusal of what was sent, with the first place of its own.
    pub(super) fn refused(self, faults: &[Fault]) -> Refusal {
        let told: Vec<String> = faults.iter().take(TOLD_MAX).map(ToString::to_string).collect();
        let own = faults.iter().find_map(|fault| Some((self.field_of(fault)?, fault)));
        let Some((field, fault)) = own else { return invalid(self.field(), told.join("; ")) };
        let what = Fault { at: String::new(), ..fault.clone() }.to_string();
        let refusal = match self {
            Self::Preview(_) => invalid(field, what),
            _ => {
                let code = Code::InvalidArgument;
                Refusal::field_problems(code, "INVALID_SEGMENT", told.join("; "), field, [what])
            }
        };
        match fault.place {
            Some(place) => refusal.with("line", place.line).with("column", place.column),
            None => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_segment::{Plan, definition::Segment};

    use super::*;
    use crate::fault::Fault as _;

    fn document(segments: &[(&str, &str)]) -> Document {
        let segment = |(name, expression): &(&str, &str)| Segment {
            name: (*name).to_owned(),
            expression: (*expression).to_owned(),
            ..Segment::default()
        };
        Document { segments: segments.iter().map(segment).collect(), ..Document::default() }
    }

    fn refused(sent: Sent<'_>, segments: &[(&str, &str)]) -> Refusal {
        let known = isthmus_segmenter::definitions::known("USD");
        sent.refused(&Plan::compile(&document(segments), &known).unwrap_err())
    }

    fn place(line: u32, column: u32) -> Vec<(&'static str, String)> {
        vec![("line", line.to_string()), ("column", column.to_string())]
    }

    #[test]
    fn a_fault_in_what_was_sent_names_its_field_and_its_place_once() {
        let one = refused(Sent::Segment("bad"), &[("bad", "plan = 'pro' AND\n vip >")]);
        assert!(one.message().starts_with("segment bad: expression, line 2, column "), "{}", one.message());
        assert_eq!(one.fields()[0].0, "segment.expression");
        assert!(one.fields()[0].1.starts_with("line 2, column "), "{:?}", one.fields());
        assert_eq!((one.metadata().len(), &one.metadata()[0]), (2, &("line", "2".to_owned())));
        let named = refused(Sent::Segment("and"), &[("and", "vip")]);
        assert_eq!((named.fields()[0].0, named.metadata()), ("segment.name", vec![]));
        let preview = refused(Sent::Preview("p"), &[("p", "segment('nobody')")]);
        assert!(preview.message().starts_with("expression: line 1, column "), "{}", preview.message());
        assert_eq!(preview.metadata().len(), 2);
    }

    #[test]
    fn a_fault_in_another_definition_has_no_place_in_what_was_sent() {
        let other = refused(Sent::Segment("a"), &[("a", "vip"), ("b", "segment('c')")]);
        assert!(other.message().starts_with("segment: segment b: expression, line 1"), "{}", other.message());
        assert_eq!((other.fields()[0].0, other.metadata()), ("segment", vec![]));
        // A name that another one begins with is another one.
        let longer = refused(Sent::Segment("b"), &[("b", "vip"), ("bb", "segment('c')")]);
        assert_eq!(longer.metadata(), vec![]);
    }

    #[test]
    fn a_shards_fault_in_an_expression_keeps_its_place() {
        use tonic_types::StatusExt as _;
        let fault = isthmus_router::Error::Expression { message: "there".into(), line: 2, column: 8 };
        let status = asked(&fault, "expression");
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!((info.reason.as_str(), status.message()), ("INVALID_SEGMENT", "expression: there"));
        let mut metadata: Vec<_> = info.metadata.into_iter().collect();
        metadata.sort();
        let mut wanted = place(2, 8);
        wanted.sort();
        assert_eq!(metadata, wanted.into_iter().map(|(key, at)| (key.to_owned(), at)).collect::<Vec<_>>());
    }
}
