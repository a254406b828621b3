//! The hub's stable reasons, typed.

/// Makes the enum and both ways between it and the names from one table, so that they can't come apart.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why the hub refused a call, or what it says of an event ([`Reason::of`] its `reason`): the stable reasons that
        /// callers act on. What isn't listed is [`Reason::Other`], with the hub's word.
        ///
        /// ```
        /// use isthmus_client::Reason;
        ///
        /// assert_eq!(Reason::of("WRITE_KEY_INVALID"), Reason::WriteKeyInvalid);
        /// assert_eq!(Reason::of("NEW_IN_TWO_YEARS").as_str(), "NEW_IN_TWO_YEARS");
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
            /// Any other reason, by its stable name.
            Other(String),
            /// The answer carried no reason.
            Unsaid,
        }

        impl Reason {
            /// The reason of a stable name such as `NO_LEADER`.
            pub fn of(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)+
                    "" => Self::Unsaid,
                    other => Self::Other(other.to_owned()),
                }
            }

            /// Its stable name; empty for [`Reason::Unsaid`].
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other(name) => name,
                    Self::Unsaid => "",
                }
            }
        }
    };
}

reasons! {
    /// The node that answered doesn't lead the shard: `leader` in the metadata does. Retried by this client.
    NotLeader = "NOT_LEADER",
    /// A shard, or the group that keeps the cluster's metadata, has no leader now. Retried by this client.
    NoLeader = "NO_LEADER",
    /// A shard can't be reached, or the node is stopping. Retried by this client, at another node.
    Unavailable = "UNAVAILABLE",
    /// The node's shard map was old. Retried by this client.
    StaleShardMap = "STALE_SHARD_MAP",
    /// A limit on rate or queues was reached. Retried by this client when the hub said so.
    Overloaded = "OVERLOADED",
    /// The disk of a node that leads a shard is nearly full: make room, or add a node. Retried by this client.
    DiskFull = "DISK_FULL",
    /// The hub itself doesn't know by the deadline. Retried by this client where that is safe.
    OutcomeUnknown = "OUTCOME_UNKNOWN",
    /// The hub had no answer by the deadline.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// The nodes that would remain could not hold the data.
    QuorumAtRisk = "QUORUM_AT_RISK",
    /// There is no such thing.
    NotFound = "NOT_FOUND",
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS",
    /// The person was erased.
    Erased = "ERASED",
    /// The write key is unknown, was rotated away, or belongs to a source that is disabled.
    WriteKeyInvalid = "WRITE_KEY_INVALID",
    /// There is no source of this name.
    SourceNotFound = "SOURCE_NOT_FOUND",
    /// The source is disabled.
    SourceDisabled = "SOURCE_DISABLED",
    /// The write key belongs to another source than the one that was named.
    SourceMismatch = "SOURCE_MISMATCH",
    /// The request can't be read.
    Malformed = "MALFORMED",
    /// The request, or an event in a stream, is too large.
    TooLarge = "TOO_LARGE",
    /// The batch has too many events.
    BatchTooMany = "BATCH_TOO_MANY",
    /// The node has as many ingest streams as it may. Retried by this client.
    TooManyStreams = "TOO_MANY_STREAMS",
    /// The node has as many watches as it may. Retried by this client.
    TooManyWatchers = "TOO_MANY_WATCHERS",
    /// A newer ingest stream was opened under the same id.
    StreamSuperseded = "STREAM_SUPERSEDED",
    /// The cursor of a page or a watch isn't one.
    InvalidCursor = "INVALID_CURSOR",
    /// A watch's cursor is older than what is kept: list all profiles, and go on from a new one.
    CursorTooOld = "CURSOR_TOO_OLD",
    /// A watch's cursor is ahead of the cluster, which was restored or has lost data.
    CursorAhead = "CURSOR_AHEAD",
    /// A version token isn't one.
    InvalidVersion = "INVALID_VERSION",
    /// An identifier makes no sense, of whatever call.
    InvalidIdentifier = "INVALID_IDENTIFIER",
    /// Someone changed the thing since it was read: read it again.
    StaleView = "STALE_VIEW",
    /// A statement in SQL can't be understood: `line` and `column` of the metadata say where.
    BadQuery = "BAD_QUERY",
    /// A segment, a computed trait or an expression over segments can't be taken: `line` and `column` of the metadata say where,
    /// if that is a place in an expression; the field says in which.
    InvalidSegment = "INVALID_SEGMENT",
    /// A query needs more than a query may have: `limit` of the metadata says of what.
    QueryLimit = "QUERY_LIMIT",
    /// An event breaks its schema: see the message.
    SchemaViolation = "SCHEMA_VIOLATION",
    /// An event has no identifier.
    NoIdentifier = "NO_IDENTIFIER",
    /// An event's message id was used before for one that says something else.
    MessageIdConflict = "MESSAGE_ID_CONFLICT",
    /// There is no such call in the node's version.
    UnknownMethod = "UNKNOWN_METHOD",
    /// A defect of the hub: look for the request's id in the nodes' logs.
    Internal = "INTERNAL",
}

impl Reason {
    /// `REASON: `, or nothing.
    pub(crate) fn as_prefix(&self) -> String {
        if *self == Self::Unsaid { String::new() } else { format!("{}: ", self.as_str()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_names() {
        for name in [
            "NOT_LEADER",
            "NO_LEADER",
            "STALE_SHARD_MAP",
            "OVERLOADED",
            "OUTCOME_UNKNOWN",
            "QUORUM_AT_RISK",
            "TOO_LARGE",
        ] {
            let reason = Reason::of(name);
            assert!(!matches!(reason, Reason::Other(_)), "{name}");
            assert_eq!(reason.as_str(), name);
        }
        assert_eq!(Reason::of("UP_TO_NOW_UNKNOWN"), Reason::Other("UP_TO_NOW_UNKNOWN".into()));
        assert_eq!((Reason::of(""), Reason::Unsaid.as_str()), (Reason::Unsaid, ""));
    }
}
