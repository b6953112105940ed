//! Finals that are verified anew: who is blamed, who is absolved, and who is let in again.

use super::*;

const CLASS: Class = Class(Digest::from_bytes([1; 32]));

fn voter(number: u32, is_out: bool) -> PastVoter {
    PastVoter { worker: worker(number), class: Some(CLASS), code: None, is_out }
}

/// A final that named 9, by w1 and w2, against w3, which named 7.
fn anew(run: u128) -> Submission {
    let dissent = Dissent { number: 3, worker: worker(3), class: CLASS, result: Digest::from_bytes([7; 32]) };
    let reverify = Reverify {
        result: Digest::from_bytes([9; 32]),
        revision: 1,
        voters: [1, 2].map(|number| voter(number, number == 1)).into(),
        attempts: 3,
        dissents: vec![dissent],
        class: Some(CLASS),
        overflowed: false,
        codes: vec![],
    };
    Submission { reverify: Some(reverify), ..submission(run, 1, Verify::Quorum { n: 3 }) }
}

/// What `run` said against w3 when it was decided.
fn dissented(run: u128, standing: Standing) -> Standing {
    standing.with(Time(1_000_000), Some(RunId(run)), Evidence::LoneDissent)
}

/// A pool with two proven workers (w4 and w5), the two liars, and w3 as it joins.
fn bench(third: Joining) -> Bench {
    let mut bench = Bench::start(&[]);
    let proven = Standing { k_milli: 500_000, ..Standing::default() };
    for number in [4, 5] {
        bench.join(Joining { standing: proven, ..joining(number) });
    }
    for number in [1, 2] {
        bench.join(Joining { quarantined: number == 1, ..joining(number) });
    }
    bench.join(third);
    bench.effects.clear();
    bench
}

/// Whoever is asked names this.
fn all_name(bench: &mut Bench, result: u8) -> Vec<Effect> {
    let mut effects = std::mem::take(&mut bench.effects);
    let mut looked_at = 0;
    while looked_at < effects.len() {
        if let Effect::Assign { attempt, epoch, worker } = effects[looked_at].clone() {
            bench.step(Event::AttemptVoted { attempt, epoch, worker, vote: vote(result) });
            effects.append(&mut bench.effects);
        }
        looked_at += 1;
    }
    effects
}

fn is_rehabilitated(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Rehabilitated { worker: it, .. } if *it == worker(3)))
}

#[test]
fn who_had_named_the_truth_is_absolved_and_let_in_with_its_standing() {
    let before = Standing { k_milli: 40_000, ..Standing::default() };
    let standing = dissented(6, dissented(5, before));
    assert!(standing.condemns() && standing.k_milli == 0);
    let out = Joining { quarantined: true, for_votes: true, standing, ..joining(3) };
    let mut bench = bench(out);
    assert_eq!(bench.standing(3), WorkerStanding::Quarantined);
    bench.submit(anew(5));
    let effects = all_name(&mut bench, 7);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Write(Write::Correct(last)) if last.revision == 2))
    );
    let absolved = effects.iter().any(|effect| match effect {
        Effect::Evidence { worker: it, attempt: Some(attempt), evidence, class, .. } => {
            (*it, attempt.run.0, *evidence, *class) == (worker(3), 5, Evidence::Absolved, CLASS)
        }
        _ => false,
    });
    // one lone dissent is left: it is suspect, and not out
    assert!(absolved && is_rehabilitated(&effects), "{effects:?}");
    assert_eq!(bench.standing(3), WorkerStanding::Active);
    let view = bench.pool.worker(worker(3)).unwrap();
    assert!(view.evidence.suspect_since.is_some() && view.evidence.k_milli == 0);
    bench.submit(anew(6));
    let effects = all_name(&mut bench, 7);
    assert!(!is_rehabilitated(&effects), "once");
    let view = bench.pool.worker(worker(3)).unwrap();
    assert!(view.evidence.suspect_since.is_none() && view.evidence.k_milli >= 40_000, "{:?}", view.evidence);
    // both that had named the lie are caught by it
    assert_eq!(bench.standing(2), WorkerStanding::Quarantined);
}

#[test]
fn an_operators_word_and_what_else_it_did_keep_a_worker_out() {
    let lapsed = dissented(6, dissented(5, Standing::default()));
    let elsewhere = lapsed.with(Time(1_000_000), Some(RunId(8)), Evidence::Collusion);
    let out = |standing| Joining { quarantined: true, for_votes: true, standing, ..joining(3) };
    for third in [
        Joining { for_votes: false, ..out(lapsed) },
        Joining { condemned_elsewhere: true, ..out(lapsed) },
        out(elsewhere),
    ] {
        let mut bench = bench(third);
        bench.submit(anew(5));
        let effects = all_name(&mut bench, 7);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(Write::Correct(_)))));
        assert!(!is_rehabilitated(&effects));
        assert_eq!(bench.standing(3), WorkerStanding::Quarantined);
    }
    // the operator has the last word after the pool's
    let mut bench = bench(out(lapsed));
    bench.step(Event::WorkerQuarantined { worker: worker(3), why: "bad memory".to_owned() });
    bench.submit(anew(5));
    assert!(!is_rehabilitated(&all_name(&mut bench, 7)));
}

