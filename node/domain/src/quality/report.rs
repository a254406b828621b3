//! The report: counts, and the shares that follow from them.

/// How good the data are. All lists are sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The sources.
    pub sources: Vec<SourceQuality>,
    /// By source and trait.
    pub traits: Vec<TraitQuality>,
    /// By trait, over all sources.
    pub overlaps: Vec<Overlap>,
    /// Whether groups were left out, because there are too many.
    pub cut: bool,
}

/// A source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceQuality {
    /// Its name.
    pub source: String,
    /// Customers that it identified.
    pub customers: u64,
    /// Events that did so.
    pub events: u64,
}

/// What a source says of a trait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraitQuality {
    /// The source.
    pub source: String,
    /// The trait.
    pub name: String,
    /// The source's customers.
    pub customers: u64,
    /// Those of them with a value.
    pub values: u64,
    /// Values of which something is known that they must be.
    pub checked: u64,
    /// Those of them that are so.
    pub valid: u64,
    /// Different values.
    pub distinct: u64,
    /// Whether that number is exact; else it is an estimate.
    pub distinct_exact: bool,
    /// Customers with a value from another source, too.
    pub shared: u64,
    /// Those of them where all sources say the same.
    pub agreeing: u64,
    /// Values that are up to date.
    pub updated: u64,
    /// Events that set the trait.
    pub events: u64,
    /// Of these events, the time from timestamp to receipt: p50, p95 and p99, in microseconds.
    pub lag_micros: [i64; 3],
}

/// A trait of which several sources speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// The trait.
    pub name: String,
    /// Customers with values from at least two sources.
    pub shared: u64,
    /// Those of them where all agree.
    pub agreeing: u64,
}

/// A share; `None` of nothing. An estimate may be above the whole: that is all of it.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64).min(1.0))
}

impl TraitQuality {
    /// The share of the source's customers with a value.
    pub fn completeness(&self) -> Option<f64> {
        share(self.values, self.customers)
    }

    /// The share of checked values that are valid.
    pub fn validity(&self) -> Option<f64> {
        share(self.valid, self.checked)
    }

    /// Different values over values.
    pub fn uniqueness(&self) -> Option<f64> {
        share(self.distinct, self.values)
    }

    /// The share of shared customers where all agree.
    pub fn consistency(&self) -> Option<f64> {
        share(self.agreeing, self.shared)
    }

    /// The share of values that are up to date.
    pub fn timeliness(&self) -> Option<f64> {
        share(self.updated, self.values)
    }
}

impl Overlap {
    /// The share of shared customers where all agree.
    pub fn consistency(&self) -> Option<f64> {
        share(self.agreeing, self.shared)
    }
}
