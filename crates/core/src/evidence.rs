//! What is known of a worker's honesty: a log of evidence, and the number that follows from it.
//!
//! [`Standing`] is a pure fold over the evidence of one (worker, class), in order and in integers, so every coordinator
//! computes the same number from the same log. Reliability (crashes, timeouts, losses) never changes it: a machine that
//! dies often is not thereby a liar. Formulas: Sarmenta 2001, spot checks with blacklisting.

use super::Time;
use vocabulary::id::RunId;

/// Certainty, in parts per billion.
pub const ONE_PPB: u64 = 1_000_000_000;
/// No worker is trusted further: silent hardware errors are as frequent as that.
pub const ERROR_MIN_PPB: u64 = 100_000;
/// Confirmations, in thousandths, beyond which more prove nothing.
pub const K_MILLI_MAX: u64 = 1_000_000;
/// Below so many confirmations (in thousandths) a worker never stands alone.
pub const PROVEN_K_MILLI: u64 = 10_000;
/// A second lone dissent within so many days of the first one ends in quarantine.
pub const SUSPECT_DAYS: u32 = 30;

/// Faults of integrity that a standing keeps apart, so that each can be taken back. One that is out for good has more.
pub const LAPSES_MAX: usize = 4;

/// 1/e in parts per billion.
const INVERSE_E_PPB: u128 = 367_879_441;
/// 2^(-1/30) in parts per billion: what a day leaves of the confirmations, so that 30 days leave half.
const DAY_LEAVES_PPB: u64 = 977_159_968;
/// After so many days nothing is left of any number of confirmations (1,000 · 2^(-20) is below a thousandth).
const DAYS_MAX: u32 = 600;
const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Who confirmed a result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Witness {
    /// A worker of another fault domain computed the same.
    Peer,
    /// A trusted executor of the operator did.
    Arbiter,
    /// The golden corpus, at the beginning of a session.
    Golden,
}

/// One entry of a worker's log. Evidence belongs to the class that the worker had.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Evidence {
    /// So many of its results were confirmed.
    Confirmed {
        /// How many.
        count: u32,
        /// By whom.
        by: Witness,
    },
    /// Its result lost, and nobody else had named the same.
    LoneDissent,
    /// Its result lost, and another worker had named the very same wrong one.
    Collusion,
    /// An operator lets it begin anew, as a newcomer.
    Readmitted,
    /// Its result of a run had been right after all: what the run said against it is taken back.
    Absolved,
}

impl Evidence {
    /// The name that the store and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Evidence::Confirmed { .. } => "confirmed",
            Evidence::LoneDissent => "lone_dissent",
            Evidence::Collusion => "collusion",
            Evidence::Readmitted => "readmitted",
            Evidence::Absolved => "absolved",
        }
    }
}

/// A fault of integrity that may turn out to have been none, and what it took.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lapse {
    /// The run that showed it.
    pub run: RunId,
    /// Whether nobody else had named the same.
    pub is_lone: bool,
    /// When, in days since the Unix epoch.
    pub day: u32,
    /// The confirmations that were lost by it, in thousandths; they age like others.
    pub k_milli: u64,
    /// The day of the lone dissent before it.
    pub suspect_before: Option<u32>,
}

impl Lapse {
    /// Whether a worker is quarantined for it.
    fn condemns(&self) -> bool {
        let is_second = |before: u32| self.day.saturating_sub(before) <= SUSPECT_DAYS;
        !self.is_lone || self.suspect_before.is_some_and(is_second)
    }
}

/// What a worker's log of evidence says, as of a day.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Standing {
    /// Confirmations since the last fault of integrity, aged, in thousandths; at most [`K_MILLI_MAX`].
    pub k_milli: u64,
    /// The day of the last lone dissent, in days since the Unix epoch.
    pub suspect_since: Option<u32>,
    /// The day up to which `k_milli` has aged.
    pub day: u32,
    /// Faults of integrity that were not taken back, the oldest first; whatever is behind a `None` is none.
    pub lapses: [Option<Lapse>; LAPSES_MAX],
    /// Whether there are more, which nothing takes back but an operator.
    pub has_more: bool,
}

