//! What the adaptive policies cost and what gets past them: the real pool, with workers that lie.
//!
//! `LOCKSTEP_FIGURES=full cargo nextest run -p lockstep-core --release --test figures --no-capture` prints the whole table
//! (100 workers, 100,000 runs, 10 seeds for each row); without it the same rows are made smaller.

mod behaviour;
mod driver;
#[path = "../simulation/rng.rs"]
#[expect(dead_code, reason = "the simulation uses more of it")]
mod rng;

use behaviour::Behaviour;
use driver::{Case, Figures};
use vocabulary::spec::Verify;

/// How large the worlds are.
struct Size {
    runs: u64,
    seeds: u64,
}

fn size() -> Size {
    match std::env::var("LOCKSTEP_FIGURES").as_deref() {
        Ok("full") => Size { runs: 100_000, seeds: 10 },
        Ok("one") => Size { runs: 100_000, seeds: 1 },
        _ => Size { runs: 12_000, seeds: 1 },
    }
}

fn is_full() -> bool {
    size().runs >= 100_000
}

/// Lives through a case with every seed and prints its row; the sum of all seeds.
fn figures(name: &str, case: &Case) -> Figures {
    let mut all = Figures::default();
    for seed in 0..size().seeds {
        all.add(&driver::live(case, size().runs, seed));
    }
    println!("{}", all.row(name, case));
    all
}

fn case(cheats: u32, behaviour: Behaviour, arbiters: u32) -> Case {
    Case { workers: 100, cheats, behaviour, arbiters, verify: Verify::Standard, warm_k: 0 }
}

/// What holds for every row. Without an arbiter two sleepers can outvote an honest worker; it is let in again when they are
/// caught and the result is corrected.
fn check(all: &Figures, arbiters: u32) {
    assert_eq!(all.unfinished, 0, "everything ends: {all:?}");
    if is_full() {
        // the smaller worlds end before all of those are caught that outvoted somebody
        assert_eq!(all.honest_quarantined, all.rehabilitated, "nobody honest stays out: {all:?}");
    }
    if arbiters > 0 {
        assert_eq!(all.honest_quarantined, 0, "nobody honest is quarantined: {all:?}");
        assert_eq!(all.undecided, 0, "an arbiter settles everything: {all:?}");
        assert_eq!(all.left, 0, "repair leaves nothing: {all:?}");
    }
}

#[test]
fn an_honest_pool_pays_little() {
    println!("{}", Figures::heading());
    for arbiters in [0, 2] {
        let cold = figures("honest, cold", &case(0, Behaviour::Honest, arbiters));
        check(&cold, arbiters);
        assert!(cold.arbiter_percent() <= 2.0 || !is_full(), "{cold:?}");
        assert!(cold.attempts_per_run() <= 1.15 || !is_full(), "{cold:?}");
        let warm = Case { warm_k: 400, ..case(0, Behaviour::Honest, arbiters) };
        let warm = figures("honest, warm", &warm);
        check(&warm, arbiters);
        assert!(warm.attempts_per_run() <= 1.05 && warm.arbiter_percent() <= 2.0, "{warm:?}");
    }
}

#[test]
fn colluders_that_always_cheat_get_nothing_past() {
    println!("{}", Figures::heading());
    for arbiters in [0, 2] {
        let all =
            figures("20 collude always", &case(20, Behaviour::Colludes { percent: 100, after: 0 }, arbiters));
        check(&all, arbiters);
        assert_eq!((all.exposed, all.caught), (0, all.cheats), "{all:?}");
        assert!(all.attempts_per_run() <= 1.15 || !is_full(), "{all:?}");
    }
}

#[test]
fn colluders_that_cheat_on_a_tenth_are_caught_soon() {
    println!("{}", Figures::heading());
    for arbiters in [0, 2] {
        let all =
            figures("20 collude on 10 %", &case(20, Behaviour::Colludes { percent: 10, after: 0 }, arbiters));
        check(&all, arbiters);
        assert_eq!(all.caught, all.cheats, "{all:?}");
        if arbiters > 0 {
            assert!(all.all_caught_after <= 5_000, "{all:?}");
            assert!(all.exposed_percent() <= 0.02 || !is_full(), "{all:?}");
            assert!(all.attempts_per_run() <= 1.15 || !is_full(), "{all:?}");
            assert!(all.arbiter_percent() <= 9.0 || !is_full(), "{all:?}");
        }
    }
}

#[test]
fn lone_liars_that_cheat_on_a_tenth_are_caught_and_nothing_of_it_stays() {
    println!("{}", Figures::heading());
    for arbiters in [0, 2] {
        let case = case(20, Behaviour::Lone { percent: 10 }, arbiters);
        let all = figures("20 lie alone, 10 %", &case);
        check(&all, arbiters);
        assert_eq!(
            all.miscalled, 0,
            "three lies about one run are no module that is not deterministic: {all:?}"
        );
        assert_eq!((all.left, all.caught, all.honest_quarantined), (0, all.cheats, 0), "{all:?}");
        assert!(all.all_caught_after <= 5_000, "{all:?}");
        assert!(arbiters == 0 || all.exposed_percent() <= 0.002, "{all:?}");
        assert_eq!(all.honest_quarantined, 0, "{all:?}");
    }
}

#[test]
fn sleepers_expose_little_and_nothing_of_it_stays() {
    println!("{}", Figures::heading());
    let sleepers = Behaviour::Colludes { percent: 10, after: 300 };
    for arbiters in [0, 2] {
        let all = figures("20 sleepers", &case(20, sleepers, arbiters));
        if is_full() {
            // the smaller world ends before they have all woken up
            check(&all, arbiters);
            assert_eq!(all.caught, all.cheats, "{all:?}");
        }
        if arbiters > 0 && is_full() {
            assert!(all.exposed_percent() <= 0.15, "{all:?}");
            assert!(all.attempts_per_run() <= 1.15 && all.arbiter_percent() <= 9.0, "{all:?}");
        }
        let high = Case { verify: Verify::High, ..case(20, sleepers, arbiters) };
        let high = figures("20 sleepers, high", &high);
        if arbiters > 0 && is_full() {
            check(&high, arbiters);
            // a handful of results in a world decides, so the bound is one of the average over all of them
            assert!(high.exposed_percent() <= 0.002 || size().seeds < 10, "{high:?}");
        }
    }
}

#[test]
fn parrots_and_dice_are_caught_and_bad_memory_is_not_a_crime() {
    println!("{}", Figures::heading());
    for arbiters in [0, 2] {
        for (name, behaviour) in [("20 parrots", Behaviour::Parrot), ("20 throw dice", Behaviour::Random)] {
            let all = figures(name, &case(20, behaviour, arbiters));
            check(&all, arbiters);
            assert_eq!((all.left, all.caught), (0, all.cheats), "{all:?}");
        }
        let flips = figures("flips, 1e-4", &case(0, Behaviour::Flips, arbiters));
        assert_eq!(flips.honest_quarantined, 0, "{flips:?}");
        assert!(flips.exposed_percent() <= 0.01 || !is_full(), "{flips:?}");
    }
}
