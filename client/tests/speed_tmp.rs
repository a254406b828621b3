//! tmp
mod common;
#[path = "common/run.rs"]
mod run;
#[test]
fn speed() {
    let pad = "x".repeat(330);
    let mut text = Vec::new();
    for n in 0..200_000 { text.extend(format!("{{\"type\":\"track\",\"event\":\"Order Completed\",\"userId\":\"{n}\",\"timestamp\":\"2024-01-01T00:00:00Z\",\"properties\":{{\"revenue\":12.5,\"note\":\"{pad}\"}}}}\n").bytes()); }
    let d = tempfile::tempdir().unwrap();
    let p = d.path().join("a.jsonl");
    std::fs::write(&p, text).unwrap();
    let fake = common::Fake::start();
    fake.script((0..400).map(|_| common::Step::Outcomes(vec![(isthmus_client::proto::ItemOutcome::Accepted, false); 500])));
    let mut c = run::command(&["ingest", p.to_str().unwrap(), "--endpoint", &fake.endpoint()]);
    let mut out = std::process::Command::new("bash"); out.args(["-c", "time \"$@\"", "x"]).arg(c.get_program()).args(c.get_args());
    let o = out.output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&o.stderr));
    let _ = &mut c;
}
