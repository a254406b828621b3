//! What the fold says about a fact, under codes that never change their meaning.

use crate::identifier::Namespace;

/// What the fold did with a fact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// It was followed and made two components one.
    Joined,
    /// It was followed, and the two were one already.
    Confirmed,
    /// It was not followed.
    Refused(Refusal),
}

/// Why a fact was not followed. Where several reasons hold, the first in this order is given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// A retraction suppresses it.
    Retracted {
        /// The retraction's id; of several that match, that of the one given first.
        by: String,
    },
    /// Both ends are the same identifier.
    SelfLink,
    /// One end's value stands for nobody.
    Blocked,
    /// Its source is not trusted to link these two.
    SourceNotTrusted,
    /// One end stands beside too many customers to be anybody's own.
    Shared,
    /// Together the two would have more identifiers of this namespace than a profile may have.
    Limit {
        /// Which namespace; of several, the one that sorts first by name.
        namespace: Namespace,
    },
}

impl Verdict {
    /// Whether the fold followed the fact.
    pub fn is_followed(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// The stable code: `JOINED`, `CONFIRMED`, or that of the [`Refusal`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Joined => "JOINED",
            Self::Confirmed => "CONFIRMED",
            Self::Refused(refusal) => refusal.code(),
        }
    }
}

impl Refusal {
    /// The stable code: `RETRACTED`, `SELF_LINK`, `BLOCKED_VALUE`, `SOURCE_NOT_TRUSTED`, `SHARED_IDENTIFIER`,
    /// `OVER_LIMIT`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Retracted { .. } => "RETRACTED",
            Self::SelfLink => "SELF_LINK",
            Self::Blocked => "BLOCKED_VALUE",
            Self::SourceNotTrusted => "SOURCE_NOT_TRUSTED",
            Self::Shared => "SHARED_IDENTIFIER",
            Self::Limit { .. } => "OVER_LIMIT",
        }
    }
}
