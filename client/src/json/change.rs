//! A change of a profile, as JSON.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Identifier, raw, text, time, type_name};
use crate::{Error, proto, proto::change::What};

/// A change of a profile.
#[derive(Debug, Serialize)]
pub struct Change<'a> {
    id: &'a str,
    at: Option<String>,
    version: &'a str,
    profile_id: &'a str,
    identifier: Option<Identifier<'a>>,
    #[serde(flatten)]
    what: Said<'a>,
    /// Of the last change of a part: where a watch goes on behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
enum Said<'a> {
    Event {
        r#type: &'static str,
        message_id: &'a str,
        source: &'a str,
        event: Option<&'a str>,
        timestamp: Option<String>,
        traits: &'a [String],
        properties: Box<RawValue>,
        context: Box<RawValue>,
    },
    Members {
        came: Vec<Identifier<'a>>,
        left: Vec<Identifier<'a>>,
        came_count: u32,
        left_count: u32,
    },
    Segment {
        segment: &'a str,
        segment_version: u64,
        before: &'static str,
        now: &'static str,
        cause: Option<&'a str>,
    },
    /// Of a kind that this version doesn't know.
    Other {},
}

impl<'a> Change<'a> {
    /// A change, with the cursor behind it where it ends a part.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] when its properties or context aren't JSON.
    pub fn new(change: &'a proto::Change, cursor: Option<&'a str>) -> Result<Self, Error> {
        let what = match &change.what {
            Some(What::Event(event)) => Said::Event {
                r#type: type_name(event.r#type()),
                message_id: &event.message_id,
                source: &event.source,
                event: text(&event.name),
                timestamp: time(event.timestamp.as_ref()),
                traits: &event.traits,
                properties: raw(&event.properties_json)?,
                context: raw(&event.context_json)?,
            },
            Some(What::Members(members)) => Said::Members {
                came: members.came.iter().map(Identifier::from).collect(),
                left: members.left.iter().map(Identifier::from).collect(),
                came_count: members.came_count,
                left_count: members.left_count,
            },
            Some(What::Segment(segment)) => Said::Segment {
                segment: &segment.name,
                segment_version: segment.segment_version,
                before: state(segment.before()),
                now: state(segment.now()),
                cause: text(&segment.cause),
            },
            None => Said::Other {},
        };
        Ok(Self {
            id: &change.id,
            at: time(change.at.as_ref()),
            version: &change.version,
            profile_id: &change.profile_id,
            identifier: change.identifier.as_ref().map(Identifier::from),
            what,
            cursor,
        })
    }
}

const fn state(state: proto::SegmentState) -> &'static str {
    match state {
        proto::SegmentState::Unspecified => "out",
        proto::SegmentState::In => "in",
        proto::SegmentState::Overflow => "overflow",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_is_and_the_last_one_where_to_go_on() {
        let event = proto::EventChange {
            r#type: proto::EventType::Identify.into(),
            message_id: "m".into(),
            source: "web".into(),
            traits: vec!["email".into()],
            properties_json: r#"{"email":null}"#.into(),
            ..Default::default()
        };
        let change = proto::Change { id: "00".into(), what: Some(What::Event(event)), ..Default::default() };
        assert_eq!(
            serde_json::to_string(&Change::new(&change, Some("c")).unwrap()).unwrap(),
            r#"{"id":"00","at":null,"version":"","profile_id":"","identifier":null,"change":"event","type":"identify","message_id":"m","source":"web","event":null,"timestamp":null,"traits":["email"],"properties":{"email":null},"context":{},"cursor":"c"}"#
        );
        let members = proto::MembersChange {
            came: vec![proto::Identifier { namespace: "user_id".into(), value: "1".into() }],
            came_count: 1,
            ..Default::default()
        };
        let change = proto::Change { what: Some(What::Members(members)), ..Default::default() };
        let line = serde_json::to_string(&Change::new(&change, None).unwrap()).unwrap();
        assert!(line.ends_with(
            r#""change":"members","came":[{"namespace":"user_id","value":"1"}],"left":[],"came_count":1,"left_count":0}"#
        ), "{line}");
    }
}
