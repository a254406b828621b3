//! Flight SQL's clients of others: ADBC's driver and pyarrow's, as they are published. `tests/sdks/install` installs them.

use isthmus_tests::{
    program,
    tools::{folder, skipped},
};

use crate::Hub;

pub async fn others_clients_connect_and_load_frames(hub: &Hub) {
    let python = folder().join("python/bin/python");
    let has = |module: &str| {
        let import = format!("import {module}");
        std::process::Command::new(&python)
            .args(["-c", &import])
            .output()
            .is_ok_and(|ended| ended.status.success())
    };
    for module in ["adbc_driver_flightsql", "pyarrow.flight", "pandas"] {
        if !python.exists() || !has(module) {
            skipped(module);
            return;
        }
    }
    hub.fill("Frame", 30).await;
    let script =
        std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sdks/flight.py").display().to_string();
    let address = hub.cluster.endpoints().split(',').next().unwrap().trim_start_matches("http://").to_owned();
    let ended = tokio::task::spawn_blocking(move || {
        program::run(&python.display().to_string(), &[&script, &address, "Frame"], &[])
    });
    let ended = ended.await.unwrap();
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert_eq!(ended.last()["rows"], 30, "{}", ended.out);
}
