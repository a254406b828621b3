//! A cluster with something of everything that the console shows.

use std::path::Path;

use isthmus_proto::v1::{
    CreateRequest, ItemOutcome, QuarantineEntry, QuarantineServiceListRequest,
    source_service_client::SourceServiceClient,
};
use isthmus_tests::{
    ask,
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};

/// Rows of the purchase history that are sent.
const PURCHASES: usize = 600;

/// A cluster, and the write key of a source.
pub struct World {
    pub cluster: Cluster,
    pub key: String,
    folder: std::path::PathBuf,
}

impl World {
    pub async fn start(folder: &Path, nodes: u32) -> Self {
        let options =
            ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.join("data"), nodes);
        let cluster = Cluster::start(options).await;
        let mut client = SourceServiceClient::new(cluster.channel(0));
        let mut key = String::new();
        for name in ["app", "crm", "web"] {
            let request = CreateRequest { name: name.to_owned(), ..CreateRequest::default() };
            key = client.create(request).await.unwrap().into_inner().write_key;
        }
        Self { cluster, key, folder: folder.to_owned() }
    }

    fn run(&self, arguments: &[&str]) {
        let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
        let ended = cli.json(&self.cluster.endpoints(), arguments);
        assert!(matches!(ended.code, 0 | 3), "{arguments:?}: {}", ended.err);
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn ingest(&self, source: &str, lines: &str) {
        let file = self.file(&format!("{source}.jsonl"), lines);
        self.run(&["ingest", &file, "--source", source]);
    }

    /// Customers with a history, one whom two systems know, and what could not be taken.
    pub async fn fill(&self) {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let rows = std::fs::read_to_string(data.join("cdnow_sample.txt")).unwrap();
        let rows: String = rows.lines().take(PURCHASES).map(|row| format!("{row}\n")).collect();
        let (rows, mapping) = (self.file("purchases.txt", &rows), data.join("cdnow.toml"));
        self.run(&["ingest", &rows, "--mapping", mapping.to_str().unwrap(), "--source", "app"]);

        let schema = r#"{"properties":{"quantity":{"type":"integer","minimum":1}}}"#;
        let schema = self.file("schema.json", schema);
        self.run(&["schema", "put", &schema, "--name", "track:Product Added"]);
        self.ingest("crm", include_str!("crm.jsonl"));
        // Other nodes hear of a schema within moments.
        let probe = r#"{"type":"track","event":"Product Added","userId":"42","messageId":"s-0","properties":{"quantity":0}}"#;
        for node in 0..3 {
            loop {
                let sent = ask::send(&self.cluster.channel(node), vec![ask::json(probe)]).await.unwrap();
                if sent.results[0].outcome() == ItemOutcome::Quarantined {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        self.ingest("web", include_str!("web.jsonl"));
        // From now on it may be taken: that is what a replay is for.
        let looser =
            self.file("looser.json", r#"{"properties":{"quantity":{"type":"integer","minimum":0}}}"#);
        self.run(&["schema", "put", &looser, "--name", "track:Product Added"]);
    }

    async fn open(&self, reason: &str) -> Vec<QuarantineEntry> {
        let request = QuarantineServiceListRequest { reason: reason.to_owned(), ..Default::default() };
        ask::quarantined(&self.cluster.channel(2), request).await
    }

    /// What the browser mended and replayed has gone in, once.
    pub async fn what_was_clicked_is_done(&self) {
        assert!(self.open("SCHEMA_VIOLATION").await.is_empty());
        let left = self.open("EVENT_NAME_MISSING").await;
        assert_eq!(left.len(), 1, "one was mended, one is left: {left:?}");
        let ada = ask::profile(&self.cluster.channel(2), "email", "ada@example.org").await.unwrap();
        assert_eq!(ada.event_counts.get("Basket Seen"), Some(&1), "{ada:?}");
        assert_eq!(ada.event_counts.get("Product Added"), Some(&4), "{ada:?}");
    }
}
