//! Why one of several results won: read from the attempts, the arbiters among their workers, and the decisions in words.
//!
//! Pure. The words are those that the core explains itself with; a test holds the two together.

use std::collections::BTreeSet;

use crate::coordinator::service::StoredRun;
use crate::core::{AttemptState, Explained};
use crate::digest::Digest;
use crate::id::WorkerId;
use crate::protocol::api::{Arbitration, Outvoted};
use crate::spec::Verify;

/// A vote: number of the attempt, whose, for what.
type Voted = (u32, WorkerId, Digest);

fn votes(run: &StoredRun) -> Vec<Voted> {
    let vote = |attempt: &crate::core::AttemptRecord| match attempt.state {
        AttemptState::Voted { result, .. } => Some((attempt.number, attempt.worker, result)),
        _ => None,
    };
    run.attempts.iter().filter_map(vote).collect()
}

/// What the arbiters found, if one of them executed it.
pub fn arbitration(run: &StoredRun, arbiters: &BTreeSet<WorkerId>) -> Option<Arbitration> {
    let (trusted, others): (Vec<Voted>, Vec<Voted>) =
        votes(run).into_iter().partition(|(_, worker, _)| arbiters.contains(worker));
    let mut results: Vec<Digest> = Vec::new();
    for (.., result) in &trusted {
        if !results.contains(result) {
            results.push(*result);
        }
    }
    let first = results.first()?;
    let agreed_with = match results.len() {
        1 => others.iter().filter(|(.., result)| result == first).map(|(number, ..)| *number).collect(),
        _ => Vec::new(),
    };
    Some(Arbitration { executions: trusted.len() as u32, agreed_with, results })
}

/// Which rule decided, as a sentence without its full stop.
pub fn rule(run: &StoredRun, arbitration: Option<&Arbitration>) -> String {
    let texts: Vec<String> = run.explain.iter().map(Explained::text).collect();
    let last = |what: &str| texts.iter().rev().find(|text| text.contains(what)).cloned();
    let Some(won) = run.result else {
        return last("failed (").unwrap_or_else(|| "no result was decided".to_owned());
    };
    let votes = votes(run);
    // whatever was asked for, a correction is decided by credibility
    let verify = match run.policy.verify.epsilon_ppb() {
        None if run.revision > 1 => Verify::Standard,
        _ => run.policy.verify,
    };
    let is_disputed = votes.iter().any(|(.., result)| *result != won);
    if let Some(found) = arbitration.filter(|found| found.executions >= 2 && is_disputed)
        && found.results == [won]
    {
        let times = found.executions;
        return format!(
            "the votes differed: arbiters executed it {times} times, named {} each time, and that decides",
            won.short()
        );
    }
    match verify {
        Verify::Once => "`once`: the first result is taken, nothing is compared".to_owned(),
        Verify::Quorum { n } => format!(
            "`quorum:{n}`: {} equal votes decide once {n} are in, and {} named {}",
            n / 2 + 1,
            votes.iter().filter(|(.., result)| *result == won).count(),
            won.short()
        ),
        Verify::Standard | Verify::High => {
            let weighed = last(LEAVE).or_else(|| last(" is vouched for by "));
            let weighed = weighed.unwrap_or_else(|| "the votes were weighed".to_owned());
            format!("`{verify}`: {weighed}")
        }
    }
}

/// How the core says what the votes are worth.
const LEAVE: &str = "the votes leave an error of ";

/// Those whose result did not win, and what followed for them.
pub fn outvoted(run: &StoredRun) -> Vec<Outvoted> {
    let texts: Vec<String> = run.explain.iter().map(Explained::text).collect();
    let lost = votes(run).into_iter().filter(|(.., result)| Some(*result) != run.result);
    let said = lost.map(|(attempt, worker, result)| {
        let (blamed, why) = verdict_on(worker, run.result.is_some(), &texts);
        Outvoted { attempt, worker, result, blamed, why }
    });
    said.collect()
}

