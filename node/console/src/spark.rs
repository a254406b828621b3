//! Small charts drawn here, as SVG: for whoever reads without JavaScript, and in tables.

use maud::{Markup, html};

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 28.0;

/// A line through values, oldest first. Decoration: the numbers stand beside it.
pub(crate) fn spark(values: &[u64]) -> Markup {
    let largest = values.iter().copied().max().unwrap_or(0);
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) height=(HEIGHT)
            preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            @if largest > 0 {
                path.area d=(format!("M0 {HEIGHT}L{}L{WIDTH} {HEIGHT}Z", points(values, largest, WIDTH, HEIGHT))) {}
                path.line d=(format!("M{}", points(values, largest, WIDTH, HEIGHT))) {}
            } @else {
                path.line.flat d=(format!("M0 {y}L{WIDTH} {y}", y = HEIGHT - 1.0)) {}
            }
        }
    }
}

/// Several lines over each other, for the place of a large chart.
pub(crate) fn lines(series: &[&[f64]]) -> Markup {
    const WIDE: f64 = 900.0;
    const HIGH: f64 = 260.0;
    let largest = series.iter().flat_map(|values| values.iter().copied()).fold(0.0, f64::max);
    let scale = if largest > 0.0 { largest } else { 1.0 };
    html! {
        svg.lines viewBox=(format!("0 0 {WIDE} {HIGH}")) preserveAspectRatio="none" aria-hidden="true"
            focusable="false" {
            @for (index, values) in series.iter().enumerate() {
                // Nothing yet is a line, too: at the bottom.
                @if !values.is_empty() {
                    path class=(format!("c{}", index + 1)) d=(format!("M{}", path(values, scale, WIDE, HIGH))) {}
                }
            }
        }
    }
}

fn points(values: &[u64], largest: u64, width: f64, height: f64) -> String {
    let values: Vec<f64> = values.iter().map(|value| *value as f64).collect();
    path(&values, largest as f64, width, height)
}

fn path(values: &[f64], largest: f64, width: f64, height: f64) -> String {
    let last = values.len().saturating_sub(1).max(1) as f64;
    let point = |(index, value): (usize, &f64)| {
        let x = index as f64 / last * width;
        let y = height - 1.0 - value / largest * (height - 2.0);
        format!("{x:.1} {y:.1}")
    };
    values.iter().enumerate().map(point).collect::<Vec<_>>().join("L")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_edge_to_edge() {
        assert_eq!(points(&[0, 10, 5], 10, 120.0, 28.0), "0.0 27.0L60.0 1.0L120.0 14.0");
        assert!(spark(&[0, 10]).into_string().contains("M0.0 27.0L120.0 1.0"));
    }

    #[test]
    fn silence_is_flat() {
        for values in [&[][..], &[0, 0]] {
            assert!(spark(values).into_string().contains("line flat"));
        }
        assert!(!lines(&[&[]]).into_string().contains("path"));
        assert!(lines(&[&[0.0, 0.0]]).into_string().contains("M0.0 259.0L900.0 259.0"));
    }
}
