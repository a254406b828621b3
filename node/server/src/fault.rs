//! What a call can fail with, whichever door it came in by.
//!
//! One trait says of any failure what a client is to be told: a canonical code, the stable reason that programs act on,
//! a sentence for people, and when to come back. `grpc::status` and `http::errors` put it into the words of their
//! protocol. No text holds anything that a customer or sender said.

use std::time::Duration;

use tonic::Code;

/// Something that a call can fail with.
pub trait Fault {
    /// The canonical code.
    fn code(&self) -> Code;
    /// The stable reason, in upper snake case.
    fn reason(&self) -> &str;
    /// For people: what is wrong and what to do.
    fn message(&self) -> String;
    /// For programs: what the reason is about, such as the shard.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// When to come back; `None` where coming back as it is can't help.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
    /// Fields of the request to be mended, with what is wrong with each.
    fn fields(&self) -> &[(&'static str, String)] {
        &[]
    }
}

/// A failure that a gateway itself finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    fields: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A failure with its reason.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, reason, message, metadata: Vec::new(), retry_after: None, fields: Vec::new() }
    }

    /// A field of the request is not what it should be.
    pub fn field(reason: &'static str, field: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        let mut refusal = Self::new(Code::InvalidArgument, reason, format!("{field}: {what}"));
        refusal.fields.push((field, what));
        refusal
    }

    /// Several things are wrong with a field; `message` tells them all.
    pub fn field_problems(
        code: Code,
        reason: &'static str,
        message: impl Into<String>,
        field: &'static str,
        problems: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut refusal = Self::new(code, reason, message);
        refusal.fields = problems.into_iter().map(|problem| (field, problem)).collect();
        refusal
    }

    /// Something that was asked for is not there.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Code::NotFound, "NOT_FOUND", what)
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says what it is about, for programs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }
}

impl Fault for Refusal {
    fn code(&self) -> Code {
        self.code
    }

    fn reason(&self) -> &str {
        self.reason
    }

    fn message(&self) -> String {
        self.message.clone()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        self.metadata.clone()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn fields(&self) -> &[(&'static str, String)] {
        &self.fields
    }
}

impl Fault for isthmus_router::Error {
    fn code(&self) -> Code {
        match self {
            Self::NoLeader { .. } | Self::Unavailable { .. } | Self::DiskFull { .. } | Self::Stopping => {
                Code::Unavailable
            }
            Self::StaleShardMap { .. } | Self::CursorTooOld => Code::FailedPrecondition,
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::OutcomeUnknown { .. } | Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::NoShard { .. } | Self::NoReplica { .. } => Code::NotFound,
            Self::Invalid { .. } | Self::Expression { .. } => Code::InvalidArgument,
            Self::BadReply { .. } => Code::Internal,
        }
    }

    fn reason(&self) -> &str {
        Self::reason(self)
    }

    fn message(&self) -> String {
        self.to_string()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        self.shard().map(|shard| ("shard", shard.to_string())).into_iter().collect()
    }

    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }
}

impl Fault for isthmus_coordinator::Error {
    fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => match code.as_str() {
                "ALREADY_EXISTS" => Code::AlreadyExists,
                "NOT_FOUND" => Code::NotFound,
                "INVALID_ARGUMENT" => Code::InvalidArgument,
                "STALE_VIEW" => Code::Aborted,
                "TOO_MANY" => Code::ResourceExhausted,
                _ => Code::FailedPrecondition,
            },
            Self::NoLeader(_) | Self::Stopped | Self::NotMetadataPeer => Code::Unavailable,
            Self::OutcomeUnknown => Code::DeadlineExceeded,
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::WrongCluster => Code::FailedPrecondition,
            _ => Code::Internal,
        }
    }

    fn reason(&self) -> &str {
        Self::reason(self)
    }

    fn message(&self) -> String {
        match self {
            Self::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::NoLeader(_) | Self::OutcomeUnknown => Some(Duration::from_millis(200)),
            _ => None,
        }
    }
}
