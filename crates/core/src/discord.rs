//! Whether a module gives different results, where no arbiter is there to ask.
//!
//! Three results in one run, each named by a trusted worker of another fault domain, are a sign of it, or of two liars. Liars
//! are outvoted by those that are asked next, and seldom lie about the same run. So the run goes on by its votes, and the
//! module is called nondeterministic only
//!
//! - after [`DIVISIONS_MIN`] such runs among the last [`WINDOW`] of it that were compared: one that is nondeterministic is
//!   divided nearly always, one that liars attack agrees nearly always, and
//! - if no two trust domains, and no two workers, explain them all: whichever two lied, the others differ in one of them. Where
//!   fewer than four are trusted, and fewer than four voted, any two would, and it is not asked.
//!
//! As long as little is known of a module, a division blames nobody; and once it is called nondeterministic, what those that
//! are remembered said against anybody is taken back. It is all kept in memory and bounded: after a restart a module has the
//! same few runs to show what it is.

use std::collections::{BTreeSet, VecDeque};

use super::credibility::{Rule, Weighing, split};
use super::explain::Note;
use super::floor::Floor;
use super::frame::Patience;
use super::quorum::Tally;
use super::run::Run;
use vocabulary::id::{AttemptId, Class, RunId, WorkerId};

/// Divided runs after which a module is called nondeterministic.
pub(super) const DIVISIONS_MIN: usize = 3;
/// Compared runs of a module that are looked at.
pub(super) const WINDOW: u64 = 24;
/// Compared runs of a module for each divided one, from which on that is taken for the fault of those that lost.
const COMPARED_FOR_EACH: u64 = WINDOW / DIVISIONS_MIN as u64;
/// Votes without which there can be no division.
const VOTES_MIN: usize = 3;
/// Those that are blamed for one divided run and remembered: more than its voters and those of the final before.
const BLAMED_MAX: usize = 64;

/// What a trusted worker named in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Voice {
    place: u32,
    /// See [`super::workers::Crew::steady_domain`]: who else is there at the moment does not change it.
    domain: u32,
    /// A number for the result.
    result: u8,
}

/// A vote that somebody was blamed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Blamed {
    pub worker: WorkerId,
    pub attempt: AttemptId,
    /// As what it voted.
    pub class: Class,
}

/// A run in which trusted workers named at least three results.
struct Division {
    run: RunId,
    /// Its place among the compared runs of the module.
    at: u64,
    said: Vec<Voice>,
    /// Who was blamed for it, when it was decided all the same.
    blamed: Vec<Blamed>,
}

impl Division {
    /// Whether all agree but two, or those of two domains.
    fn is_explained_by(&self, liars: [u32; 2], whose: impl Fn(&Voice) -> u32) -> bool {
        let mut others = self.said.iter().filter(|voice| !liars.contains(&whose(voice)));
        let first = others.next();
        others.all(|voice| first.is_some_and(|first| first.result == voice.result))
    }
}

/// What comparisons say of one module.
#[derive(Default)]
pub(super) struct Discord {
    /// Runs that were compared so far.
    compared: u64,
    /// Those of the last [`WINDOW`] that were divided, the oldest first.
    divisions: VecDeque<Division>,
}

impl Discord {
    /// One result of a run won. If it had been divided, it stays so.
    pub(super) fn agreed(&mut self, run: RunId) {
        if !self.is_divided(run) {
            self.compared += 1;
            self.forget();
        }
    }

    /// Trusted workers named so much of a run; the divided ones that are remembered, if this is a new one.
    fn divided(&mut self, run: RunId, said: Vec<Voice>) -> Option<usize> {
        if let Some(known) = self.divisions.iter_mut().find(|known| known.run == run) {
            known.said = said;
            return None;
        }
        self.compared += 1;
        self.divisions.push_back(Division { run, at: self.compared, said, blamed: Vec::new() });
        self.forget();
        Some(self.divisions.len())
    }

