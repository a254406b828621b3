//! `isthmus`: the command line of the hub. See [`isthmus_client::cli`].

fn main() -> std::process::ExitCode {
    isthmus_client::cli::run(std::env::args_os())
}
