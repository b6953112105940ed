//! Runs of `det-1-portable` through the whole pool: who is compared with whom.

use super::*;
use vocabulary::result::{Trap, VerdictKind};

pub(super) fn class(number: u8) -> Class {
    Class(Digest::from_bytes([number; 32]))
}

/// A machine of a class of its own for `det-1`, which gives the portable results of all, by this machine code.
pub(super) fn machine(number: u32, code: u8) -> Joining {
    let portable = Portable { results: class(100), code: class(code) };
    Joining { class: class(number as u8), portable, ..joining(number) }
}

pub(super) fn portable(run: u128, verify: Verify) -> Submission {
    Submission { profile: Profile::Det1Portable, ..submission(run, 7, verify) }
}

fn pool(codes: &[u8]) -> Bench {
    let mut bench = Bench::start(&[]);
    (1..).zip(codes).for_each(|(number, code)| bench.join(machine(number, *code)));
    bench
}

/// A vote for a stack that overflowed.
pub(super) fn overflow(bench: &mut Bench, number: u32, by: u32, result: u8) {
    let outcome = Outcome::Trapped { trap: Trap::StackOverflow };
    let (attempt, worker) = (attempt(5, number), worker(by));
    let vote = Vote { outcome, ..vote(result) };
    bench.step(Event::AttemptVoted { attempt, epoch: Epoch(7), worker, vote });
}

/// Whether the vote of a worker won, if it was compared.
fn won(last: &Final, by: u32) -> Option<bool> {
    let record = last.attempts.iter().find(|record| record.worker == worker(by)).expect("it had an attempt");
    let AttemptState::Voted { won, .. } = record.state else { panic!("it voted: {record:?}") };
    won
}

fn evidence(bench: &Bench) -> Vec<u32> {
    let of = |effect: &Effect| match effect {
        Effect::Evidence { worker, .. } | Effect::Dissented { worker, .. } => Some(worker.0),
        _ => None,
    };
    bench.effects.iter().filter_map(of).collect()
}

#[test]
fn machines_of_different_classes_vote_together_under_the_portable_profile_only() {
    let mut bench = pool(&[1, 2, 3]);
    let refused = bench.refused(submission(4, 7, Verify::Quorum { n: 2 }));
    assert_eq!(refused, SubmitError::TooFewWorkers { wanted: 2, there: 1 });
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    assert_eq!(voters.len(), 2);
    for (_, number, epoch, by) in voters {
        bench.vote(5, number, epoch, by, 9);
    }
    let last = bench.last_final().expect("they agree");
    assert_eq!((last.state, last.verdict.votes), (RunState::Succeeded, 2));
    let views = bench.pool.workers();
    assert!(views.iter().all(|view| (view.peers, view.portable_peers) == (0, 2)), "{views:?}");
}

#[test]
fn a_different_portable_build_is_not_compared() {
    let mut bench = pool(&[1]);
    bench.join(Joining { portable: Portable::alike(class(200)), ..machine(2, 1) });
    let refused = bench.refused(portable(5, Verify::Quorum { n: 2 }));
    assert_eq!(refused, SubmitError::TooFewWorkers { wanted: 2, there: 1 });
}

