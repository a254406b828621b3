//! Wakes, panics and parcels.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use isthmus_storage::log::MemoryLog;
use tokio::time::timeout;

use super::*;
use crate::{
    node::Registry,
    transport::{Inbound, OutgoingSnapshot, SnapshotLost},
    types::PeerId,
};

/// Notes what is sent; the node 9 takes nothing.
#[derive(Default)]
struct Sent(Mutex<Vec<(u32, usize)>>);

impl Transport for Sent {
    fn bind(&self, _: Arc<dyn Inbound>) {}

    fn send(&self, node: u32, messages: Vec<GroupMessage>) -> bool {
        self.0.lock().push((node, messages.len()));
        node != 9
    }

    fn send_snapshot(&self, _: OutgoingSnapshot) -> BoxFuture<'static, Result<(), SnapshotLost>> {
        Box::pin(std::future::ready(Err(SnapshotLost::new("not in this test"))))
    }
}

/// What a scripted group was asked to do, and saw.
#[derive(Default)]
struct Script {
    /// Nodes that each turn sends a message to.
    to: Vec<u32>,
    panics: AtomicBool,
    stops: AtomicBool,
    /// Counted up before each wake, and as the last turn saw it.
    asked: AtomicU64,
    seen: AtomicU64,
    unreachable: Mutex<Vec<u32>>,
    ended: AtomicUsize,
}

struct Scripted {
    script: Arc<Script>,
    waker: Arc<Waker>,
}

impl Turn for Scripted {
    fn turn(&mut self, out: &mut Outgoing) -> ControlFlow<Ended> {
        self.waker.begin();
        assert!(!self.script.panics.load(Ordering::Acquire), "as scripted");
        if self.script.stops.load(Ordering::Acquire) {
            return ControlFlow::Break(Ended::Stopped);
        }
        self.script.seen.store(self.script.asked.load(Ordering::Acquire), Ordering::Release);
        for node in &self.script.to {
            let to = PeerId::new(*node, 1);
            out.send(GroupMessage { group: 1, from: PeerId::new(1, 1), to, message: Bytes::new() });
        }
        ControlFlow::Continue(())
    }

    fn unreachable(&mut self, node: u32) {
        self.script.unreachable.lock().push(node);
    }

    fn see_out(self: Box<Self>, ended: Ended) -> BoxFuture<'static, ()> {
        let panicked = matches!(ended, Ended::Panicked);
        self.script.ended.store(1 + usize::from(panicked), Ordering::Release);
        Box::pin(std::future::ready(()))
    }
}

struct Running {
    driver: Arc<Driver>,
    sent: Arc<Sent>,
    tasks: TaskTracker,
}

impl Running {
    fn start() -> Self {
        let (driver, sent, tasks) = (Arc::<Driver>::default(), Arc::<Sent>::default(), TaskTracker::new());
        let writer = LogWriter::start(Arc::new(MemoryLog::new()), Arc::<Registry>::default()).unwrap();
        tasks.spawn(driver.clone().run(sent.clone(), Arc::new(writer), tasks.clone()));
        Self { driver, sent, tasks }
    }

    fn add(&self, to: &[u32]) -> (Arc<Script>, Arc<Waker>) {
        let script = Arc::new(Script { to: to.to_vec(), ..Script::default() });
        let waker = Arc::new(self.driver.waker());
        self.driver.add(&waker, Box::new(Scripted { script: script.clone(), waker: waker.clone() }));
        (script, waker)
    }

    /// Stops groups, then the driver; it must end.
    async fn stop(self, groups: &[&(Arc<Script>, Arc<Waker>)]) {
        for (script, waker) in groups {
            script.stops.store(true, Ordering::Release);
            waker.wake();
            until(|| script.ended.load(Ordering::Acquire) == 1).await;
        }
        // It is on the list still, as of a message that came late.
        groups.iter().for_each(|(_, waker)| waker.wake());
        self.driver.stop();
        self.tasks.close();
        timeout(Duration::from_secs(30), self.tasks.wait()).await.expect("the driver ends");
    }
}

async fn until(mut fact: impl FnMut() -> bool) {
    let looking = async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), looking).await.expect("it comes about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wake_is_followed_by_a_turn_that_sees_what_came_before_it() {
    const PAIRS: u64 = 20_000;
    let running = Running::start();
    let group = running.add(&[]);
    let other = group.clone();
    // Two wakes, the second one while the turn after the first begins, at every distance; then none for a while. It
    // sees a wake that is dropped; it rarely meets the few instructions in which a plain store in `Waker::begin` would
    // lose one: the tests of whole groups, run many times, do.
    let waking = std::thread::spawn(move || {
        for number in 1..=PAIRS {
            other.1.wake();
            (0..number % 512).for_each(|_| std::hint::spin_loop());
            other.0.asked.store(number, Ordering::Release);
            other.1.wake();
            while other.0.seen.load(Ordering::Acquire) < number {
                std::thread::yield_now();
            }
        }
    });
    until(|| waking.is_finished()).await;
    waking.join().unwrap();
    until(|| group.0.seen.load(Ordering::Acquire) == PAIRS).await;
    running.stop(&[&group]).await;
}

#[tokio::test]
async fn a_group_that_panics_is_seen_out_and_the_others_go_on() {
    let running = Running::start();
    let (bad, good) = (running.add(&[]), running.add(&[]));
    bad.0.panics.store(true, Ordering::Release);
    bad.1.wake();
    until(|| bad.0.ended.load(Ordering::Acquire) == 2).await;
    good.0.asked.store(7, Ordering::Release);
    good.1.wake();
    until(|| good.0.seen.load(Ordering::Acquire) == 7).await;
    // Nobody answers for one that is gone; waking it is harmless, also at the end.
    bad.1.wake();
    running.stop(&[&good]).await;
}

#[tokio::test]
async fn messages_of_many_groups_leave_in_one_parcel_and_who_sent_in_vain_hears_of_it() {
    let running = Running::start();
    // Added before the driver has had a turn: all three are in its first round.
    let groups = [running.add(&[2, 9]), running.add(&[2]), running.add(&[2, 9])];
    until(|| !running.sent.0.lock().is_empty()).await;
    until(|| running.sent.0.lock().len() == 2).await;
    assert_eq!(*running.sent.0.lock(), [(2, 3), (9, 2)]);
    let unreachable = groups.each_ref().map(|group| group.0.unreachable.lock().clone());
    assert_eq!(unreachable, [vec![9], vec![], vec![9]]);
    running.stop(&groups.each_ref()).await;
}
