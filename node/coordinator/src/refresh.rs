//! Views that are current: before a node says that something isn't there, it makes sure that it would have heard of it.
//!
//! **What it promises.** When [`Refresher::refreshed`] returns well, this node's shown view has everything that was
//! answered anywhere before the call. Whoever can make nodes ask can't make them ask much: of a node, one round is
//! under way at a time, rounds begin at least [`REST`] apart, and callers who come meanwhile share the next one. A
//! caller who goes away, or has little time, spoils nobody else's round.
//!
//! **How.** Callers draw numbers; one task runs a round for all numbers that were drawn when it begins. A caller must
//! not be content with a round that had begun before: it may have passed the leader before the change that the caller
//! knows of. On a member of the metadata group a round is a linearizable barrier (ReadIndex: Ongaro, *Consensus:
//! Bridging Theory and Practice*, 2014, section 6.4); other nodes have a member do that and answer with its view.
//!
//! **What it leaves out.** It says nothing of what happens after the call: a view is old again at once.

use std::{sync::Arc, time::Duration};

use isthmus_proto::internal::v1::ReadViewRequest;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    inner::{ATTEMPT_TIMEOUT, BACKOFF_FIRST, BACKOFF_MAX, Inner},
    metadata::Group,
    view::View,
};

/// From the beginning of one round to that of the next, at least.
const REST: Duration = Duration::from_millis(20);
/// How long a round may take: longer than an election.
const ROUND_TIMEOUT: Duration = Duration::from_secs(4);
/// Callers that may wait.
const CALLERS_MAX: usize = 1_024;

/// What came of the rounds.
#[derive(Clone, Debug, Default)]
struct Done {
    /// The largest number that a finished round was for.
    covered: u64,
    /// Why the last round failed, if it did.
    failed: Option<String>,
}

/// Has views refreshed.
pub(crate) struct Refresher {
    /// The last number that was drawn.
    drawn: watch::Sender<u64>,
    done: watch::Receiver<Done>,
    places: Semaphore,
}

/// The other half: runs the rounds.
pub(crate) struct Rounds {
    drawn: watch::Receiver<u64>,
    done: watch::Sender<Done>,
}

impl Refresher {
    pub(crate) fn new() -> (Self, Rounds) {
        let (drawn, numbers) = watch::channel(0);
        let (results, done) = watch::channel(Done::default());
        let refresher = Self { drawn, done, places: Semaphore::new(CALLERS_MAX) };
        (refresher, Rounds { drawn: numbers, done: results })
    }

    /// Waits until the shown view is current.
    ///
    /// # Errors
    /// [`Error::NoLeader`] when that couldn't be made sure of before the deadline, [`Error::Overloaded`],
    /// [`Error::Stopped`].
    pub(crate) async fn refreshed(&self, deadline: Instant) -> Result<()> {
        let _place = self.places.try_acquire().map_err(|_| Error::Overloaded { retry_after: REST })?;
        let mut done = self.done.clone();
        let mut number = 0;
        self.drawn.send_modify(|drawn| {
            *drawn += 1;
            number = *drawn;
        });
        let waited = timeout_at(deadline, done.wait_for(|done| done.covered >= number)).await;
        match waited {
            Ok(Ok(done)) => match &done.failed {
                None => Ok(()),
                Some(why) => Err(Error::NoLeader(why.clone())),
            },
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::NoLeader("the deadline passed".into())),
        }
    }
}