    fn is_divided(&self, run: RunId) -> bool {
        self.divisions.iter().any(|known| known.run == run)
    }

    fn forget(&mut self) {
        while self.divisions.front().is_some_and(|oldest| oldest.at + WINDOW <= self.compared) {
            self.divisions.pop_front();
        }
    }

    /// Whether that is enough, where so many fault domains are trusted now.
    fn is_enough(&self, trusted: usize) -> bool {
        self.divisions.len() >= DIVISIONS_MIN
            && !self.do_two_explain_it(trusted, |voice| voice.place)
            && !self.do_two_explain_it(trusted, |voice| voice.domain)
    }

    /// Whether two of them may have lied, and nobody else. Of all that are to be told apart, those that voted count whether they
    /// are there now or not: otherwise two would wait until the others are away.
    fn do_two_explain_it(&self, trusted: usize, whose: impl Fn(&Voice) -> u32) -> bool {
        let of = |division: &Division| division.said.iter().map(&whose).collect::<BTreeSet<u32>>();
        let all: BTreeSet<u32> = self.divisions.iter().flat_map(of).collect();
        if all.len() < 2 || all.len().max(trusted) < 4 {
            return false;
        }
        // who explains it all explains the first one too, so that one of them voted there
        let first = self.divisions.front().map(of).unwrap_or_default();
        let explain = |liars| self.divisions.iter().all(|it| it.is_explained_by(liars, &whose));
        first.iter().any(|one| all.iter().any(|two| explain([*one, *two])))
    }

    /// Somebody is blamed for a run, if it is one of those that were divided.
    pub(super) fn blamed(&mut self, blamed: Blamed) {
        if let Some(known) = self.divisions.iter_mut().find(|known| known.run == blamed.attempt.run)
            && known.blamed.len() < BLAMED_MAX
        {
            known.blamed.push(blamed);
        }
    }

    /// All that were blamed for divided runs that are remembered, once.
    pub(super) fn take_blamed(&mut self) -> Vec<Blamed> {
        self.divisions.iter_mut().flat_map(|division| std::mem::take(&mut division.blamed)).collect()
    }

    /// Whether those that lost in a divided run may be blamed for it: the module agrees otherwise.
    pub(super) fn blames(&self) -> bool {
        self.divisions.len() as u64 * COMPARED_FOR_EACH <= self.compared.min(WINDOW)
    }
}

impl Floor {
    /// Remembers a division of a run; calls its module nondeterministic if that is once too often.
    pub(super) fn watch_discord(&mut self, run: &mut Run) {
        if run.arbiters > 0 || run.voted.len() < VOTES_MIN || self.modules[run.module].is_nondeterministic {
            return;
        }
        let said = split(&run.opinions());
        if said.is_empty() {
            return;
        }
        let voice = |(worker, result): (WorkerId, u8)| {
            let place = self.crew.place(worker)?;
            Some(Voice { place: place as u32, domain: self.crew.steady_domain(place), result })
        };
        let said: Vec<Voice> = said.into_iter().filter_map(voice).collect();
        let results = said.iter().map(|voice| voice.result).collect::<BTreeSet<_>>().len();
        let trusted = self.crew.trusted_domains(self.now);
        let discord = &mut self.modules[run.module].discord;
        let divisions = discord.divided(run.id, said);
        if discord.is_enough(trusted) {
            self.call_nondeterministic(run);
        } else if let Some(divisions) = divisions {
            self.note(run, Note::Divided { results, divisions });
        }
    }

    /// Whether a run is divided, executed by nobody, and nobody is there any more, or away for a moment, whose vote could
    /// decide it: it does not wait for others, as there may be none.
    pub(super) fn is_divided_for_good(&self, run: &Run, tally: &Tally) -> bool {
        let is_open =
            matches!(tally, Tally::Open { .. }) && run.live() == 0 && !run.is_held && !self.is_grace();
        is_open
            && run.rule().is_some()
            && run.voted.len() >= VOTES_MIN
            && !split(&run.opinions()).is_empty()
            && run.frame().is_some_and(|frame| !self.may_decide(run, frame, Patience::AWhile))
    }
}

