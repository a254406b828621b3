//! A metric with its samples, before it is written.

use isthmus_raft::HistogramView;

/// What sort of a metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by ranges of values.
    Histogram,
}

/// A sample's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// A fraction, such as of seconds.
    Fraction(f64),
    /// Counts by ranges; values are divided by the number beside it.
    Histogram(HistogramView, f64),
}

/// A label's name and value.
pub type Label = (&'static str, String);

/// A metric with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without the prefix, and without `_total`; with the unit.
    pub name: &'static str,
    /// One sentence, without its full stop.
    pub help: &'static str,
    /// What sort it is.
    pub kind: Kind,
    /// Its samples: different labels each.
    pub samples: Vec<(Vec<Label>, Value)>,
}

impl Family {
    /// A counter without samples yet.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, samples: Vec::new() }
    }

    /// A gauge without samples yet.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: Vec::new() }
    }

    /// A histogram without samples yet.
    pub fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram, samples: Vec::new() }
    }

    /// Adds a whole number.
    pub fn push(&mut self, labels: Vec<Label>, value: u64) {
        self.samples.push((labels, Value::Whole(value)));
    }

    /// Adds a histogram of microseconds, to be shown in seconds.
    pub fn push_micros(&mut self, labels: Vec<Label>, view: HistogramView) {
        self.samples.push((labels, Value::Histogram(view, 1e6)));
    }

    /// Adds a histogram as it is.
    pub fn push_counts(&mut self, labels: Vec<Label>, view: HistogramView) {
        self.samples.push((labels, Value::Histogram(view, 1.0)));
    }

    /// The same with one whole number and no labels.
    pub fn of(mut self, value: u64) -> Self {
        self.push(Vec::new(), value);
        self
    }

    /// The same with one number of seconds and no labels.
    pub fn of_seconds(mut self, seconds: f64) -> Self {
        self.samples.push((Vec::new(), Value::Fraction(seconds)));
        self
    }
}
