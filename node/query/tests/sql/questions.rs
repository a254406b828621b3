//! What analysts ask, on three nodes and on one.
//!
//! The questions are files that keep to SQL which DuckDB takes, too: `tests/questions/*.sql`.

use std::{fs, path::Path};

use crate::{cluster::Cluster, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_answer_as_one() {
    let world = World::of(150);
    let (three, one) = (Cluster::of_three(&world).await, Cluster::of_one(&world).await);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/questions");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    assert!(files.len() >= 30, "there are {}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let (sql, name) =
            (fs::read_to_string(&file).unwrap(), file.file_name().unwrap().to_string_lossy().into_owned());
        match (three.try_rows(&sql, vec![]).await, one.try_rows(&sql, vec![]).await) {
            (Ok(three), Ok(one)) if three == one && !one.is_empty() => {}
            (Ok(three), Ok(one)) => {
                wrong.push(format!("{name}: {} rows, {} rows\n{three:?}\n{one:?}", three.len(), one.len()))
            }
            (three, one) => wrong.push(format!("{name}: {:?}, {:?}", three.err(), one.err())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
