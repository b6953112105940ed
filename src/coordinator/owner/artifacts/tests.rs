//! Who teaches what.

use std::sync::Arc;

use super::*;
use crate::core::Time;
use crate::id::{Epoch, RunId, WorkerId};
use crate::result::{RunState, Verdict};

fn code(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn class() -> Class {
    Class(Digest::of(b"code class"))
}

fn classes() -> Classes {
    Classes::alike(class())
}

fn spec(profile: Profile) -> RunSpec {
    RunSpec { profile, ..RunSpec::new(Digest::of(b"module")) }
}

/// A winning vote of a worker, which sits in this domain and executed this.
fn vote(worker: u32, domain: &str, artifact: &str) -> CastVote {
    CastVote {
        number: worker,
        worker: WorkerId(worker),
        key: [0; 32],
        domain: domain.to_owned(),
        nonce: [0; 16],
        class: Class(Digest::EMPTY),
        code: class(),
        artifact: code(artifact),
        result: Digest::EMPTY,
        proof: None,
        weight: None,
    }
}

/// A final for which the first `winners` workers voted.
fn agreed(winners: u32) -> Final {
    let voted = |number: u32| AttemptRecord {
        number,
        worker: WorkerId(number),
        state: AttemptState::Voted { result: Digest::EMPTY, outcome: None, won: Some(number <= winners) },
        assigned_at: Time(1),
        begun_at: None,
        ended_at: None,
        cpu_us: 0,
    };
    Final {
        run: RunId(1),
        epoch: Epoch(1),
        revision: 1,
        state: RunState::Succeeded,
        reason: None,
        outcome: None,
        verdict: Verdict { kind: VerdictKind::Agreed, votes: winners, dissenters: vec![] },
        result: Some(Digest::EMPTY),
        votes: vec![],
        error_ppb: None,
        attempts: (1..=9).map(voted).collect(),
        explain: Arc::default(),
        finished_at: Time(1),
        shared_with: None,
    }
}

/// Whether a stranger's vote for this machine code is taken.
fn takes(artifacts: &mut Artifacts, profile: Profile, artifact: &str) -> bool {
    artifacts.check(classes(), Trust::Stranger, &spec(profile), code(artifact)).is_ok()
}

fn learns(artifacts: &mut Artifacts, votes: &[CastVote], winners: u32, trusted: &[u32]) {
    let trust = |vote: &CastVote| match trusted.contains(&vote.worker.0) {
        true => Trust::Operator,
        false => Trust::Stranger,
    };
    artifacts.learn(&spec(Profile::Det1Portable), votes, &agreed(winners), trust);
}

#[test]
fn strangers_teach_nothing_however_many_domains_agree() {
    let mut artifacts = Artifacts::default();
    let votes = [vote(1, "a", "wrong"), vote(2, "b", "wrong"), vote(3, "c", "wrong")];
    learns(&mut artifacts, &votes, 3, &[]);
    assert!(takes(&mut artifacts, Profile::Det1Portable, "right"), "no honest vote is refused for it");
    assert!(takes(&mut artifacts, Profile::Det1Portable, "wrong"));
    learns(&mut artifacts, &[vote(1, "a", "right"), vote(2, "b", "wrong")], 2, &[1]);
    assert!(!takes(&mut artifacts, Profile::Det1Portable, "wrong"), "an operator's machine says otherwise");
    assert!(takes(&mut artifacts, Profile::Det1Portable, "right"));
    assert!(takes(&mut artifacts, Profile::Det1, "other"), "another profile is other machine code");
}

#[test]
fn where_two_that_are_trusted_differ_nothing_is_learnt_and_what_lost_teaches_nothing() {
    let mut artifacts = Artifacts::default();
    let votes = [vote(1, "a", "x"), vote(2, "b", "y"), vote(3, "c", "y")];
    learns(&mut artifacts, &votes, 3, &[1, 2]);
    assert!(takes(&mut artifacts, Profile::Det1Portable, "z"));
    learns(&mut artifacts, &votes, 1, &[2]);
    assert!(takes(&mut artifacts, Profile::Det1Portable, "z"), "one has won, and it is a stranger");
    let unchecked = Final { verdict: Verdict::default(), ..agreed(2) };
    artifacts.learn(&spec(Profile::Det1Portable), &votes, &unchecked, |_| Trust::Operator);
    assert!(takes(&mut artifacts, Profile::Det1Portable, "z"), "nothing was compared");
}

#[test]
fn an_operators_machine_teaches_alone_and_is_not_refused_for_what_strangers_say() {
    let mut artifacts = Artifacts::default();
    learns(&mut artifacts, &[vote(1, "a", "wrong"), vote(2, "b", "wrong")], 2, &[]);
    let spec = spec(Profile::Det1Portable);
    assert!(artifacts.check(classes(), Trust::Operator, &spec, code("right")).is_ok());
    learns(&mut artifacts, &[vote(3, "c", "right"), vote(4, "d", "right")], 4, &[3]);
    assert!(takes(&mut artifacts, Profile::Det1Portable, "right"));
    assert!(!takes(&mut artifacts, Profile::Det1Portable, "wrong"));
    learns(&mut artifacts, &[vote(1, "a", "wrong"), vote(2, "b", "wrong")], 2, &[]);
    assert!(!takes(&mut artifacts, Profile::Det1Portable, "wrong"), "they do not unteach it");
}

#[test]
fn what_this_process_compiled_is_never_replaced() {
    let mut artifacts = Artifacts::default();
    let spec = spec(Profile::Det1Portable);
    learns(&mut artifacts, &[vote(1, "a", "wrong")], 1, &[1]);
    assert!(artifacts.check(classes(), Trust::Own, &spec, code("right")).is_ok());
    learns(&mut artifacts, &[vote(1, "a", "wrong"), vote(2, "b", "wrong")], 2, &[1, 2]);
    assert_eq!(artifacts.check(classes(), Trust::Operator, &spec, code("wrong")), Err(code("right")));
    assert!(!takes(&mut artifacts, Profile::Det1Portable, "wrong"));
    let other = Classes::alike(Class(Digest::EMPTY));
    assert!(
        artifacts.check(other, Trust::Stranger, &spec, code("wrong")).is_ok(),
        "another class is other code"
    );
}
