//! Command lines that make no sense, or ask for what must not be.

use isthmus_tests::bad_input::Checked;

use crate::World;

pub fn check(world: &World, input: &str) -> Checked {
    let endpoints = world.one.endpoints();
    match input {
        "unknown flag" => {
            for arguments in [
                &["cluster", "status", "--no-such-flag"][..],
                &["ingest", "--force", "-"],
                &["--colour", "profile", "list"],
            ] {
                let ended = world.cli.run(&endpoints, arguments);
                assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{}", ended.err);
                assert!(ended.err.contains("unexpected argument"), "{}", ended.err);
            }
            // Of the node, too.
            let ended = isthmus_tests::program::run(world.node, &["serve", "--no-such-flag"], &[]);
            assert_eq!(ended.code, 2, "{}", ended.err);
            Checked::Held
        }
        "a removal that would break quorum" => {
            let ended = world.cli.json(&endpoints, &["cluster", "remove", "1"]);
            assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{}", ended.err);
            assert!(
                ended.err.contains("let another node join first"),
                "it doesn't say what to do: {}",
                ended.err
            );
            let nodes = world.cli.json(&endpoints, &["cluster", "nodes"]).objects();
            assert_eq!(nodes[0]["state"], "active", "{nodes:?}");
            Checked::Held
        }
        "erase without --confirm" => Checked::LaterIssue("erasure"),
        other => panic!("no case for {other}"),
    }
}