/// The day of an instant, counted from the Unix epoch.
pub fn day_of(at: Time) -> u32 {
    u32::try_from(at.0 / DAY_US).unwrap_or(u32::MAX)
}

impl Standing {
    /// The standing that a whole log gives, its entries in order, each with the run that it is about.
    pub fn of(log: impl IntoIterator<Item = (Time, Option<RunId>, Evidence)>) -> Standing {
        let with = |standing: Standing, (at, about, evidence)| standing.with(at, about, evidence);
        log.into_iter().fold(Standing::default(), with)
    }

    /// The standing after one more entry, about a run if it is about one.
    pub fn with(self, at: Time, about: Option<RunId>, evidence: Evidence) -> Standing {
        let mut after = self.aged(day_of(at));
        match evidence {
            Evidence::Confirmed { count, .. } => {
                after.k_milli = (after.k_milli + u64::from(count) * 1_000).min(K_MILLI_MAX);
            }
            Evidence::LoneDissent => {
                after.lapse(about, true);
                after.suspect_since = Some(after.day);
            }
            Evidence::Collusion => after.lapse(about, false),
            Evidence::Readmitted => after = Standing { day: after.day, ..Standing::default() },
            Evidence::Absolved => after.absolve(about),
        }
        after
    }

    /// Loses its confirmations by a fault of integrity. What a run says twice in a row, because its end was lost with the
    /// process that told it, is said once.
    fn lapse(&mut self, about: Option<RunId>, is_lone: bool) {
        let (day, k_milli) = (self.day, std::mem::take(&mut self.k_milli));
        let newest = self.lapses.iter_mut().rev().flatten().next();
        if let Some(newest) = newest.filter(|newest| Some(newest.run) == about && !self.has_more) {
            newest.k_milli = (newest.k_milli + k_milli).min(K_MILLI_MAX);
            newest.is_lone &= is_lone;
            return;
        }
        let is_over = |lapse: Lapse| !lapse.condemns() && day.saturating_sub(lapse.day) > SUSPECT_DAYS;
        if self.lapses[LAPSES_MAX - 1].is_some() && self.lapses[0].is_some_and(is_over) {
            self.lapses[0] = None;
            self.lapses.rotate_left(1);
        }
        let place = self.lapses.iter().position(Option::is_none).filter(|_| !self.has_more);
        match about.zip(place) {
            Some((run, place)) => {
                let suspect_before = self.suspect_since;
                self.lapses[place] = Some(Lapse { run, is_lone, day, k_milli, suspect_before });
            }
            None => self.has_more = true,
        }
    }

    /// Takes back what a run said against it: the log as if that entry had never been there.
    fn absolve(&mut self, about: Option<RunId>) {
        let is_it = |lapse: &Option<Lapse>| lapse.is_some_and(|lapse| Some(lapse.run) == about);
        let Some(place) = self.lapses.iter().rposition(is_it) else { return };
        let Some(taken) = self.lapses[place].take() else { return };
        let sum = |k_milli: u64| (k_milli + taken.k_milli).min(K_MILLI_MAX);
        let is_open = !self.has_more;
        match self.lapses.get_mut(place + 1).and_then(Option::as_mut) {
            Some(next) => next.k_milli = sum(next.k_milli),
            None if is_open => self.k_milli = sum(self.k_milli),
            // what came after it is not known one by one
            None => {}
        }
        // up to the next lone dissent it was the last one
        let mut later = self.lapses[place + 1..].iter_mut().flatten();
        let next_lone = later.find_map(|lapse| {
            lapse.suspect_before = taken.suspect_before;
            lapse.is_lone.then_some(())
        });
        if next_lone.is_none() && is_open {
            self.suspect_since = taken.suspect_before;
        }
        self.lapses[place..].rotate_left(1);
    }

    /// What is left of it where the same worker executes something else: what it did wrong, and no confirmation.
    pub fn unproven(self) -> Standing {
        let mut left = Standing { k_milli: 0, ..self };
        for lapse in left.lapses.iter_mut().flatten() {
            lapse.k_milli = 0;
        }
        left
    }

