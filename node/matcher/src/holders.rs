//! How far all shards are: asked once for all owners of a node, and not by each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use isthmus_proto::internal::v1::MatchingStatusReply;
use isthmus_router::Router;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::Models;

/// How often all shards are asked, and how often at most when somebody waits for it.
const EVERY: Duration = Duration::from_millis(500);
const EVERY_IN_HASTE: Duration = Duration::from_millis(50);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// All shards' answers; `None` of one that did not answer.
pub type Look = Arc<BTreeMap<u64, Option<MatchingStatusReply>>>;

/// A hash of who has which blocks: the same for the same incarnations of all shards.
pub fn hash(incarnations: impl IntoIterator<Item = (u64, u64)>) -> u64 {
    let bytes = incarnations.into_iter().flat_map(|(shard, now)| [shard.to_be_bytes(), now.to_be_bytes()]);
    xxh3_64(bytes.flatten().collect::<Vec<u8>>().as_slice())
}

/// A look, and how many had begun when it did.
#[derive(Clone)]
struct Round {
    number: u64,
    look: Look,
}

/// How far all shards are, as it is seen from this node. Clones see the same.
#[derive(Clone)]
pub struct Holders {
    rounds: watch::Receiver<Round>,
    begun: watch::Receiver<u64>,
    haste: Arc<Notify>,
}

impl std::fmt::Debug for Holders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holders").field("looks", &*self.begun.borrow()).finish_non_exhaustive()
    }
}

impl Holders {
    /// Looks for as long as a model is in force, until the stop. The second part has to run.
    pub fn new(
        router: Router,
        models: Models,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (rounds, shown) = watch::channel(Round { number: 0, look: Arc::default() });
        let (begin, begun) = watch::channel(0);
        let haste = Arc::new(Notify::new());
        let work = look(router, models, stop, rounds, begin, haste.clone());
        (Self { rounds: shown, begun, haste }, work)
    }

    /// A look that begins after this call.
    pub async fn fresh(&self) -> Look {
        let (mut rounds, before) = (self.rounds.clone(), *self.begun.borrow());
        self.haste.notify_one();
        let look = rounds.wait_for(|round| round.number > before).await.map(|round| round.look.clone());
        match look {
            Ok(look) => look,
            // At the stop, which ends whoever waits, too.
            Err(_) => std::future::pending().await,
        }
    }

    /// The newest look, if this handle has not shown it yet.
    pub fn newest(&mut self) -> Option<Look> {
        match self.rounds.has_changed() {
            Ok(true) => Some(self.rounds.borrow_and_update().look.clone()),
            _ => None,
        }
    }

    /// The next look that this handle has not shown yet; soon, if there is haste.
    pub async fn next(&mut self, haste: bool) -> Look {
        if haste {
            self.haste.notify_one();
        }
        match self.rounds.changed().await {
            Ok(()) => self.rounds.borrow_and_update().look.clone(),
            Err(_) => std::future::pending().await,
        }
    }
}

async fn look(
    router: Router,
    mut models: Models,
    stop: CancellationToken,
    rounds: watch::Sender<Round>,
    begin: watch::Sender<u64>,
    haste: Arc<Notify>,
) {
    let mut number = 0;
    loop {
        if models.get().is_some() {
            number += 1;
            begin.send_replace(number);
            let deadline = Instant::now() + TIMEOUT;
            let asked = router.shards().into_iter().map(|shard| {
                let router = &router;
                async move { (shard, router.matching_status(shard, deadline).await.ok()) }
            });
            let look = Arc::new(join_all(asked).await.into_iter().collect());
            rounds.send_replace(Round { number, look });
        }
        let pause = async {
            let begin = Instant::now();
            _ = tokio::time::timeout(EVERY, haste.notified()).await;
            tokio::time::sleep_until(begin + EVERY_IN_HASTE).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = models.changed() => {}
            () = pause => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_look_is_shown_once_and_a_fresh_one_begins_later() {
        let (rounds, shown) = watch::channel(Round { number: 0, look: Arc::default() });
        let (begin, begun) = watch::channel(0);
        let mut holders = Holders { rounds: shown, begun, haste: Arc::default() };
        let round = |number| Round { number, look: Arc::default() };
        assert!(holders.next(false).now_or_never().is_none());
        begin.send_replace(1);
        let mut fresh = Box::pin(holders.clone().fresh_owned());
        rounds.send_replace(round(1));
        assert!(holders.next(false).now_or_never().is_some());
        assert!(holders.next(false).now_or_never().is_none(), "the same look a second time");
        assert!(holders.newest().is_none());
        assert!((&mut fresh).now_or_never().is_none(), "that look had begun before");
        rounds.send_replace(round(2));
        assert!(fresh.now_or_never().is_some());
        assert!(holders.newest().is_some() && holders.newest().is_none());
    }

    impl Holders {
        async fn fresh_owned(self) -> Look {
            self.fresh().await
        }
    }
}
