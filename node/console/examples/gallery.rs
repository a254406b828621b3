//! Writes all pages, of made-up data, with their files into a folder, to look at while changing them:
//! `cargo run -p isthmus-console --example gallery -- FOLDER`, and `python3 -m http.server -d FOLDER`.

#[path = "../tests/sample/mod.rs"]
mod sample;

use std::{fs, path::Path};

use isthmus_console::{assets, customer, customers, failure, ingest, overview, quarantine, sql};

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("say into which folder");
        return Ok(());
    };
    let folder = Path::new(&folder);
    let refused =
        failure::Failure { message: "shard 18 has no leader", reason: "NO_LEADER", status: 503, again: true };
    let shell = sample::shell;
    for (name, page) in [
        ("index.html", overview::page(&shell("/"), &sample::overview())),
        ("trouble.html", overview::page(&shell("/"), &sample::overview_in_trouble())),
        ("ingest.html", ingest::page(&shell("/ingest"), &sample::ingest())),
        ("silence.html", ingest::page(&shell("/ingest"), &ingest::Ingest::default())),
        ("customers.html", customers::listing(&shell("/customers"), &sample::customers())),
        ("nobody.html", customers::listing(&shell("/customers"), &customers::Listing::default())),
        ("customer.html", customer::page(&shell("/customers/0"), &sample::customer())),
        ("quarantine.html", quarantine::listing(&shell("/quarantine"), &sample::quarantine())),
        ("empty.html", quarantine::listing(&shell("/quarantine"), &quarantine::Listing::default())),
        ("entry.html", quarantine::entry(&shell("/quarantine/0"), &sample::entry())),
        ("sql.html", sql::page(&shell("/sql"), &sample::sql_unasked())),
        ("sql-rows.html", sql::page(&shell("/sql"), &sample::sql_answered())),
        ("sql-refused.html", sql::page(&shell("/sql"), &sample::sql_refused())),
        ("failure.html", failure::page(&shell("/"), &refused)),
    ] {
        // What is live would ask the node, which isn't there.
        fs::write(folder.join(name), page.replace(" data-live=\"2000\"", ""))?;
        for path in page.split('"').filter(|path| path.starts_with("/assets/")) {
            if let (Some(asset), Some(file)) = (assets::find(path), path.strip_prefix('/')) {
                let file = folder.join(file);
                fs::create_dir_all(file.parent().unwrap_or(folder))?;
                fs::write(file, asset.content)?;
            }
        }
    }
    Ok(())
}