fn verdict_on(worker: WorkerId, has_result: bool, texts: &[String]) -> (bool, String) {
    let names = |text: &&String| {
        let rest = text.strip_prefix(&worker.to_string());
        rest.is_some_and(|rest| {
            rest.starts_with(" alone named another result")
                || rest.contains(" more named the very same wrong result")
        })
    };
    if let Some(text) = texts.iter().find(names) {
        return (true, text.clone());
    }
    if let Some(text) = texts.iter().find(|text| text.starts_with("nobody is blamed")) {
        return (false, text.clone());
    }
    let why = match has_result {
        false => "no result won, so nobody is blamed",
        true => "it was not compared, or its worker was out already",
    };
    (false, why.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::coordinator::testing::new_run;
    use crate::core::{AttemptRecord, Time};
    use crate::result::{RunState, Verdict, VerdictKind};

    fn digest(of: u8) -> Digest {
        Digest::from_bytes([of; 32])
    }

    fn vote(number: u32, worker: u32, result: u8) -> AttemptRecord {
        let result = digest(result);
        AttemptRecord {
            number,
            worker: WorkerId(worker),
            state: AttemptState::Voted { result, outcome: None, won: None },
            assigned_at: Time(0),
            begun_at: None,
            ended_at: None,
            cpu_us: 0,
        }
    }

    fn run(verify: Verify, votes: &[(u32, u8)], won: Option<u8>, said: &[&str]) -> StoredRun {
        let new = new_run();
        let numbered = (1..).zip(votes);
        StoredRun {
            id: new.id,
            workspace: new.workspace,
            epoch: new.epoch,
            state: RunState::Succeeded,
            reason: None,
            spec: new.spec,
            run_key: new.run_key,
            policy: crate::spec::Policy { verify, ..new.policy },
            revision: 1,
            outcome: None,
            verdict: Verdict { kind: VerdictKind::Agreed, votes: 0, dissenters: Vec::new() },
            result: won.map(digest),
            manifest: None,
            attempts: numbered.map(|(number, (worker, result))| vote(number, *worker, *result)).collect(),
            explain: Arc::new(said.iter().map(|text| Explained::kept(Time(1), *text)).collect()),
            dissents: Vec::new(),
            rerun_of: None,
            created_at: Time(1),
            finished_at: Some(Time(2)),
            source: None,
            corrected_at: None,
            verification: None,
        }
    }

    #[test]
    fn an_arbiter_that_agrees_with_itself_decides() {
        let arbiters = BTreeSet::from([WorkerId(9)]);
        let votes = [(1, 1), (2, 2), (9, 1), (9, 1)];
        let lone = "w2 alone named another result: it loses its confirmations and is suspect";
        let run = run(Verify::Standard, &votes, Some(1), &["w1 voted", lone]);
        let found = arbitration(&run, &arbiters).unwrap();
        let expected = Arbitration { executions: 2, agreed_with: vec![1], results: vec![digest(1)] };
        assert_eq!(found, expected);
        assert!(rule(&run, Some(&found)).contains("executed it 2 times, named 01010101"));
        let [out] = &outvoted(&run)[..] else { panic!("one lost") };
        assert_eq!((out.attempt, out.worker, out.blamed, out.why.as_str()), (2, WorkerId(2), true, lone));
        assert_eq!(arbitration(&run, &BTreeSet::new()), None, "nobody is an arbiter");
    }

    #[test]
    fn one_that_contradicts_itself_blames_nobody() {
        let arbiters = BTreeSet::from([WorkerId(9)]);
        let said = [
            "nobody is blamed: the module gives different results where it is trusted",
            "failed (nondeterministic): executions that are trusted gave different results",
        ];
        let run = run(Verify::Standard, &[(1, 1), (2, 2), (9, 1), (9, 2)], None, &said);
        let found = arbitration(&run, &arbiters).unwrap();
        assert_eq!((found.executions, found.agreed_with.len(), found.results.len()), (2, 0, 2));
        assert_eq!(rule(&run, Some(&found)), said[1]);
        let all = outvoted(&run);
        assert!(all.len() == 4 && all.iter().all(|out| !out.blamed && out.why == said[0]), "{all:?}");
    }

    #[test]
    fn counted_and_weighed_votes_name_their_rule() {
        let counted = run(Verify::Quorum { n: 3 }, &[(1, 1), (2, 2), (3, 1)], Some(1), &[]);
        assert_eq!(
            rule(&counted, None),
            "`quorum:3`: 2 equal votes decide once 3 are in, and 2 named 01010101"
        );
        assert!(!outvoted(&counted)[0].blamed);
        let said = ["the votes leave an error of 0.00000016, and 0.001 is allowed"];
        let weighed = run(Verify::Standard, &[(1, 1), (2, 1), (12, 2)], Some(1), &said);
        assert_eq!(rule(&weighed, None), format!("`standard`: {}", said[0]));
        let said =
            ["w12 and 1 more named the very same wrong result, which is no accident: it is quarantined"];
        let colluded = run(Verify::Standard, &[(1, 1), (2, 2), (12, 2)], Some(1), &said);
        let blamed: Vec<bool> = outvoted(&colluded).iter().map(|out| out.blamed).collect();
        assert_eq!(blamed, [false, true], "w1 is no w12");
        let corrected = StoredRun { revision: 2, ..run(Verify::Once, &[(3, 1)], Some(1), &said) };
        assert_eq!(rule(&corrected, None), "`standard`: the votes were weighed");
        let open = run(Verify::Quorum { n: 2 }, &[(1, 1), (2, 2)], None, &["failed (no quorum): too few"]);
        assert_eq!(rule(&open, None), "failed (no quorum): too few");
        assert_eq!(outvoted(&open)[0].why, "no result won, so nobody is blamed");
    }
}
