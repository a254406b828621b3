//! `isthmus-node`, as the end-to-end tests run it: built with fail points, which `FAILPOINTS` in the environment sets.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let _scenario = fail::FailScenario::setup();
    isthmus_node::run(std::env::args_os())
}
