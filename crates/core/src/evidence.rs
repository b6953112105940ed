//! What is known of a worker's honesty: a log of evidence, and the number that follows from it.
//!
//! [`Standing`] is a pure fold over the evidence of one (worker, class), in order and in integers, so every coordinator
//! computes the same number from the same log. Reliability (crashes, timeouts, losses) never changes it: a machine that
//! dies often is not thereby a liar. Formulas: Sarmenta 2001, spot checks with blacklisting.

use super::Time;

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
}

impl Evidence {
    /// The name that the store and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Evidence::Confirmed { .. } => "confirmed",
            Evidence::LoneDissent => "lone_dissent",
            Evidence::Collusion => "collusion",
            Evidence::Readmitted => "readmitted",
        }
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
}

/// The day of an instant, counted from the Unix epoch.
pub fn day_of(at: Time) -> u32 {
    u32::try_from(at.0 / DAY_US).unwrap_or(u32::MAX)
}

impl Standing {
    /// The standing that a whole log gives, its entries in order.
    pub fn of(log: impl IntoIterator<Item = (Time, Evidence)>) -> Standing {
        log.into_iter().fold(Standing::default(), |standing, (at, evidence)| standing.with(at, evidence))
    }

    /// The standing after one more entry.
    pub fn with(self, at: Time, evidence: Evidence) -> Standing {
        let mut after = self.aged(day_of(at));
        match evidence {
            Evidence::Confirmed { count, .. } => {
                after.k_milli = (after.k_milli + u64::from(count) * 1_000).min(K_MILLI_MAX);
            }
            Evidence::LoneDissent => (after.k_milli, after.suspect_since) = (0, Some(after.day)),
            Evidence::Collusion => after.k_milli = 0,
            Evidence::Readmitted => (after.k_milli, after.suspect_since) = (0, None),
        }
        after
    }

    /// The standing on a later day; an earlier one changes nothing (clocks of coordinators differ).
    pub fn aged(self, day: u32) -> Standing {
        if day <= self.day {
            return self;
        }
        let mut k_milli = self.k_milli;
        if self.k_milli > 0 {
            for _ in 0..(day - self.day).min(DAYS_MAX) {
                k_milli = k_milli * DAY_LEAVES_PPB / ONE_PPB;
            }
        }
        Standing { k_milli, day, ..self }
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

    #[test]
    fn thirty_days_leave_half_and_a_fault_leaves_nothing() {
        let start = Standing::of([(on(100), confirmed(400))]);
        let half = start.aged(130).k_milli;
        assert!(half.abs_diff(200_000) < 60, "{half}");
        assert_eq!(start.aged(100).aged(110).aged(130), start.aged(130), "in steps or at once");
        assert_eq!(start.aged(99), start, "a clock that lags changes nothing");
        assert_eq!(start.aged(100 + 20_000).k_milli, 0);
        let dissented = start.with(on(101), Evidence::LoneDissent);
        assert_eq!((dissented.k_milli, dissented.suspect_since), (0, Some(101)));
        assert!(dissented.is_suspect(on(131)) && !dissented.is_suspect(on(132)));
        assert!(!start.is_suspect(on(101)));
        let readmitted = dissented.with(on(102), Evidence::Readmitted);
        assert_eq!((readmitted.k_milli, readmitted.suspect_since), (0, None));
        assert_eq!(start.with(on(100), confirmed(5_000)).k_milli, K_MILLI_MAX);
        assert_eq!(start.with(on(100), Evidence::Collusion).k_milli, 0);
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
            let folded = Standing::of(log.iter().map(|(day, evidence)| (on(*day), *evidence)));
            let exact = naive(&log);
            prop_assert!((folded.k_milli as f64 / 1_000.0 - exact).abs() < 0.5, "{folded:?} {exact}");
            prop_assert!(folded.k_milli <= K_MILLI_MAX);
        }

        #[test]
        fn more_confirmations_never_make_it_worse(f in 1u64..900_000_000, k in 0u64..2_000_000, more in 0u64..100_000) {
            prop_assert!(error_ppb(f, k + more) <= error_ppb(f, k).max(ERROR_MIN_PPB));
        }
    }
}
