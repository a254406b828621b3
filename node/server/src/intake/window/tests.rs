//! The protocol's transcript, and its invariants under any schedule.
//!
//! `transcript.txt` is a list of steps of a client and of shards (`>`), each with what the server does. With
//! `UPDATE_TRANSCRIPTS=1` what happens now is written down: read the difference before keeping it.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const TRANSCRIPT: &str = include_str!("transcript.txt");

/// A stream of one-letter lanes, whose results are words.
struct Script {
    window: Window<char, String>,
    said: String,
}

impl Script {
    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.said, "{line}").unwrap();
    }

    /// Says all that the server does by itself after a step.
    fn settle(&mut self) {
        while let Some(Chunk { lane, items }) = self.window.start() {
            let name = (b'a' + u8::try_from(lane).unwrap()) as char;
            let items: Vec<String> = items.iter().map(|(sequence, _)| sequence.to_string()).collect();
            self.say(format_args!("out {name}: {}", items.join(" ")));
        }
        if let Some(News { acknowledged, results, sequence_max, bytes_max }) = self.window.news() {
            let results = results.join(" ");
            self.say(format_args!(
                "acknowledged {acknowledged} [{results}] sequence_max {sequence_max} bytes_max {bytes_max}"
            ));
        }
    }

    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["open", rest @ ..] => {
                let [first, items, bytes, item_bytes] = numbers(rest);
                self.window = Window::new(first, Limits { items, bytes, item_bytes });
                let News { acknowledged, sequence_max, bytes_max, .. } = self.window.stand();
                self.say(format_args!(
                    "acknowledged {acknowledged} [] sequence_max {sequence_max} bytes_max {bytes_max}"
                ));
            }
            ["send", first, items @ ..] => {
                let first: u64 = first.parse().unwrap();
                let sizes: Vec<u64> = items.iter().map(|item| item[1..].parse().unwrap()).collect();
                match self.window.receive(first, &sizes) {
                    Err(violation) => self.say(format_args!("refused: {violation:?}")),
                    Ok(()) => {
                        for (sequence, (item, bytes)) in (first..).zip(items.iter().zip(&sizes)) {
                            match item.as_bytes()[0] {
                                b'!' => self.window.answer(sequence, "rejected".to_owned()),
                                lane => self.window.place(sequence, usize::from(lane - b'a'), *bytes, '.'),
                            }
                        }
                    }
                }
            }
            ["land", lane, results @ ..] => {
                let lane = usize::from(lane.as_bytes()[0] - b'a');
                let landings = results.iter().map(|result| {
                    let (sequence, result) = result.split_once('=').unwrap();
                    let landing = match result {
                        "again" => Landing::Again('.'),
                        result => Landing::Answered(result.to_owned()),
                    };
                    (sequence.parse().unwrap(), landing)
                });
                self.window.land(lane, landings.collect::<Vec<_>>());
            }
            ["wake", lane] => self.window.wake(usize::from(lane.as_bytes()[0] - b'a')),
            ["close"] => self.window.close(),
            other => panic!("unknown step {other:?}"),
        }
    }
}

fn numbers<const N: usize>(words: &[&str]) -> [u64; N] {
    std::array::from_fn(|index| words[index].rsplit('=').next().unwrap().parse().unwrap())
}

#[test]
fn the_transcript_is_what_happens() {
    let window = Window::new(1, Limits { items: 1, bytes: 1, item_bytes: 1 });
    let mut script = Script { window, said: String::new() };
    for line in TRANSCRIPT.lines().filter(|line| line.starts_with(['>', '#']) || line.is_empty()) {
        script.say(format_args!("{line}"));
        if let Some(step) = line.strip_prefix('>') {
            script.step(step);
            script.settle();
        }
    }
    if std::env::var("UPDATE_TRANSCRIPTS").is_ok() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/intake/window/transcript.txt");
        std::fs::write(path, &script.said).unwrap();
    }
    assert_eq!(script.said, TRANSCRIPT);
}

/// What happens next, in terms of what can happen.
#[derive(Clone, Debug)]
enum Step {
    /// A client sends items, of lanes and sizes, as far as its credits go.
    Send(Vec<(usize, u64)>),
    /// It sends what it must not.
    Violate(u8, u64),
    /// A chunk that is out comes back: stored or not, and known to be so or not.
    Land { which: usize, stored: bool, known: bool },
    /// Lanes that rest go on.
    Wake,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..4_usize, 1..40_u64), 0..12).prop_map(Step::Send),
        1 => (0..4_u8, 1..50_u64).prop_map(|(kind, by)| Step::Violate(kind, by)),
        6 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, stored, known)| Step::Land { which, stored, known }),
        2 => Just(Step::Wake),
    ]
}

/// The world around a window: an honest client's count, and what shards have stored.
struct World {
    window: Window<usize, u64>,
    limits: Limits,
    told: News<u64>,
    sent: u64,
    sent_bytes: u64,
    lanes: Vec<Vec<u64>>,
    out: Vec<Chunk<usize>>,
    stored: Vec<Vec<u64>>,
}