    /// Whether what was not taken back is enough for a quarantine.
    pub fn condemns(&self) -> bool {
        self.has_more || self.lapses.iter().flatten().any(Lapse::condemns)
    }

    /// The standing on a later day; an earlier one changes nothing (clocks of coordinators differ).
    pub fn aged(self, day: u32) -> Standing {
        if day <= self.day {
            return self;
        }
        let days = (day - self.day).min(DAYS_MAX);
        let mut aged = Standing { k_milli: faded(self.k_milli, days), day, ..self };
        for lapse in aged.lapses.iter_mut().flatten() {
            lapse.k_milli = faded(lapse.k_milli, days);
        }
        aged
    }

    /// Whether a lone dissent at `at` is the second one within [`SUSPECT_DAYS`].
    pub fn is_suspect(&self, at: Time) -> bool {
        self.suspect_since.is_some_and(|since| day_of(at).saturating_sub(since) <= SUSPECT_DAYS)
    }

    /// The probability that the worker's next result is wrong, in parts per billion.
    pub fn error_ppb(&self, prior: Prior) -> u64 {
        error_ppb(prior.faulty_ppb(), self.k_milli)
    }
}

/// What so many days leave of confirmations.
fn faded(mut k_milli: u64, days: u32) -> u64 {
    if k_milli > 0 {
        for _ in 0..days {
            k_milli = k_milli * DAY_LEAVES_PPB / ONE_PPB;
        }
    }
    k_milli
}

/// What is assumed of a worker before there is evidence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Prior {
    /// Somebody else's machine.
    Foreign,
    /// The operator's own.
    Owned,
}

impl Prior {
    /// The share of such workers that is assumed to cheat, in parts per billion.
    pub fn faulty_ppb(self) -> u64 {
        match self {
            Prior::Foreign => 200_000_000,
            Prior::Owned => 20_000_000,
        }
    }
}

