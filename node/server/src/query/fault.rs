//! What the engine's errors are to a client.

use std::time::Duration;

use isthmus_query::QueryError;
use tonic::Code;

use crate::fault::Fault;

impl Fault for QueryError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::InvalidArgument,
            Self::Limit { .. } | Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Cancelled => Code::Cancelled,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Internal(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &str {
        Self::reason(self)
    }

    fn message(&self) -> String {
        self.to_string()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Invalid { line, column, .. } => {
                let place = [("line", line), ("column", column)];
                place.into_iter().filter_map(|(key, at)| Some((key, (*at)?.to_string()))).collect()
            }
            Self::Limit { what, .. } => vec![("limit", what.name().to_owned())],
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::Unavailable(_) => Some(Duration::from_millis(200)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_query::Limit;

    use super::*;

    #[test]
    fn the_place_and_the_limit_are_for_programs() {
        let wrong = QueryError::Invalid { message: "no column x".into(), line: Some(2), column: Some(8) };
        assert_eq!((wrong.code(), Fault::reason(&wrong)), (Code::InvalidArgument, "BAD_QUERY"));
        assert_eq!(wrong.metadata(), [("line", "2".to_owned()), ("column", "8".to_owned())]);
        let limit = QueryError::Limit { what: Limit::Memory, detail: "5 bytes".into() };
        assert_eq!((limit.code(), Fault::reason(&limit)), (Code::ResourceExhausted, "QUERY_LIMIT"));
        assert_eq!(limit.metadata(), [("limit", "memory".to_owned())]);
        // Whoever comes back with the same meets the same.
        assert_eq!(limit.retry_after(), None);
        let busy = QueryError::Overloaded { retry_after: Duration::from_secs(1) };
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(1)));
    }
}
