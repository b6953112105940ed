//! The real pool in seeded virtual worlds.
//!
//! `LOCKSTEP_SEEDS=10000` lives through so many worlds instead of the smaller number of the suite, `LOCKSTEP_SEEDS=10000..20000` through these. `LOCKSTEP_SEED=n` runs one seed and prints what happens, one line per event: time, event, and behind arrows the effects. With `LOCKSTEP_MUTANT=CountsLateVotes` the test of the broken rules shows that one: how often as what it is noticed, or with `LOCKSTEP_SEED` one world of it.

mod agents;
mod codes;
mod credibility;
mod oracle;
mod rng;
mod shim;
mod starvation;
mod store;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use shim::Mutant;
use world::World;

/// Worlds of one run of the suite, unless `LOCKSTEP_SEEDS` asks for more.
const SEEDS: u64 = 3_000;
/// Worlds that break a rule and are told before a batch gives up: they seldom have as many causes.
const BROKEN_MAX: usize = 10;
/// Worlds in which a broken rule must have been noticed.
const MUTANT_SEEDS: u64 = 3_000;

/// Worlds in which nothing but restarts goes wrong.
const RESTART_SEEDS: u64 = 1_000;

/// States that are rare and that the whole batch must have seen, or the generator has gone blind.
const RARE: [&str; 62] = [
    "a cancel in time",
    "a cancel that came after the final",
    "a coordinator that was away",
    "a crash that allows no rerun",
    "a deadline passed",
    "a dispute that a further vote resolved",
    "a dissenter",
    "a dissenter that had been right",
    "a grace that ended early",
    "a draining worker",
    "a drained worker that came back",
    "a final that was confirmed",
    "a final that was corrected",
    "a full queue",
    "a hedge",
    "a lone dissenter",
    "a nondeterministic module",
    "a result that an arbiter settled",
    "a result that one vouched for",
    "a run verified anew that waited for its turn",
    "a vote that lost its weight",
    "a worker quarantined for its votes",
    "an audit",
    "an attempt that was handed back",
    "a final whose blobs were gone",
    "a follower that was executed after all",
    "a follower whose leader was canceled or expired",
    "a message that found no room",
    "a module quarantined by an operator",
    "a module quarantined by the poison rule",
    "a module that was refused",
    "a module that was readmitted",
    "a poisoned run",
    "a quarantined worker",
    "a recovered run took an attempt back",
    "a refused write",
    "a rerun",
    "a restart while finals were verified anew",
    "a restart with work in flight",
    "a run lost",
    "a run that was held back for the whole grace",
    "a run of a quarantined module",
    "a run of a refused module",
    "a run that shared attempts",
    "a run timed out",
    "a session that broke within the grace",
    "a slow attempt",
    "a stuck attempt",
    "a submission of a quarantined module",
    "a suspect worker",
    "a suspect worker that was heard of again",
    "a vote after the final",
    "a vote on a run that is gone",
    "a vote on an attempt that had ended",
    "a voter did not deliver",
    "a worker returned holding attempts",
    "a worker that was readmitted before it was back",
    "a worker that was let in again",
    "a worker that stayed broken",
    "no quorum: disputed",
    "no quorum: too few workers",
    "the next voter delivered",
];

/// The worlds that `LOCKSTEP_SEEDS` asks for, or those of the suite.
fn asked() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("LOCKSTEP_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().expect("LOCKSTEP_SEEDS is a number, or two with `..` between");
    match asked.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&asked),
    }
}

fn live_through(
    seed: u64,
    mutant: Option<Mutant>,
    trace: bool,
) -> Result<BTreeMap<&'static str, u64>, String> {
    catch_unwind(AssertUnwindSafe(|| World::new(seed, mutant, trace).run())).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", said.unwrap_or_else(|| "without words".to_owned())))
    })
}

