//! Ports for nodes that tests start, and start again: nobody else gets them as long as the test runs.
//!
//! A port that the system picks, and that is given up again for the node to take, may meanwhile become the near end of
//! anybody's connection, or be picked for another test. So these come from below the range that the system picks from,
//! and a locked file for each keeps other tests away from it.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Mutex,
};

/// The first port that is taken.
const FIRST: u16 = 10_000;
/// Where Linux begins to pick, unless it is told otherwise.
const PICKED_FROM: u16 = 32_768;

/// Locked until the process ends.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Loopback addresses for a node, this process's until it ends.
///
/// # Panics
/// When none are left.
pub fn reserve() -> [SocketAddr; 3] {
    std::array::from_fn(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, port())))
}

fn port() -> u16 {
    let folder = std::env::temp_dir().join("isthmus-test-ports");
    fs::create_dir_all(&folder).unwrap();
    let end = picked_from();
    let mut held = HELD.lock().unwrap();
    // Tests that run side by side begin at different places, and seldom meet.
    let first = u32::from(FIRST);
    let count = u32::from(end) - first;
    let start = std::process::id().wrapping_mul(7_919) % count;
    for n in 0..count {
        let Ok(port) = u16::try_from(first + (start + n) % count) else { continue };
        let path = folder.join(port.to_string());
        let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
        if file.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            held.push(file);
            return port;
        }
    }
    panic!("no port from {FIRST} to {end} is free");
}

/// Where the system begins to pick ports for connections.
fn picked_from() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let low = range.and_then(|range| range.split_whitespace().next()?.parse().ok());
    low.filter(|low| *low > FIRST + 1_000).unwrap_or(PICKED_FROM)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let all: Vec<SocketAddr> = (0..20).flat_map(|_| reserve()).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