impl Rounds {
    /// Runs a round whenever somebody asks, until cancelled.
    pub(crate) async fn run<F>(mut self, stop: CancellationToken, mut round: impl FnMut() -> F)
    where
        F: Future<Output = Result<()>>,
    {
        let work = async {
            while self.drawn.changed().await.is_ok() {
                let begun = Instant::now();
                let covered = *self.drawn.borrow_and_update();
                let failed = round().await.err().map(|error| error.to_string());
                self.done.send_replace(Done { covered, failed });
                sleep_until(begun + REST).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }
}

/// One round: this node's own metadata replica if it has one, else the other nodes one by one.
pub(crate) async fn round(inner: &Inner) -> Result<()> {
    let deadline = Instant::now() + ROUND_TIMEOUT;
    let group = inner.group.borrow().clone();
    let mut failure = Error::NoLeader("no other node is known".into());
    if let Some(group) = group {
        match barrier(inner, &group, Instant::now() + ATTEMPT_TIMEOUT).await {
            Ok(_) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    let mut pause = BACKOFF_FIRST;
    for attempt in 0.. {
        let others = inner.others();
        let left = deadline.saturating_duration_since(Instant::now());
        if others.is_empty() || left.is_zero() {
            break;
        }
        match ask(inner, &others[attempt % others.len()], left.min(ATTEMPT_TIMEOUT)).await {
            Ok(()) => return Ok(()),
            Err(error) => failure = error,
        }
        sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
    Err(failure)
}

/// The view of this node's metadata replica, with everything that was answered anywhere before the call; shown.
pub(crate) async fn barrier(inner: &Inner, group: &Group, deadline: Instant) -> Result<Arc<View>> {
    group.read_index(deadline).await.map_err(|error| Error::NoLeader(error.to_string()))?;
    // The replica offers the view of what it has applied before that counts as applied.
    inner.wait_view(inner.feed.newest_version(), deadline).await
}

async fn ask(inner: &Inner, address: &str, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let request =
        ReadViewRequest { cluster_id: inner.cluster_id.to_vec().into(), known_version: inner.view().version };
    let answer = inner.channels.read_view(address, request, timeout).await?;
    if let Some(wire) = answer.view {
        let view = View::from_wire(wire)?;
        inner.check_cluster(&view.cluster_id)?;
        inner.feed.offer(view);
    }
    inner.wait_view(answer.version, deadline).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use futures::future::join_all;
    use tokio_util::task::TaskTracker;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn start<F>(round: impl FnMut() -> F + Send + 'static) -> (Arc<Refresher>, CancellationToken)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (refresher, rounds) = Refresher::new();
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(rounds.run(stop.clone(), round));
        (Arc::new(refresher), stop)
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_rounds_begin_one_at_a_time_and_apart() {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let (running, times) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&begun));
        let (refresher, _stop) = start(move || {
            let (running, times) = (Arc::clone(&running), Arc::clone(&times));
            async move {
                assert_eq!(running.fetch_add(1, Relaxed), 0, "two rounds at a time");
                times.lock().unwrap().push(Instant::now());
                sleep(Duration::from_millis(3)).await;
                running.fetch_sub(1, Relaxed);
                Ok(())
            }
        });
        let callers = (0..10).map(|_| async {
            for _ in 0..20 {
                refresher.refreshed(soon()).await.unwrap();
            }
        });
        join_all(callers).await;
        let begun = begun.lock().unwrap();
        assert!(begun.len() <= 21, "{} rounds for ten callers of twenty", begun.len());
        assert!(begun.windows(2).all(|pair| pair[1] - pair[0] >= REST), "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_had_begun_before_is_not_enough() {
        let (gate, rounds) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (pass, begun) = (Arc::clone(&gate), Arc::clone(&rounds));
        let (refresher, _stop) = start(move || {
            let pass = Arc::clone(&pass);
            begun.fetch_add(1, Relaxed);
            async move {
                pass.acquire().await.unwrap().forget();
                Ok(())
            }
        });
        let first = refresher.refreshed(soon());
        let late = async {
            while rounds.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            let second = refresher.refreshed(soon());
            gate.add_permits(2);
            second.await
        };
        let (first, second) = tokio::join!(first, late);
        first.unwrap();
        second.unwrap();
        assert_eq!(rounds.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_made_sure_of_is_said() {
        let (refresher, _stop) = start(|| async { Err(Error::Stopped) });
        assert!(matches!(refresher.refreshed(soon()).await, Err(Error::NoLeader(_))));
        let (refresher, stop) = start(std::future::pending);
        // One who has no time, and one who has.
        assert!(matches!(refresher.refreshed(Instant::now() + REST).await, Err(Error::NoLeader(_))));
        let (waiting, ()) = tokio::join!(refresher.refreshed(soon()), async { stop.cancel() });
        assert!(matches!(waiting, Err(Error::Stopped)));
    }

    #[tokio::test(start_paused = true)]
    async fn more_callers_than_may_wait_are_refused() {
        let (refresher, _stop) = start(std::future::pending);
        let deadline = Instant::now() + REST;
        let answers = join_all((0..CALLERS_MAX + 1).map(|_| refresher.refreshed(deadline))).await;
        let refused = answers.iter().filter(|answer| matches!(answer, Err(Error::Overloaded { .. })));
        assert_eq!(refused.count(), 1);
    }
}
