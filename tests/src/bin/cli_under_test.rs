//! `isthmus`, as the end-to-end tests run it.

fn main() -> std::process::ExitCode {
    isthmus_client::cli::run(std::env::args_os())
}
