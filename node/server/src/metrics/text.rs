//! Families as text: that of OpenMetrics, or the older one of Prometheus.
//!
//! `prometheus-client` writes OpenMetrics. What Prometheus' own format has otherwise is the name of counters in their
//! descriptions, and no end mark; tools that read from a pipe (`promtool check metrics`) know only that one.

use std::fmt::{Error, Write as _};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

use super::family::{Family, Kind, Value};

/// What all names begin with.
const PREFIX: &str = "isthmus";

/// A format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, for who asks for it.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, for all others.
    Prometheus,
}

impl Format {
    /// The format that an `Accept` header asks for.
    pub fn asked(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// The content type that says which one it is.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes families.
///
/// # Errors
/// The formatter's, which a string has none of.
pub fn write(families: Vec<Family>, format: Format) -> Result<String, Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Collected(families)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    match format {
        Format::OpenMetrics => Ok(text),
        Format::Prometheus => prometheus(&text),
    }
}

#[derive(Debug)]
struct Collected(Vec<Family>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        for Family { name, help, kind, samples } in &self.0 {
            let kind = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in samples {
                match labels.is_empty() {
                    true => sample(&mut metric, kind, value)?,
                    false => sample(&mut metric.encode_family(labels)?, kind, value)?,
                }
            }
        }
        Ok(())
    }
}

fn sample(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: &Value) -> Result<(), Error> {
    match (kind, value) {
        (MetricType::Counter, Value::Whole(number)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(number, None)
        }
        (_, Value::Whole(number)) => encoder.encode_gauge(number),
        (_, Value::Fraction(number)) => encoder.encode_gauge(number),
        (_, Value::Histogram(view, scale)) => {
            let scaled = |value: u64| value as f64 / scale;
            let bounds = view.bounds.iter().map(|bound| scaled(*bound)).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(view.counts.iter().copied()).collect();
            let count = view.counts.iter().sum();
            encoder.encode_histogram::<NoLabelSet>(scaled(view.sum), count, &buckets, None)
        }
    }
}

/// Rewrites OpenMetrics' text into that of Prometheus.
fn prometheus(text: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            continue;
        }
        let described = |line: &str, what: &str| {
            let (name, rest) = line.strip_prefix(what)?.split_once(' ')?;
            Some((name.to_owned(), rest.to_owned()))
        };
        // A description is followed by the type of the same metric.
        let of_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        if let Some((name, rest)) = described(line, "# HELP ")
            && lines.peek().is_some_and(|next| of_counter(next))
        {
            writeln!(out, "# HELP {name}_total {rest}")?;
        } else if let Some((name, rest)) = described(line, "# TYPE ").filter(|_| of_counter(line)) {
            writeln!(out, "# TYPE {name}_total {rest}")?;
        } else {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use isthmus_raft::Histogram;

    use super::*;

    fn families() -> Vec<Family> {
        let mut calls = Family::counter("calls", "Calls, by name");
        calls.push(vec![("name", "a\"b".to_owned())], 3);
        let histogram = Histogram::new(&[1_000, 2_000_000]);
        [500, 1_500_000, 9_000_000].into_iter().for_each(|value| histogram.observe(value));
        let mut times = Family::histogram("call_seconds", "Times");
        times.push_micros(Vec::new(), histogram.read());
        vec![calls, times, Family::gauge("age_seconds", "Age").of_seconds(0.5), Family::gauge("none", "None")]
    }

    #[test]
    fn counters_are_named_as_each_format_wants_it() {
        let open = write(families(), Format::OpenMetrics).unwrap();
        assert!(
            open.contains("# TYPE isthmus_calls counter\nisthmus_calls_total{name=\"a\\\"b\"} 3\n"),
            "{open}"
        );
        assert!(open.ends_with("# EOF\n"));
        let plain = write(families(), Format::Prometheus).unwrap();
        let expected = "# HELP isthmus_calls_total Calls, by name\n# TYPE isthmus_calls_total counter\n\
                        isthmus_calls_total{name=\"a\\\"b\"} 3\n\
                        # HELP isthmus_call_seconds Times\n# TYPE isthmus_call_seconds histogram\n\
                        isthmus_call_seconds_sum 10.5005\nisthmus_call_seconds_count 3\n\
                        isthmus_call_seconds_bucket{le=\"0.001\"} 1\n\
                        isthmus_call_seconds_bucket{le=\"2.0\"} 2\n\
                        isthmus_call_seconds_bucket{le=\"+Inf\"} 3\n\
                        # HELP isthmus_age_seconds Age\n# TYPE isthmus_age_seconds gauge\n\
                        isthmus_age_seconds 0.5\n\
                        # HELP isthmus_none None\n# TYPE isthmus_none gauge\n";
        assert_eq!(plain, expected);
    }

    #[test]
    fn open_metrics_are_for_who_asks_for_them() {
        let scraper = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::asked(scraper), Format::OpenMetrics);
        assert_eq!(Format::asked("*/*"), Format::Prometheus);
    }
}