#[test]
fn a_confirmation_absolves_nobody() {
    let lapsed = dissented(6, dissented(5, Standing::default()));
    let mut bench = bench(Joining { quarantined: true, for_votes: true, standing: lapsed, ..joining(3) });
    bench.submit(anew(5));
    let effects = all_name(&mut bench, 9);
    let confirmed = |effect: &Effect| matches!(effect, Effect::Reverified(done) if done.conclusion == Conclusion::Confirmed);
    assert!(effects.iter().any(confirmed), "{effects:?}");
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::Evidence { evidence: Evidence::Absolved, .. }))
    );
    assert_eq!(bench.standing(3), WorkerStanding::Quarantined);
}

#[test]
fn what_was_taken_back_while_it_was_away_lets_it_in_when_it_is_back() {
    let clear = Joining { quarantined: true, for_votes: true, ..joining(3) };
    let mut bench = bench(joining(6));
    bench.step(Event::WorkerJoined(Box::new(clear.clone())));
    assert!(is_rehabilitated(&bench.effects));
    assert_eq!(bench.standing(3), WorkerStanding::Active);
    let mut other = Bench::start(&[]);
    other.step(Event::WorkerJoined(Box::new(Joining { for_votes: false, ..clear })));
    assert_eq!(other.standing(3), WorkerStanding::Quarantined);
}

#[test]
fn what_one_that_is_out_did_besides_is_kept() {
    let mut bench = bench(joining(3));
    bench.submit(anew(5));
    let effects = all_name(&mut bench, 7);
    let blamed = |number| {
        effects.iter().any(|effect| {
            matches!(effect, Effect::Evidence { worker: it, evidence: Evidence::Collusion, .. } if *it == worker(number))
        })
    };
    assert!(blamed(1), "it is out already, and is not let in for anything else");
    assert!(blamed(2) && bench.standing(2) == WorkerStanding::Quarantined);
    assert!(bench.pool.worker(worker(1)).unwrap().evidence.condemns());
}

#[test]
fn one_that_lied_and_has_not_joined_since_is_kept_out_all_the_same() {
    let mut bench = bench(joining(3));
    let mut submission = anew(5);
    let reverify = submission.reverify.as_mut().unwrap();
    reverify.voters = vec![voter(11, false), voter(12, true), PastVoter { class: None, ..voter(13, false) }];
    bench.submit(submission);
    let effects = all_name(&mut bench, 7);
    let told = |number: u32| {
        effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Evidence { worker: it, .. } if it.0 == number))
            .count()
    };
    let out = |number: u32| {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::QuarantineWorker { worker: it, .. } if it.0 == number))
    };
    assert_eq!([told(11), told(12), told(13)], [1, 1, 0]);
    assert!(
        out(11) && !out(12) && !out(13),
        "one is out already, of another nobody knows what it executed as"
    );
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Repair { worker: it } if it.0 == 11)));
    // a second lone lie that was found while it was away
    let standing = dissented(7, dissented(6, Standing::default()));
    bench.effects.clear();
    bench.join(Joining { standing, ..joining(8) });
    assert_eq!(bench.standing(8), WorkerStanding::Quarantined);
    bench.join(Joining { standing: dissented(6, Standing::default()), ..joining(9) });
    assert_eq!(bench.standing(9), WorkerStanding::Active);
}

#[test]
fn who_was_let_in_again_is_not_blamed_for_what_it_did_before() {
    let mut bench = Bench::start(&[]);
    let proven = Standing { k_milli: 500_000, ..Standing::default() };
    for number in [4, 5] {
        bench.join(Joining { standing: proven, ..joining(number) });
    }
    // w1 was out when it had voted, and is a newcomer now
    for number in [1, 2] {
        bench.join(joining(number));
    }
    bench.effects.clear();
    bench.submit(anew(5));
    let effects = all_name(&mut bench, 7);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(Write::Correct(_)))));
    let told = |effect: &&Effect| {
        matches!(effect, Effect::Evidence { worker: it, evidence, .. }
        if *it == worker(1) && matches!(evidence, Evidence::Collusion | Evidence::LoneDissent))
    };
    assert_eq!(effects.iter().find(told), None);
    assert_eq!(bench.standing(1), WorkerStanding::Active);
    assert_eq!(bench.standing(2), WorkerStanding::Quarantined, "it named the same, and nobody has let it in");
}

