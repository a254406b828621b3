//! tmp
use isthmus_client::files::*;
#[test]
fn speed() {
    let pad = "x".repeat(330);
    let mut text = Vec::new();
    for n in 0..200_000 {
        text.extend(format!("{{\"type\":\"track\",\"event\":\"Order Completed\",\"userId\":\"{n}\",\"timestamp\":\"2024-01-01T00:00:00Z\",\"properties\":{{\"revenue\":12.5,\"note\":\"{pad}\"}}}}\n").bytes());
    }
    let t = tokio::time::Instant::now();
    let mut rows = Rows::open(&text[..], Shape::JsonLines, "f", "f").unwrap();
    let mut n = 0;
    while rows.next_row().unwrap().is_some() {
        n += 1;
    }
    eprintln!("{} bytes, {n} rows in {:?}", text.len(), t.elapsed());
}
