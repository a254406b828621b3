//! Settings that can't be used: exit code 78, the file's line and the key on standard error, and nothing started.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use isthmus_tests::program::{self, Program};

use isthmus_tests::bad_input::Checked;

use crate::World;

/// `EX_CONFIG` of `sysexits.h`.
const EX_CONFIG: i32 = 78;

/// A configuration file that is fine but for what a case changes.
struct File {
    lines: Vec<(&'static str, String)>,
}

impl File {
    fn new(data_dir: &Path) -> Self {
        let any = || "\"127.0.0.1:0\"".to_owned();
        let quoted = format!("{:?}", data_dir.display().to_string());
        let lines = vec![
            ("node_id", "1".to_owned()),
            ("grpc_listen", any()),
            ("http_listen", any()),
            ("peer_listen", any()),
            ("data_dir", quoted),
            ("bootstrap", "true".to_owned()),
            ("shards", "1".to_owned()),
            ("replicas", "1".to_owned()),
        ];
        Self { lines }
    }

    /// Sets a key, in its place if it has one.
    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        match self.lines.iter_mut().find(|line| line.0 == key) {
            Some(line) => line.1 = value.into(),
            None => self.lines.push((key, value.into())),
        }
        self
    }

    /// Writes it; where it is.
    fn write(&self, path: &Path) -> String {
        let text: String = self.lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        fs::write(path, text).unwrap();
        path.display().to_string()
    }

    /// A node has to refuse it for this key.
    fn is_refused_for(&self, world: &World, key: &str, why: &str) {
        let path = self.write(&world.path().join("isthmus.toml"));
        let ended = program::run(world.node, &["serve", "--config", &path], &[]);
        let line = self.lines.iter().position(|line| line.0 == key).unwrap() + 1;
        let expected = format!("{path}:{line}: {key}: ");
        let told = ended.err.lines().find(|line| line.contains(&expected));
        let told = told.unwrap_or_else(|| panic!("`{expected}` isn't in: {}", ended.err));
        assert!(told.contains(why), "it doesn't say what is wrong: {told}");
        assert_eq!(ended.code, EX_CONFIG, "{}", ended.err);
        assert_eq!(ended.out, "", "it started");
    }
}

pub async fn check(world: &World, input: &str) -> Checked {
    let fresh = world.path().join("never-made");
    let file = || File::new(&fresh);
    match input {
        "unknown key" => file().with("nodeid", "2").is_refused_for(world, "nodeid", "no such key"),
        "duplicate node id" => {
            let peer = world.one.nodes[0].peer;
            let joining = file().with("bootstrap", "false").with("join", format!("[\"{peer}\"]"));
            joining.is_refused_for(world, "node_id", "NODE_ID_TAKEN");
        }
        "even replicas" => file().with("replicas", "2").is_refused_for(world, "replicas", "odd"),
        "zero replicas" => file().with("replicas", "0").is_refused_for(world, "replicas", "odd"),
        "data of another cluster" => {
            // The membership of one cluster beside the data of another.
            let data = used(world);
            let membership = data.join("cluster");
            fs::remove_dir_all(&membership).unwrap();
            copy(&world.one.nodes[0].data.join("cluster"), &membership);
            File::new(&data).is_refused_for(world, "data_dir", "another cluster");
        }
        "newer disk format" => {
            let data = used(world);
            let format = data.join("format.toml");
            let text = fs::read_to_string(&format).unwrap();
            assert!(text.contains("format_version = 1\n"), "{text}");
            fs::write(&format, text.replace("format_version = 1\n", "format_version = 2\n")).unwrap();
            File::new(&data).is_refused_for(world, "data_dir", "format 2, this version reads up to 1");
        }
        "secret file readable by others" => {
            let secret = world.path().join("identity.key");
            fs::write(&secret, "0f".repeat(32)).unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
            let quoted = format!("{:?}", secret.display().to_string());
            file().with("identity_key_file", quoted).is_refused_for(world, "identity_key_file", "others");
        }
        "plaintext on a non-loopback address" => {
            file().with("grpc_listen", "\"0.0.0.0:0\"").is_refused_for(
                world,
                "grpc_listen",
                "--insecure-plaintext",
            );
        }
        "port in use" => {
            let taken = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("\"{}\"", taken.local_addr().unwrap());
            file().with("http_listen", address).is_refused_for(world, "http_listen", "in use");
        }
        "directory locked" => {
            File::new(&world.one.nodes[0].data).is_refused_for(world, "data_dir", "another process");
        }
        other => panic!("no case for {other}"),
    }
    // A node that is refused for its settings leaves no data behind.
    assert!(!fresh.join("log").exists(), "it started");
    Checked::Held
}

/// The data of a node that was started and stopped; a copy for each case.
fn used(world: &World) -> PathBuf {
    let original = world.path().join("used");
    if !original.exists() {
        let path = File::new(&original).write(&world.path().join("used.toml"));
        let mut node = Program::start(world.node, &["serve", "--config", &path], &[]);
        node.line_with("is ready");
        node.terminate();
        let ended = node.end();
        assert_eq!(ended.code, 0, "{}", ended.err);
    }
    let mine = tempfile::Builder::new().tempdir_in(world.path()).unwrap().keep();
    copy(&original, &mine);
    mine
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