/// Of a module that was called nondeterministic a division is the end of a run.
pub(super) fn ends_divided(rule: &Rule, votes: &[super::Opinion]) -> Option<Weighing> {
    (rule.is_nondeterministic && !split(votes).is_empty()).then_some(Weighing::Nondeterministic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in which each of these domains named what stands beside it.
    fn discord(runs: &[&[(u32, u8)]]) -> Discord {
        let mut discord = Discord::default();
        for (run, said) in (0..).zip(runs) {
            discord.divided(RunId(run), voices(said));
        }
        discord
    }

    fn voices(said: &[(u32, u8)]) -> Vec<Voice> {
        said.iter()
            .map(|(domain, result)| Voice { place: *domain, domain: *domain, result: *result })
            .collect()
    }

    #[test]
    fn three_divided_runs_are_enough_and_the_same_two_liars_are_not() {
        let all_differ: &[(u32, u8)] = &[(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)];
        assert!(!discord(&[all_differ; 2]).is_enough(9));
        assert!(discord(&[all_differ; 3]).is_enough(9));
        let two_lie = |first, second, honest| [(first, 1), (second, 2), (honest, 0), (honest + 1, 0)];
        let [a, b, c] = [two_lie(1, 2, 3), two_lie(2, 1, 7), two_lie(1, 2, 5)];
        assert!(!discord(&[&a, &b, &c]).is_enough(9), "1 and 2 explain it all");
        let other = two_lie(1, 8, 3);
        assert!(discord(&[&a, &b, &other]).is_enough(9));
        let three: &[(u32, u8)] = &[(1, 0), (2, 1), (3, 2)];
        assert!(discord(&[three; 3]).is_enough(3), "nobody else is trusted");
        assert!(!discord(&[three; 3]).is_enough(4));
    }

    #[test]
    fn who_is_there_at_the_moment_does_not_make_two_liars_believed() {
        // nobody but three is there when the third division comes
        let two_lie = |honest| [(1, 1), (2, 2), (honest, 0), (honest + 1, 0)];
        let [a, b, c] = [two_lie(3), two_lie(5), two_lie(7)];
        assert!(!discord(&[&a, &b, &c]).is_enough(3));
        // two workers of a domain that was alone then, and two of others now
        let mut discord = Discord::default();
        for run in 0..3 {
            let said = [(1, 1), (2, 2), (3 + run, 0), (6, 0)];
            let said = said.map(|(place, result)| Voice { place, domain: 100 + run, result });
            discord.divided(RunId(u128::from(run)), said.to_vec());
        }
        assert!(!discord.is_enough(3), "1 and 2 explain it all");
    }

    #[test]
    fn a_module_that_agrees_otherwise_is_not_called_anything() {
        let said: &[(u32, u8)] = &[(1, 0), (2, 1), (3, 2), (4, 3)];
        for (agreed_between, is_enough) in [(10, true), (11, false)] {
            let mut discord = Discord::default();
            for division in 0..3 {
                discord.divided(RunId(division), voices(said));
                let others = if division < 2 { agreed_between } else { 0 };
                (0..others).for_each(|run| discord.agreed(RunId(100 + run)));
            }
            assert_eq!(discord.is_enough(9), is_enough, "{agreed_between}");
        }
        let mut discord = discord(&[said]);
        assert!(!discord.blames());
        assert_eq!(discord.divided(RunId(0), voices(said)), None, "one more vote of the same run");
        (0..7).for_each(|run| discord.agreed(RunId(100 + run)));
        assert!(discord.blames(), "it agrees otherwise");
    }
}