#[test]
fn a_stack_that_overflows_everywhere_is_verified_within_one_machine_code() {
    // 1 and 3 execute other code than 2 and 4
    let mut bench = pool(&[1, 2, 1, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    assert_eq!((voters[0].3, voters[1].3), (1, 2), "the roomiest ones, in order");
    overflow(&mut bench, voters[0].1, 1, 9);
    assert!(bench.assigned().is_empty(), "what the other one finds is awaited");
    overflow(&mut bench, voters[1].1, 2, 9);
    assert!(bench.last_final().is_none(), "they are of different code");
    assert!(bench.says(5, "a stack overflowed, and where it does depends on"), "{:?}", bench.explained(5));
    let again = bench.assigned();
    assert_eq!(again.iter().map(|it| it.3).collect::<Vec<_>>(), [3], "a peer in machine code of the first");
    overflow(&mut bench, again[0].1, 3, 9);
    let last = bench.last_final().expect("they agree");
    assert_eq!((last.state, last.verdict.kind), (RunState::Failed, VerdictKind::Agreed));
    assert_eq!((last.verdict.votes, last.verdict.dissenters.len()), (2, 0));
    assert_eq!(evidence(&bench), [1, 3], "both are confirmed, nobody is blamed");
    assert_eq!(won(last, 2), None, "it neither won nor lost");
}

#[test]
fn where_one_code_overflows_and_another_does_not_the_run_has_the_answer_of_one_and_blames_nobody() {
    // whoever comes third decides it
    for (third_overflows, votes_of) in [(true, [1, 3]), (false, [2, 3])] {
        let codes = if third_overflows { [1, 2, 1, 2] } else { [1, 2, 2, 1] };
        let mut bench = pool(&codes);
        bench.submit(portable(5, Verify::Quorum { n: 2 }));
        let voters = bench.assigned();
        overflow(&mut bench, voters[0].1, 1, 9);
        bench.vote(5, voters[1].1, 7, 2, 8);
        let third = bench.assigned();
        assert_eq!(third.iter().map(|it| it.3).collect::<Vec<_>>(), [3], "anybody may be asked");
        match third_overflows {
            true => overflow(&mut bench, third[0].1, 3, 9),
            false => bench.vote(5, third[0].1, 7, 3, 8),
        }
        let last = bench.last_final().expect("one of both has its votes");
        assert_eq!(last.state == RunState::Failed, third_overflows);
        assert_eq!((last.verdict.kind, last.verdict.votes), (VerdictKind::Agreed, 2));
        assert!(last.verdict.dissenters.is_empty());
        assert_eq!(evidence(&bench), votes_of);
    }
}

#[test]
fn a_lone_claim_of_an_overflow_binds_a_run_to_nothing() {
    // 1 lies, and nobody else executes its code
    let mut bench = pool(&[1, 2, 3]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    overflow(&mut bench, voters[0].1, 1, 9);
    bench.vote(5, voters[1].1, 7, 2, 8);
    let third = bench.assigned();
    bench.vote(5, third[0].1, 7, 3, 8);
    let last = bench.last_final().expect("the others agree");
    assert_eq!((last.state, last.verdict.votes), (RunState::Succeeded, 2));
    assert!(last.verdict.dissenters.is_empty(), "nobody knows whether it lied");
    assert_eq!(won(last, 1), None);
    assert_eq!(evidence(&bench), [2, 3]);
}

#[test]
fn a_claim_of_an_overflow_is_a_dissent_where_two_domains_of_its_code_say_otherwise() {
    for (codes, dissenters) in [([1, 1, 1, 2], vec![worker(1)]), ([1, 1, 2, 2], vec![])] {
        let mut bench = pool(&codes);
        bench.submit(portable(5, Verify::Quorum { n: 3 }));
        let voters = bench.assigned();
        overflow(&mut bench, voters[0].1, 1, 9);
        bench.vote(5, voters[1].1, 7, 2, 8);
        bench.vote(5, voters[2].1, 7, 3, 8);
        if dissenters.is_empty() {
            let fourth = bench.assigned();
            bench.vote(5, fourth[0].1, 7, 4, 8);
        }
        let last = bench.last_final().expect("three votes are compared, and two agree");
        assert_eq!(last.state, RunState::Succeeded);
        assert_eq!(last.verdict.dissenters, dissenters, "one peer's word would be one against one");
    }
}

#[test]
fn two_that_say_they_are_of_a_code_are_no_proof_against_two_that_are() {
    // 3 and 4 only say that they execute what 1 and 2 do
    let mut bench = pool(&[1, 1, 1, 1, 2, 2, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 5 }));
    for round in 0.. {
        assert!(round < 10, "it ends");
        for (_, number, epoch, by) in bench.assigned() {
            match by {
                1 | 2 => overflow(&mut bench, number, by, 9),
                _ => bench.vote(5, number, epoch, by, 8),
            }
        }
        if let Some(last) = bench.last_final() {
            assert_eq!((last.state, last.verdict.votes), (RunState::Succeeded, 5));
            assert!(last.verdict.dissenters.is_empty(), "{:?}", last.verdict);
            assert_eq!((won(last, 1), won(last, 2)), (None, None));
            break;
        }
    }
    assert_eq!([bench.standing(1), bench.standing(2)], [WorkerStanding::Active; 2]);
}

#[test]
fn two_strangers_that_claim_an_overflow_do_not_choose_who_is_asked() {
    // 1 and 2 made up a class of their own; 1 and 4 are asked first
    let mut bench = Bench::start(&[]);
    let of = |number, domain: &str, code| Joining { domain: domain.to_owned(), ..machine(number, code) };
    for (number, domain, code) in [(1, "a", 9), (4, "d", 1), (2, "b", 9), (3, "c", 1), (5, "e", 2)] {
        bench.join(of(number, domain, code));
    }
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    assert_eq!(voters.iter().map(|it| it.3).collect::<Vec<_>>(), [1, 4]);
    overflow(&mut bench, voters[0].1, 1, 9);
    bench.vote(5, voters[1].1, 7, 4, 8);
    let third = bench.assigned();
    assert_eq!(third[0].3, 2, "by chance");
    let mut honest = bench;
    // it confirms the lie: that is a majority of its class, as two colluders have it under `quorum: 2` anywhere
    overflow(&mut honest, third[0].1, 2, 9);
    assert_eq!(honest.last_final().expect("they agree").state, RunState::Failed);
}

/// Worker 1 says in ten runs that the stack of their modules overflowed, and nobody else does.
fn claims_alone(bench: &mut Bench, module_of: impl Fn(u8) -> u8) {
    for run in 1..=10 {
        assert_eq!(bench.standing(1), WorkerStanding::Active, "before run {run}");
        let module = Digest::from_bytes([module_of(run); 32]);
        let run = u128::from(run);
        bench.submit(Submission { module, ..portable(run, Verify::Quorum { n: 3 }) });
        let mut voters = bench.assigned();
        voters.sort_by_key(|it| it.3);
        let claim = Vote { outcome: Outcome::Trapped { trap: Trap::StackOverflow }, ..vote(9) };
        for (_, number, epoch, by) in voters {
            let vote = if by == 1 { claim.clone() } else { vote(8) };
            let (attempt, epoch, worker) = (attempt(run, number), Epoch(epoch), worker(by));
            bench.step(Event::AttemptVoted { attempt, epoch, worker, vote });
        }
        bench.join(machine(4, 4));
        let (_, number, epoch, by) = bench.assigned()[0];
        bench.vote(run, number, epoch, by, 8);
        assert!(bench.last_final().is_some());
        bench.step(Event::WorkerLeft { worker: worker(4) });
        (1..=3).for_each(|number| bench.step(Event::Credits { worker: worker(number), credits: 4 }));
    }
    assert_eq!(bench.pool.worker(worker(1)).unwrap().evidence, Standing::default(), "that is no blame");
}

#[test]
fn claims_of_overflows_of_many_modules_that_nobody_confirms_end_in_a_drain() {
    let mut bench = pool(&[1, 2, 3]);
    claims_alone(&mut bench, |run| run);
    assert_eq!(bench.standing(1), WorkerStanding::Draining);
}

#[test]
fn a_module_that_overflows_in_one_machine_code_only_drains_nobody() {
    let mut bench = pool(&[1, 2, 3]);
    claims_alone(&mut bench, |run| run % 2);
    assert_eq!(bench.standing(1), WorkerStanding::Active);
}

/// Lets everybody vote on a run of one module, 1 for an overflow; who was asked.
fn one_claims(bench: &mut Bench, run: u128, n: u8) -> Vec<u32> {
    let numbers: Vec<u32> = bench.pool.workers().iter().map(|view| view.worker.0).collect();
    numbers.iter().for_each(|number| bench.step(Event::Credits { worker: worker(*number), credits: 4 }));
    bench.effects.clear();
    bench.submit(portable(run, Verify::Quorum { n }));
    let mut asked = Vec::new();
    for _ in 0..10 {
        for (_, number, epoch, by) in bench.assigned() {
            asked.push(by);
            let claim = Vote { outcome: Outcome::Trapped { trap: Trap::StackOverflow }, ..vote(9) };
            let vote = if by == 1 { claim } else { vote(8) };
            let (attempt, epoch, worker) = (attempt(run, number), Epoch(epoch), worker(by));
            bench.step(Event::AttemptVoted { attempt, epoch, worker, vote });
        }
        if let Some(last) = bench.last_final() {
            assert_eq!(last.state, RunState::Succeeded);
            bench.step(Event::Committed { run: RunId(run), write: WriteKind::Finished });
            return asked;
        }
    }
    panic!("it does not end: {:?}", bench.explained(run));
}

#[test]
fn a_module_goes_no_more_to_one_that_claimed_its_overflow_in_vain_three_times() {
    let mut bench = pool(&[1, 2, 3, 4]);
    for run in 1..=3 {
        assert!(one_claims(&mut bench, run, 3).contains(&1), "run {run}");
    }
    for run in 4..=20 {
        assert_eq!(one_claims(&mut bench, run, 3).len(), 3, "no attempt is lost on it any more");
    }
    assert_eq!(bench.standing(1), WorkerStanding::Active);
    // where nobody else can be had it is asked
    bench.step(Event::WorkerLeft { worker: worker(4) });
    bench.submit(portable(30, Verify::Quorum { n: 3 }));
    let mut asked: Vec<u32> = bench.assigned().iter().map(|it| it.3).collect();
    asked.sort_unstable();
    assert_eq!(asked, [1, 2, 3]);
    // and so it is, of that machine code only
    bench.step(Event::Cancel { run: RunId(30) });
    bench.join(machine(4, 4));
    bench.join(machine(1, 7));
    assert!(one_claims(&mut bench, 31, 3).contains(&1));
}

#[test]
fn an_overflow_against_the_same_code_is_a_dissent() {
    let mut bench = pool(&[1, 1, 1]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    bench.vote(5, voters[0].1, 7, 1, 8);
    overflow(&mut bench, voters[1].1, 2, 9);
    let third = bench.assigned();
    bench.vote(5, third[0].1, 7, 3, 8);
    let last = bench.last_final().expect("two of three agree");
    assert_eq!(last.verdict.dissenters, [worker(2)]);
}

#[test]
fn overflows_of_which_no_two_are_of_one_code_end_without_a_quorum() {
    let mut bench = pool(&[1, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    overflow(&mut bench, voters[0].1, 1, 9);
    overflow(&mut bench, voters[1].1, 2, 9);
    bench.wait_with(61_000, &[1, 2]);
    assert_eq!(bench.last_final().expect("it gave up").reason, Some(FailReason::NoQuorum));
}

#[test]
fn claims_of_overflows_do_not_ask_for_votes_without_end() {
    // every second one overflows by a code of its own, the others say something else each
    let codes: Vec<u8> = (1..=40).collect();
    let mut bench = pool(&codes);
    bench.submit(portable(5, Verify::Quorum { n: 3 }));
    let mut asked = 0;
    for round in 0.. {
        assert!(round < 50, "it ends");
        let voters = bench.assigned();
        asked += voters.len();
        for (_, number, epoch, by) in voters {
            match by % 2 {
                0 => overflow(&mut bench, number, by, 9),
                _ => bench.vote(5, number, epoch, by, by as u8),
            }
        }
        if let Some(last) = bench.last_final() {
            assert_eq!(last.reason, Some(FailReason::NoQuorum));
            break;
        }
    }
    assert!(asked <= 10, "twice as many as a quorum of three asks at most, and not {asked}");
}

#[test]
fn a_proven_worker_stands_alone_against_a_claim_no_more_than_against_a_vote() {
    let mut bench = Bench::start(&[]);
    let proven = Standing { k_milli: 900_000, ..Standing::default() };
    bench.join(machine(1, 1));
    for (number, code) in [(2, 2), (3, 3)] {
        bench.step(Event::WorkerJoined(Box::new(Joining { standing: proven, ..machine(number, code) })));
    }
    bench.submit(portable(5, Verify::Standard));
    for number in [2, 3] {
        bench.step(Event::Credits { worker: worker(number), credits: 4 });
    }
    // the newcomer is checked, whatever it finds
    let first = bench.assigned();
    assert_eq!((first[0].3, first.len()), (1, 2));
    overflow(&mut bench, first[0].1, 1, 9);
    bench.vote(5, first[1].1, 7, first[1].3, 8);
    assert!(bench.last_final().is_none());
    let third = bench.assigned();
    bench.vote(5, third[0].1, 7, third[0].3, 8);
    let last = bench.last_final().expect("two of them are enough");
    assert_eq!(
        (last.state, last.verdict.kind, last.verdict.votes),
        (RunState::Succeeded, VerdictKind::Agreed, 2)
    );
}

/// A final that is verified anew: of an overflow or not, by workers of these codes.
fn anew(result: u8, overflowed: bool, voters: &[(u32, u8)]) -> Submission {
    let voter = |(number, code): &(u32, u8)| PastVoter {
        worker: worker(*number),
        class: None,
        code: Some(class(*code)),
        is_out: false,
    };
    let reverify = Reverify {
        result: Digest::from_bytes([result; 32]),
        revision: 1,
        voters: voters.iter().map(voter).collect(),
        attempts: 2,
        dissents: Vec::new(),
        class: None,
        overflowed,
        codes: voters.iter().map(|(_, code)| class(*code)).collect(),
    };
    Submission { reverify: Some(reverify), ..portable(5, Verify::Quorum { n: 2 }) }
}

/// A pool of proven workers, each with its machine code.
fn proven(codes: &[u8]) -> Bench {
    let mut bench = Bench::start(&[]);
    bench.wait(Config::default().start_grace_ms);
    let standing = Standing { k_milli: 900_000, ..Standing::default() };
    for (number, code) in (1..).zip(codes) {
        bench.join(Joining { standing, ..machine(number, *code) });
    }
    bench
}

fn conclusion(bench: &Bench) -> Option<Conclusion> {
    let of = |effect: &Effect| match effect {
        Effect::Reverified(found) => Some(found.conclusion),
        _ => None,
    };
    bench.effects.iter().find_map(of)
}

#[test]
fn an_overflow_is_verified_anew_by_its_own_machine_code() {
    let mut bench = proven(&[2, 2, 1, 1]);
    bench.submit(anew(9, true, &[(8, 1), (9, 1)]));
    for by in [3, 4] {
        let asked = bench.assigned();
        assert_eq!(asked.iter().map(|it| it.3).collect::<Vec<_>>(), [by], "others cannot tell");
        overflow(&mut bench, asked[0].1, by, 9);
    }
    assert_eq!(conclusion(&bench), Some(Conclusion::Confirmed));
}

#[test]
fn an_overflow_of_a_machine_code_that_is_gone_stays_as_it_is() {
    for codes in [vec![(8, 1), (9, 1)], vec![]] {
        let mut bench = proven(&[2, 2]);
        bench.submit(anew(9, true, &codes));
        assert_eq!(conclusion(&bench), Some(Conclusion::Undecided));
        assert!(evidence(&bench).is_empty() && bench.assigned().is_empty());
    }
}

#[test]
fn what_did_not_overflow_is_corrected_to_an_overflow_only_by_those_that_executed_the_same() {
    // 8 and 9 said that it does not overflow; of their code are 3 and 4, and of another 1 and 2
    let mut bench = proven(&[2, 2, 1, 1]);
    bench.submit(anew(7, false, &[(8, 1), (9, 3)]));
    for _ in 0..4 {
        let asked = bench.assigned();
        let Some((_, number, _, by)) = asked.first().copied() else { break };
        overflow(&mut bench, number, by, 9);
        let corrected = bench.effects.iter().any(|effect| matches!(effect, Effect::Write(Write::Correct(_))));
        if corrected {
            assert_eq!(by, 4, "the overflows of 1 and 2 say nothing of it");
            assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::Write(Write::Correct(last))
                if last.verdict.dissenters.is_empty())));
            return;
        }
    }
    panic!("it was not corrected: {:?}", bench.explained(5));
}

#[test]
fn an_overflow_that_comes_late_from_other_code_is_no_evidence() {
    let mut bench = pool(&[1, 2, 3]);
    bench.submit(portable(5, Verify::Quorum { n: 3 }));
    let voters = bench.assigned();
    bench.vote(5, voters[0].1, 7, 1, 8);
    bench.vote(5, voters[1].1, 7, 2, 8);
    bench.vote(5, voters[2].1, 7, 3, 8);
    bench.effects.clear();
    overflow(&mut bench, voters[2].1, 3, 9);
    assert!(evidence(&bench).is_empty());
}

#[test]
fn a_vote_alone_is_compared_with_nothing() {
    let mut bench = pool(&[1, 2]);
    bench.submit(portable(5, Verify::Once));
    let voters = bench.assigned();
    overflow(&mut bench, voters[0].1, 1, 9);
    assert_eq!(bench.last_final().expect("it is final").state, RunState::Failed);
}

#[test]
fn a_worker_that_comes_back_with_another_portable_class_holds_nothing() {
    let mut bench = pool(&[1, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned().len(), 2);
    let upgraded = Portable { results: class(101), code: class(102) };
    let holds = vec![(attempt(5, 1), Epoch(7))];
    bench.step(Event::WorkerJoined(Box::new(Joining { portable: upgraded, holds, ..machine(1, 1) })));
    let view = bench.pool.run(RunId(5)).unwrap();
    assert!(matches!(view.attempts[0].state, AttemptState::Faulted { .. }), "{:?}", view.attempts);
}

/// Two strangers that earn trust with the portable classes of code 1 where votes are counted.
fn earned() -> Bench {
    let mut bench = Bench::start(&[]);
    (1..=2).for_each(|number| bench.join(stranger(number, 1)));
    for run in 100..120 {
        (1..=2).for_each(|number| bench.step(Event::Credits { worker: worker(number), credits: 4 }));
        bench.submit(portable(run, Verify::Quorum { n: 2 }));
        for (run, number, epoch, by) in bench.assigned() {
            bench.vote(run, number, epoch, by, 9);
        }
        bench.step(Event::Committed { run: RunId(run), write: WriteKind::Finished });
    }
    bench
}

fn stranger(number: u32, code: u8) -> Joining {
    Joining { prior: Prior::Foreign, domain: format!("domain {number}"), ..machine(number, code) }
}

#[test]
fn trust_stays_over_a_reconnect_and_does_not_carry_over_to_other_portable_classes() {
    let k = |bench: &Bench| bench.pool.worker(worker(1)).unwrap().evidence.k_milli;
    let mut bench = earned();
    assert_eq!(k(&bench), 20_000);
    let proven = Standing { k_milli: 20_000, ..Standing::default() };
    bench.join(Joining { standing: proven, ..stranger(1, 1) });
    assert_eq!(k(&bench), 20_000);
    let made_up = Portable { results: class(200), code: class(201) };
    // whatever the shell says of it
    bench.join(Joining { portable: made_up, standing: proven, ..stranger(1, 1) });
    assert_eq!(k(&bench), 0);
}

#[test]
fn a_vote_confirms_nothing_of_what_its_worker_became_since() {
    let mut bench = earned();
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    let first = voters.iter().find(|it| it.3 == 1).unwrap();
    bench.vote(5, first.1, first.2, 1, 9);
    let made_up = Portable { results: class(200), code: class(201) };
    bench.join(Joining { portable: made_up, ..stranger(1, 1) });
    let second = voters.iter().find(|it| it.3 == 2).unwrap();
    bench.effects.clear();
    bench.vote(5, second.1, second.2, 2, 9);
    assert_eq!(bench.last_final().unwrap().state, RunState::Succeeded);
    assert_eq!(evidence(&bench), [2]);
    assert_eq!(bench.pool.worker(worker(1)).unwrap().evidence.k_milli, 0);
}