impl World {
    fn new(first: u64, limits: Limits) -> Self {
        let window = Window::new(first, limits);
        let told = window.stand();
        let empty = || vec![Vec::new(); 4];
        Self {
            window,
            limits,
            told,
            sent: first - 1,
            sent_bytes: 0,
            lanes: empty(),
            out: vec![],
            stored: empty(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(items) => {
                let (mut lanes, mut sizes) = (vec![], vec![]);
                for (lane, bytes) in items {
                    let bytes = bytes.min(self.limits.item_bytes);
                    let fits = self.sent_bytes + bytes <= self.told.bytes_max;
                    if self.sent + sizes.len() as u64 >= self.told.sequence_max || !fits {
                        break;
                    }
                    self.sent_bytes += bytes;
                    lanes.push(lane);
                    sizes.push(bytes);
                }
                let first = self.sent + 1;
                assert_eq!(self.window.receive(first, &sizes), Ok(()), "within what was told");
                for (sequence, (lane, bytes)) in (first..).zip(lanes.into_iter().zip(&sizes)) {
                    self.window.place(sequence, lane, *bytes, lane);
                    self.lanes[lane].push(sequence);
                }
                self.sent += sizes.len() as u64;
            }
            Step::Violate(kind, by) => {
                let (next, before) = (self.sent + 1, self.window.stand());
                let refused = match kind {
                    0 => self.window.receive(next + by, &[1]),
                    1 => self.window.receive(next, &vec![1; (before.sequence_max - self.sent + by) as usize]),
                    2 => self.window.receive(next, &[self.limits.item_bytes + by]),
                    _ => {
                        let room = before.bytes_max - self.sent_bytes;
                        let items = before.sequence_max - self.sent;
                        // As many of the largest as it takes, if as many may come.
                        let count = room / self.limits.item_bytes + 1;
                        if count > items {
                            return;
                        }
                        self.window.receive(next, &vec![self.limits.item_bytes; count as usize])
                    }
                };
                assert!(refused.is_err(), "{kind}");
                assert_eq!((self.window.stand(), self.window.next_sequence()), (before, next));
            }
            Step::Land { which, stored, known } => {
                if self.out.is_empty() {
                    return;
                }
                let Chunk { lane, items } = self.out.swap_remove(which % self.out.len());
                if stored || known {
                    for (sequence, _) in &items {
                        // What came before is not applied again.
                        if !self.stored[lane].contains(sequence) {
                            self.stored[lane].push(*sequence);
                        }
                    }
                }
                let landing =
                    |sequence, item| if known { Landing::Answered(sequence) } else { Landing::Again(item) };
                let landings: Vec<_> =
                    items.into_iter().map(|(sequence, item)| (sequence, landing(sequence, item))).collect();
                assert_eq!(self.window.land(lane, landings), !known);
            }
            Step::Wake => (0..LANES).for_each(|lane| self.window.wake(lane)),
        }
        while let Some(chunk) = self.window.start() {
            assert!(self.out.iter().all(|other| other.lane != chunk.lane), "one chunk of a lane");
            self.out.push(chunk);
        }
        if let Some(news) = self.window.news() {
            let expected: Vec<u64> = (self.told.acknowledged + 1..=news.acknowledged).collect();
            assert_eq!(news.results, expected, "each result once, in order, without a gap");
            assert!(news.sequence_max >= self.told.sequence_max && news.bytes_max >= self.told.bytes_max);
            self.told = news;
        }
        for sequence in 1..=self.told.acknowledged {
            let of = |lanes: &[Vec<u64>]| lanes.iter().any(|lane| lane.contains(&sequence));
            assert!(!of(&self.lanes) || of(&self.stored), "{sequence} is acknowledged and not stored");
        }
        for (stored, sent) in self.stored.iter().zip(&self.lanes) {
            assert!(sent.starts_with(stored), "stored {stored:?} of {sent:?}: out of order");
        }
        assert!(self.told.sequence_max - self.told.acknowledged <= self.limits.items);
        assert!(self.window.bytes_received - self.window.bytes_acknowledged <= self.limits.bytes);
        assert!(self.window.entries.len() as u64 <= self.limits.items);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_acknowledged_is_stored_in_order_and_credits_bound_what_is_on_its_way(
        first in 1..100_u64,
        items in 1..30_u64,
        (item_bytes, more) in (1..40_u64, 0..200_u64),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(first, Limits { items, bytes: item_bytes + more, item_bytes });
        for step in steps {
            world.step(step);
        }
        // Once shards answer, everything is acknowledged.
        while !world.window.is_empty() {
            world.step(Step::Wake);
            world.step(Step::Land { which: 0, stored: true, known: true });
        }
        prop_assert_eq!(world.told.acknowledged, world.sent);
        let stand = world.window.stand();
        prop_assert_eq!(stand.bytes_max - world.sent_bytes, world.limits.bytes, "all credits are back");
    }
}

#[test]
fn a_chunk_fits_into_one_command() {
    let limits = Limits { items: 10_000, bytes: 1 << 30, item_bytes: 1 << 20 };
    let mut window: Window<(), ()> = Window::new(1, limits);
    // Small ones; then one that is larger than a chunk.
    let sizes: Vec<u64> =
        std::iter::repeat_n(100, 3_000).chain([CHUNK_BYTES + 1]).chain([500; 1_000]).collect();
    window.receive(1, &sizes).unwrap();
    for (sequence, bytes) in (1..).zip(&sizes) {
        window.place(sequence, 3, *bytes, ());
    }
    let mut chunks = Vec::new();
    while let Some(Chunk { lane, items }) = window.start() {
        assert_eq!(lane, 3);
        chunks.push((
            items.len(),
            items.iter().map(|(sequence, ())| sizes[*sequence as usize - 1]).sum::<u64>(),
        ));
        window.land(lane, items.into_iter().map(|(sequence, ())| (sequence, Landing::Answered(()))));
    }
    assert!(
        chunks.iter().all(|(count, bytes)| *count == 1 || (*count <= CHUNK_ITEMS && *bytes <= CHUNK_BYTES))
    );
    assert_eq!(chunks[..4].iter().map(|(count, _)| *count).collect::<Vec<_>>(), [1_000, 1_000, 1_000, 1]);
}
