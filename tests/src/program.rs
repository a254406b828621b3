//! A program that runs beside a test: its lines are read as they come, and it is never left behind.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{cli::Ended, cluster::PATIENCE, load::Numbers};

/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running program. Dropping it kills it.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    printed: Vec<String>,
    errors: Option<JoinHandle<String>>,
}

impl Program {
    /// Starts it with nothing on standard input.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            // Ends with the program, or when nobody wants its lines any more.
            let _unread =
                BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        });
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _cut = err.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, lines, printed: Vec::new(), errors: Some(errors) }
    }

    /// Waits for a line on standard output that holds a word.
    ///
    /// # Panics
    /// When the program ends, or takes too long.
    pub fn line_with(&mut self, word: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let _ended = self.child.kill();
                let errors = self.errors.take().map(|errors| errors.join().unwrap_or_default());
                panic!(
                    "no line with `{word}`; printed: {:?}; errors: {}",
                    self.printed,
                    errors.unwrap_or_default()
                );
            };
            self.printed.push(line.clone());
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Asks it to stop (SIGTERM).
    ///
    /// # Panics
    /// When it can't be asked.
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it doesn't end.
    pub fn end(mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                self.child.kill().unwrap();
                let errors = self.errors.take().unwrap().join().unwrap();
                panic!("it doesn't end; printed: {:?}; errors: {errors}", self.printed);
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let mut printed = std::mem::take(&mut self.printed);
        printed.extend(self.lines.iter());
        let err = self.errors.take().unwrap().join().unwrap();
        let out = printed.into_iter().map(|line| line + "\n").collect();
        Ended { code: status.code().unwrap_or(-1), out, err }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it can't be started or doesn't end.
pub fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    Program::start(program, arguments, environment).end()
}

/// A first port from which on `apart * count` ports hold three free ones at each step, below those that systems give
/// out by themselves.
///
/// # Panics
/// When there is none.
pub fn free_port(count: u16, apart: u16) -> u16 {
    // Where each call begins, so that tests of one process that run side by side don't choose the same.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut numbers = Numbers((u64::from(std::process::id()) << 16) + CALLS.fetch_add(1, Relaxed));
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let bases = std::iter::repeat_with(|| 10_000 + (numbers.draw() % 2_000) as u16 * 10).take(1_000);
    let fits = |base: &u16| (0..count).all(|node| (0..3).all(|offset| free(base + node * apart + offset)));
    bases.into_iter().find(fits).unwrap()
}
