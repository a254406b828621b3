//! SQL over three engines.