#[test]
fn those_that_take_the_turn_of_one_that_gave_up_give_up_in_time_too() {
    let mut bench = Bench::start(&[]);
    bench.wait(Config::default().start_grace_ms);
    let proven = Standing { k_milli: 500_000, ..Standing::default() };
    bench.join(Joining { slots: 8, standing: proven, ..joining(4) });
    bench.join(Joining { standing: proven, ..joining(5) });
    // two have a turn at once, and whoever could be compared with 4 may come back
    bench.step(Event::WorkerLeft { worker: worker(5) });
    for run in 5..9 {
        bench.submit(anew(run));
    }
    let undecided =
        |bench: &Bench| bench.effects.iter().filter(|effect| matches!(effect, Effect::Reverified(_))).count();
    bench.wait_with(59_000, &[4]);
    assert_eq!(undecided(&bench), 0);
    bench.wait_with(1_500, &[4]);
    assert_eq!(undecided(&bench), 4, "by then it is not waited for");
}

#[test]
fn what_is_verified_anew_takes_nothing_of_its_workspaces_share() {
    let mut bench = bench(joining(3));
    bench.pool.floor.config.runs_per_workspace_max = 1;
    bench.submit(anew(5));
    bench.submit(anew(6));
    let queue = &bench.pool.floor.queue;
    assert_eq!(queue.runs_of_workspace(WorkspaceId(0)), 0);
    // so its own run is neither refused nor behind those of others
    bench.submit(submission(7, 1, Verify::Quorum { n: 3 }));
    assert_eq!(bench.pool.floor.queue.runs_of_workspace(WorkspaceId(0)), 1);
    let refused = bench.pool.submit(bench.now, submission(8, 1, Verify::Once), &mut bench.effects);
    assert_eq!(refused, Err(SubmitError::QueueFull { queued: 1 }), "the bound is there");
}

#[test]
fn what_depends_on_a_class_is_verified_anew_by_workers_of_it_and_by_no_others() {
    let proven = Standing { k_milli: 500_000, ..Standing::default() };
    let elsewhere =
        |number| Joining { standing: proven, class: Class(Digest::from_bytes([2; 32])), ..joining(number) };
    let mut bench = Bench::start(&[]);
    bench.wait(Config::default().start_grace_ms);
    for number in [6, 7] {
        bench.join(elsewhere(number));
    }
    bench.join(Joining { is_arbiter: true, ..elsewhere(8) });
    bench.submit(anew(5));
    assert!(
        !bench.effects.iter().any(|effect| matches!(effect, Effect::Assign { .. })),
        "they may compute other bits"
    );
    let done = bench.effects.iter().find_map(|effect| match effect {
        Effect::Reverified(done) => Some(done.clone()),
        _ => None,
    });
    let done = done.expect("it gave up at once, and holds nobody's turn up");
    assert_eq!(done.conclusion, Conclusion::Undecided);
    let words: Vec<String> = done.last.explain.iter().map(|it| it.text()).collect();
    assert!(words.iter().any(|text| text.contains("only workers of class")), "{words:?}");
    // as soon as some of the class are there they are asked
    for number in [4, 5] {
        bench.join(Joining { standing: proven, ..joining(number) });
    }
    bench.effects.clear();
    bench.submit(anew(5));
    let effects = all_name(&mut bench, 7);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(Write::Correct(_)))));
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Assign { worker: it, .. } if it.0 > 5)));
}

#[test]
fn what_one_did_as_something_else_is_told_of_what_it_was() {
    let now = Class(Digest::from_bytes([2; 32]));
    let mut bench = bench(joining(3));
    bench.join(Joining { class: now, ..joining(2) });
    bench.submit(anew(5));
    let effects = all_name(&mut bench, 7);
    let told = effects.iter().find_map(|effect| match effect {
        Effect::Evidence { worker: it, class, evidence, .. } if *it == worker(2) => Some((*class, *evidence)),
        _ => None,
    });
    assert_eq!(told, Some((CLASS, Evidence::Collusion)));
    assert_eq!(bench.pool.worker(worker(2)).unwrap().evidence, Standing::default());
    assert_eq!(bench.standing(2), WorkerStanding::Quarantined, "it lied all the same");
}

#[test]
fn those_that_join_after_a_start_are_waited_for() {
    let mut bench = Bench::start(&[]);
    bench.submit(anew(5));
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Reverified(_))));
    let proven = Standing { k_milli: 500_000, ..Standing::default() };
    for number in [4, 5] {
        bench.join(Joining { standing: proven, ..joining(number) });
    }
    let effects = all_name(&mut bench, 7);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(Write::Correct(_)))));
}