#[test]
fn the_invariants_hold_in_every_world() {
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    // a failing seed is repeated alone, with its trace
    let only: Option<u64> = std::env::var("LOCKSTEP_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or_else(asked, |seed| seed..seed + 1);
    let mut broken = Vec::new();
    for seed in seeds.clone() {
        match live_through(seed, None, only.is_some()) {
            Ok(world) => world.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count),
            Err(rule) => broken.push(format!(
                "seed {seed}: {rule}\nreproduce: LOCKSTEP_SEED={seed} cargo nextest run -p lockstep-core --test simulation \
                 --no-capture the_invariants_hold_in_every_world"
            )),
        }
        if broken.len() >= BROKEN_MAX {
            break;
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    if only.is_none() {
        println!("{seen:#?}");
        let unseen: Vec<&str> = RARE.into_iter().filter(|what| !seen.contains_key(what)).collect();
        assert!(unseen.is_empty(), "the worlds {seeds:?} never saw {unseen:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..30 {
        assert_eq!(live_through(seed, None, false), live_through(seed, None, false), "seed {seed}");
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    let only = std::env::var("LOCKSTEP_MUTANT").ok();
    let is_asked = |mutant: &Mutant| only.as_ref().is_none_or(|only| *only == format!("{mutant:?}"));
    for mutant in Mutant::ALL.into_iter().filter(is_asked).filter(|mutant| *mutant != Mutant::ForgetsHolds) {
        if only.is_some() {
            return show(mutant);
        }
        let noticed = |seed| live_through(seed, Some(mutant), false).err().map(|rule| (seed, rule));
        let Some((seed, broken)) = (0..MUTANT_SEEDS).find_map(noticed) else {
            panic!("{mutant:?} was not noticed in {MUTANT_SEEDS} worlds")
        };
        let is_right = mutant.noticed_as().iter().any(|invariant| broken.starts_with(invariant));
        assert!(is_right, "{mutant:?} was noticed as something else (seed {seed}): {broken}");
    }
}

/// Shows how a broken rule is noticed: in one world with its trace, or how often as what.
fn show(mutant: Mutant) {
    if let Some(seed) = std::env::var("LOCKSTEP_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:?}", live_through(seed, Some(mutant), true));
        return;
    }
    let mut as_what: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for seed in 0..MUTANT_SEEDS {
        if let Err(broken) = live_through(seed, Some(mutant), false) {
            let what = broken.split(':').next().unwrap_or_default().to_owned();
            as_what.entry(what).or_insert((0, seed)).0 += 1;
        }
    }
    as_what
        .iter()
        .for_each(|(what, (times, first))| println!("{what}: {times} times, first with seed {first}"));
}

/// What becomes of the attempts that run when a coordinator is killed and all workers come back within the grace.
fn kept_by_restarts(mutant: Option<Mutant>, seeds: u64) -> world::Kept {
    let mut all = world::Kept::default();
    let only = std::env::var("LOCKSTEP_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let world = World::of_restarts(seed, mutant, only.is_some()).live();
        let world = world.unwrap_or_else(|broken| {
            panic!(
                "restarts, seed {seed}: {broken}\nreproduce: LOCKSTEP_SEED={seed} cargo nextest run --test simulation \
                 --no-capture a_restart_keeps_what_runs_and_doubles_nothing"
            )
        });
        let kept = world.kept;
        all.running += kept.running;
        all.kept += kept.kept;
        all.doubled += kept.doubled;
    }
    all
}

#[test]
fn a_restart_keeps_what_runs_and_doubles_nothing() {
    let kept = kept_by_restarts(None, RESTART_SEEDS);
    println!("{kept:?}");
    if std::env::var_os("LOCKSTEP_SEED").is_some() {
        return;
    }
    assert!(kept.running > 1_000, "the worlds execute something: {kept:?}");
    assert!(kept.kept * 100 >= kept.running * 99, "{kept:?}");
    assert_eq!(kept.doubled, 0, "{kept:?}");
    let broken = kept_by_restarts(Some(Mutant::ForgetsHolds), RESTART_SEEDS / 10);
    assert_eq!(broken.kept, 0, "a pool that does not look keeps nothing: {broken:?}");
}