/// The probability of error after `k_milli` thousandths of a confirmation where the share `faulty_ppb` cheats:
/// f / ((1 − f) · e · k), `f` at most, and [`ERROR_MIN_PPB`] at least; rounded up.
pub fn error_ppb(faulty_ppb: u64, k_milli: u64) -> u64 {
    let good = u128::from(ONE_PPB - faulty_ppb.min(ONE_PPB - 1));
    let error = if k_milli < 1_000 {
        u128::from(faulty_ppb)
    } else {
        (u128::from(faulty_ppb) * INVERSE_E_PPB * 1_000).div_ceil(good * u128::from(k_milli))
    };
    (error as u64).min(faulty_ppb).max(ERROR_MIN_PPB)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TENTH: u64 = 100_000_000;
    const FIFTH: u64 = 200_000_000;

    fn on(day: u64) -> Time {
        Time(day * DAY_US)
    }

    fn confirmed(count: u32) -> Evidence {
        Evidence::Confirmed { count, by: Witness::Peer }
    }

    #[test]
    fn the_numbers_of_the_reference() {
        let alone = |f, k: u64| error_ppb(f, k * 1_000) <= 1_000_000;
        assert!(alone(TENTH, 41) && !alone(TENTH, 40), "1e-3 alone at f = .1");
        assert!(alone(FIFTH, 92) && !alone(FIFTH, 91), "1e-3 alone at f = .2");
        assert_eq!(error_ppb(FIFTH, 0), FIFTH);
        assert_eq!(error_ppb(FIFTH, 500), FIFTH, "half a confirmation is none");
        assert_eq!(error_ppb(20_000_000, K_MILLI_MAX), ERROR_MIN_PPB, "the cap");
        let sarmenta = |f: f64, k: f64| f / ((1.0 - f) * std::f64::consts::E * k);
        for k in [1, 2, 10, 100, 900] {
            let exact = sarmenta(0.2, k as f64) * 1e9;
            assert!((error_ppb(FIFTH, k * 1_000) as f64 - exact).abs() <= 2.0, "k = {k}");
        }
    }

    /// An entry about a run of its own.
    fn entry(at: u64, run: u128, evidence: Evidence) -> (Time, Option<RunId>, Evidence) {
        (on(at), Some(RunId(run)), evidence)
    }

    #[test]
    fn thirty_days_leave_half_and_a_fault_leaves_nothing() {
        let start = Standing::of([entry(100, 0, confirmed(400))]);
        let half = start.aged(130).k_milli;
        assert!(half.abs_diff(200_000) < 60, "{half}");
        assert_eq!(start.aged(100).aged(110).aged(130), start.aged(130), "in steps or at once");
        assert_eq!(start.aged(99), start, "a clock that lags changes nothing");
        assert_eq!(start.aged(100 + 20_000).k_milli, 0);
        let about = Some(RunId(1));
        let dissented = start.with(on(101), about, Evidence::LoneDissent);
        assert_eq!((dissented.k_milli, dissented.suspect_since), (0, Some(101)));
        assert!(dissented.is_suspect(on(131)) && !dissented.is_suspect(on(132)));
        assert!(!start.is_suspect(on(101)));
        let readmitted = dissented.with(on(102), None, Evidence::Readmitted);
        assert_eq!(readmitted, Standing { day: 102, ..Standing::default() });
        assert_eq!(start.with(on(100), about, confirmed(5_000)).k_milli, K_MILLI_MAX);
        assert_eq!(start.with(on(100), about, Evidence::Collusion).k_milli, 0);
    }

    #[test]
    fn what_a_run_said_is_taken_back_and_nothing_else() {
        let log = [
            entry(100, 1, confirmed(30)),
            entry(101, 2, Evidence::LoneDissent),
            entry(101, 3, confirmed(5)),
            entry(102, 4, Evidence::LoneDissent),
        ];
        let out = Standing::of(log);
        assert!(out.condemns() && out.k_milli == 0);
        let absolved = |standing: Standing, run| standing.with(on(102), Some(RunId(run)), Evidence::Absolved);
        assert_eq!(absolved(out, 9), out, "no such run");
        for (first, second) in [(2, 4), (4, 2)] {
            let one_left = absolved(out, first);
            assert!(!one_left.condemns(), "one lone dissent makes a suspect");
            assert_eq!(one_left.suspect_since, Some(if first == 2 { 102 } else { 101 }));
            let clean = absolved(one_left, second);
            let never = Standing::of([log[0], log[2]]).aged(102);
            assert_eq!((clean.suspect_since, clean.lapses), (None, never.lapses));
            assert!(clean.k_milli.abs_diff(never.k_milli) < 10, "{clean:?} {never:?}");
            assert_eq!(absolved(clean, second), clean, "once");
        }
        // two that named the same: only that run takes it back
        let colluded = Standing::of([log[0], log[1], entry(101, 7, Evidence::Collusion)]);
        assert!(colluded.condemns() && absolved(colluded, 2).condemns() && !absolved(colluded, 7).condemns());
        // one that lies again and again is out for good
        let liar = (1..9).fold(out, |liar, run| liar.with(on(102), Some(RunId(run)), Evidence::Collusion));
        assert!(liar.has_more && (1..9).fold(liar, absolved).condemns());
        let readmitted = liar.with(on(103), None, Evidence::Readmitted);
        assert_eq!(readmitted, Standing { day: 103, ..Standing::default() });
    }

    #[test]
    fn what_a_run_says_twice_is_said_once() {
        let log = [entry(100, 1, confirmed(30)), entry(101, 2, Evidence::LoneDissent)];
        let twice = Standing::of(log.into_iter().chain([log[1]]));
        assert_eq!(twice, Standing::of(log));
        assert!(!twice.condemns());
        let again = twice.with(on(101), Some(RunId(3)), Evidence::LoneDissent);
        assert!(again.condemns(), "another run says something else");
        let colluded = twice.with(on(101), Some(RunId(2)), Evidence::Collusion);
        assert!(colluded.condemns(), "and so does it, if it says worse");
    }

    #[test]
    fn a_lone_dissent_of_long_ago_makes_room_for_another() {
        let log = (0..20).map(|number| entry(number * 40, number.into(), Evidence::LoneDissent));
        let standing = Standing::of(log);
        assert!(!standing.condemns() && standing.lapses.iter().all(Option::is_some), "{standing:?}");
    }

    fn any_evidence() -> impl Strategy<Value = Evidence> {
        prop_oneof![
            6 => (1u32..300).prop_map(confirmed),
            1 => Just(Evidence::LoneDissent),
            1 => Just(Evidence::Collusion),
            1 => Just(Evidence::Readmitted),
        ]
    }

    /// The fold once more in floating point: k ages by 2^(-days/30).
    fn naive(log: &[(u64, Evidence)]) -> f64 {
        let (mut k, mut last) = (0.0f64, 0);
        for (day, evidence) in log {
            k *= 2f64.powf(-((day - last) as f64) / 30.0);
            last = *day;
            k = match evidence {
                Evidence::Confirmed { count, .. } => (k + f64::from(*count)).min(1_000.0),
                Evidence::LoneDissent | Evidence::Collusion | Evidence::Readmitted => 0.0,
                Evidence::Absolved => k,
            };
        }
        k
    }

    proptest! {
        #[test]
        fn the_fold_agrees_with_the_naive_one(
            steps in prop::collection::vec((0u64..20, any_evidence()), 0..40)
        ) {
            let mut day = 0;
            let log: Vec<(u64, Evidence)> = steps.into_iter().map(|(after, evidence)| {
                day += after;
                (day, evidence)
            }).collect();
            let folded = Standing::of(log.iter().map(|(day, evidence)| entry(*day, 1, *evidence)));
            let exact = naive(&log);
            prop_assert!((folded.k_milli as f64 / 1_000.0 - exact).abs() < 0.5, "{folded:?} {exact}");
            prop_assert!(folded.k_milli <= K_MILLI_MAX);
        }

        /// As if the entries had never been there.
        #[test]
        fn what_is_taken_back_was_never_there(
            steps in prop::collection::vec((0u64..9, 0u8..8, any::<bool>()), 0..30)
        ) {
            let (mut day, mut log, mut back) = (0, Vec::new(), Vec::new());
            for (number, (after, kind, is_taken_back)) in steps.into_iter().enumerate() {
                day += after;
                let evidence = match kind {
                    0 => Evidence::LoneDissent,
                    1 => Evidence::Collusion,
                    _ => confirmed(u32::from(kind)),
                };
                log.push((day, number as u128, evidence));
                if kind < 2 && is_taken_back {
                    back.push(number as u128);
                }
            }
            let all = log.iter().map(|(day, run, evidence)| entry(*day, *run, *evidence));
            let full = Standing::of(all.chain(back.iter().map(|run| entry(day, *run, Evidence::Absolved))));
            let rest: Vec<_> = log.iter().filter(|(_, run, _)| !back.contains(run)).collect();
            let less = Standing::of(rest.iter().map(|(day, run, evidence)| entry(*day, *run, *evidence)));
            let last_day = u32::try_from(day).unwrap();
            let lapses = log.iter().filter(|(.., evidence)| !matches!(evidence, Evidence::Confirmed { .. }));
            if lapses.count() <= LAPSES_MAX {
                prop_assert!(full.k_milli.abs_diff(less.aged(last_day).k_milli) < 100, "{full:?} {less:?}");
                prop_assert_eq!(full.suspect_since, less.suspect_since);
                prop_assert_eq!(full.condemns(), less.condemns());
            } else {
                prop_assert!(full.condemns() || !less.condemns(), "{full:?} {less:?}");
            }
        }

        #[test]
        fn more_confirmations_never_make_it_worse(f in 1u64..900_000_000, k in 0u64..2_000_000, more in 0u64..100_000) {
            prop_assert!(error_ppb(f, k + more) <= error_ppb(f, k).max(ERROR_MIN_PPB));
        }
    }
}
