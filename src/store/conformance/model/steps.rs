//! What a random history is made of.

use proptest::prelude::*;

/// Runs and blobs are few, so that histories meet themselves.
const RUNS: u64 = 5;

const BLOBS: u8 = 5;

/// Whose result a final has, and whether it was cached or shared, if it is not its own.
pub(super) type Answer = Option<(u64, bool)>;

/// A write of a history, its epoch and digests still to be found.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Insert { run: u64, module: u8, stdin: u8, brings: bool, key: Option<(u8, u8)> },
    Attempt { run: u64, stale: bool, number: u32 },
    Finish { run: u64, stale: bool, stdout: u8, dissent: Option<u8>, brings: bool, source: Answer },
    Correct { run: u64, stale: bool, skips: bool, stdout: u8, brings: bool },
}

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Batch(Vec<Write>),
    Put { blob: u8, pin: u64 },
    Pin { blob: u8, pin: u64 },
    Collect { now: u64 },
    Retain { age: u64, runs_max: u64, batch_max: u32 },
    PutModule(u8),
    DeleteModule(u8),
    Follow { limit: u32 },
    Adopt,
    Reopen,
}

fn write() -> impl Strategy<Value = Write> {
    let key = proptest::option::of((0..2_u8, 0..2_u8));
    prop_oneof![
        4 => (1..=RUNS, 0..BLOBS, 0..BLOBS, prop::bool::weighted(0.7), key).prop_map(
            |(run, module, stdin, brings, key)| Write::Insert { run, module, stdin, brings, key }
        ),
        2 => (1..=RUNS, prop::bool::weighted(0.2), 1..4_u32)
            .prop_map(|(run, stale, number)| Write::Attempt { run, stale, number }),
        4 => (
            (1..=RUNS, prop::bool::weighted(0.2)),
            (0..BLOBS, proptest::option::of(0..BLOBS), prop::bool::weighted(0.7)),
            prop::option::weighted(0.4, (1..=RUNS, any::<bool>())),
        )
            .prop_map(|((run, stale), (stdout, dissent, brings), source)| {
                Write::Finish { run, stale, stdout, dissent, brings, source }
            }),
        3 => (1..=RUNS, prop::bool::weighted(0.2), prop::bool::weighted(0.2), 0..BLOBS, prop::bool::weighted(0.7))
            .prop_map(|(run, stale, skips, stdout, brings)| Write::Correct { run, stale, skips, stdout, brings }),
    ]
}

/// Any step.
pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(write(), 1..5).prop_map(Step::Batch),
        2 => (0..BLOBS, 0..10_u64).prop_map(|(blob, pin)| Step::Put { blob, pin }),
        1 => (0..BLOBS, 0..10_u64).prop_map(|(blob, pin)| Step::Pin { blob, pin }),
        3 => (0..10_u64).prop_map(|now| Step::Collect { now }),
        2 => (0..30_u64, 0..4_u64, 1..4_u32)
            .prop_map(|(age, runs_max, batch_max)| Step::Retain { age, runs_max, batch_max }),
        1 => (0..BLOBS).prop_map(Step::PutModule),
        1 => (0..BLOBS).prop_map(Step::DeleteModule),
        3 => (1..3_u32).prop_map(|limit| Step::Follow { limit }),
        1 => Just(Step::Adopt),
        1 => Just(Step::Reopen),
    ]
}
