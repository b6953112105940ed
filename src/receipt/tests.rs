//! Receipts that must pass, and everything around them that must not.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;

use super::*;
use crate::core::Class;
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId};
use crate::result::{Outcome, OutputFile, OutputRef, ResultManifest, Verdict, VerdictKind};
use crate::spec::{Profile, RunSpec};

/// A receipt of a real pool, which `docs/receipts.md` explains.
const EXAMPLE: &[u8] = include_bytes!("../../docs/receipt.example.json");

const RUN: RunId = RunId(7);

fn coordinator() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn worker(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[100 + number; 32])
}

fn manifest() -> ResultManifest {
    ResultManifest {
        outcome: Outcome::Exited { code: 0 },
        stdout: OutputRef::of(b"hello\n"),
        stderr: OutputRef::of(b""),
        files: vec![OutputFile { path: "/out/a".parse().unwrap(), digest: Digest::of(b"a"), size: 1 }],
        fuel_used: None,
    }
}

/// A vote of worker `number` as it stands in a receipt, signed in a batch with others.
fn vote(number: u8, run: RunId, run_key: Digest, result: Digest) -> Vote {
    let mut vote = Vote {
        attempt: u32::from(number),
        worker: WorkerId(u32::from(number)),
        domain: "local".to_owned(),
        key: PublicKey::of(&worker(number)),
        nonce: Hex([number; 16]),
        class: class(),
        artifact: Digest::of(b"artifact"),
        result,
        signed: SignedWhen::WithVote,
        batch: Batch { count: 3, index: 1, path: vec![], signature: Hex([0; 64]) },
        credibility: None,
        confirmations_milli: None,
        fault_domain: None,
        arbiter: false,
    };
    let mine = vote.statement(run, run_key).leaf();
    let (root, paths) = merkle::tree(&[merkle::leaf(b"before"), mine, merkle::leaf(b"after")]);
    vote.batch.path = paths[1].iter().map(|node| Hex(*node)).collect();
    vote.batch.signature = Hex(sign_root(&worker(number), &root, 3));
    vote
}

fn class_inputs() -> BTreeMap<String, serde_json::Value> {
    [("build".to_owned(), "0.1.0".into()), ("engine".to_owned(), "1".into())].into()
}

fn class() -> Digest {
    Digest::of(&crate::spec::canonical_json(&class_inputs()))
}

/// What two equal votes and a dissent say of a run with a quorum of two.
fn predicate() -> Predicate {
    let spec = RunSpec::new(Digest::of(b"module"));
    let run_key = spec.key();
    let result = Digest::of(&manifest().canonical());
    let at = |text: &str| text.parse().unwrap();
    Predicate {
        run: RUN,
        revision: 1,
        module: spec.module,
        run_key,
        profile: Profile::Det1,
        spec: Some(spec),
        result,
        outcome: manifest().outcome,
        manifest: Some(manifest()),
        verdict: Verdict { kind: VerdictKind::Agreed, votes: 2, dissenters: vec![WorkerId(3)] },
        rule: Rule { policy: "quorum".to_owned(), n: Some(2), epsilon: None },
        class: class(),
        class_inputs: Some(class_inputs()),
        votes: vec![vote(1, RUN, run_key, result), vote(2, RUN, run_key, result)],
        dissents: vec![vote(3, RUN, run_key, Digest::of(b"lie"))],
        created_at: at("2026-01-01T00:00:00Z"),
        finished_at: at("2026-01-01T00:00:01.5Z"),
        issued_at: at("2026-01-02T00:00:00Z"),
    }
}

fn sealed(predicate: Predicate) -> Vec<u8> {
    seal(&coordinator(), &Statement::new(predicate).canonical())
}

/// What checking says of the good receipt after a change, which its coordinator signs.
fn changed(change: impl FnOnce(&mut Predicate)) -> Result<Checked, ReceiptError> {
    let mut predicate = predicate();
    change(&mut predicate);
    check(&sealed(predicate))
}

#[test]
fn a_good_receipt_passes_and_says_who_signed_it() {
    let checked = check(&sealed(predicate())).unwrap();
    assert_eq!(checked.signer, PublicKey::of(&coordinator()));
    assert_eq!(checked.statement.predicate, predicate());
    let names: Vec<_> = checked.statement.subject.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, ["result", "stdout", "stderr", "/out/a"]);
    // without what is too long to be in it
    changed(|it| (it.spec, it.manifest, it.class_inputs) = (None, None, None)).unwrap();
}

#[test]
fn the_example_of_the_documentation_passes() {
    let checked = check(EXAMPLE).unwrap();
    let text = include_str!("../../docs/receipts.md");
    assert!(text.contains(&checked.signer.to_string()), "the page names the key of its example");
    let predicate = &checked.statement.predicate;
    for shown in [predicate.run.to_string(), predicate.result.to_string(), predicate.module.to_string()] {
        assert!(text.contains(&shown), "the page shows {shown}");
    }
    assert_eq!(predicate.votes.len(), 2);
    assert!(predicate.spec.is_some() && predicate.manifest.is_some() && predicate.class_inputs.is_some());
}

/// All that is one bit, one byte more or one byte less away from a receipt.
fn near(receipt: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flips = (0..receipt.len()).flat_map(move |at| (0..8).map(move |bit| (at, bit)));
    let flipped = flips.map(|(at, bit)| {
        let mut other = receipt.to_vec();
        other[at] ^= 1 << bit;
        other
    });
    let without = (0..receipt.len()).map(|at| {
        let mut other = receipt.to_vec();
        other.remove(at);
        other
    });
    let with = (0..=receipt.len()).flat_map(move |at| {
        [b' ', b'\n', b'\t', b'=', b'A', b'0', b',', 0].map(|byte| {
            let mut other = receipt.to_vec();
            other.insert(at, byte);
            other
        })
    });
    flipped.chain(without).chain(with)
}

#[test]
fn no_byte_of_a_receipt_can_be_changed_added_or_taken_away() {
    check(EXAMPLE).unwrap();
    let mut tried = 0;
    for other in near(EXAMPLE) {
        assert!(check(&other).is_err(), "{}", String::from_utf8_lossy(&other));
        tried += 1;
    }
    assert!(tried > 17 * EXAMPLE.len());
}

#[test]
fn every_other_value_of_every_byte_is_refused() {
    // of a short one, and without the cost of a signature for each: what is behind the payload and around it
    let receipt = sealed(predicate());
    let text = std::str::from_utf8(&receipt).unwrap();
    let behind = text.find("\",\"payloadType\"").unwrap();
    let places = (0..20).chain(behind - 4..receipt.len());
    for at in places {
        for value in 0..=u8::MAX {
            if value != receipt[at] {
                let mut other = receipt.clone();
                other[at] = value;
                assert!(check(&other).is_err(), "{}", String::from_utf8_lossy(&other));
            }
        }
    }
}

#[test]
fn only_the_one_form_of_a_statement_is_taken() {
    let good = String::from_utf8(Statement::new(predicate()).canonical()).unwrap();
    assert!(check(&seal(&coordinator(), good.as_bytes())).is_ok());
    let forms = [
        good.replacen("{", "{ ", 1),
        format!("{good}\n"),
        // twice
        good.replacen("\"revision\":1", "\"revision\":1,\"revision\":1", 1),
        // unknown, in each layer
        good.replacen("\"_type\"", "\"_more\":1,\"_type\"", 1),
        good.replacen("\"revision\"", "\"reason\":null,\"revision\"", 1),
        good.replacen("\"policy\"", "\"parts\":1,\"policy\"", 1),
        good.replacen("\"signed\"", "\"signe\":1,\"signed\"", 1),
        // within what other parts of the program read leniently
        good.replacen("\"fuel\":null", "\"fuel\":null,\"gas\":1", 1),
        good.replacen("\"fuel_used\":null", "\"fuel_used\":null,\"gas\":1", 1),
        good.replacen("\"revision\":1", "\"revision\":1.0", 1),
        good.replacen("2026-01-02T00:00:00Z", "2026-01-02T01:00:00+01:00", 1),
    ];
    for form in forms {
        assert_ne!(form, good);
        let refused = check(&seal(&coordinator(), form.as_bytes()));
        assert!(matches!(refused, Err(ReceiptError::Form(_))), "{form}: {refused:?}");
    }
    for (from, to) in [("receipt:v1", "receipt:v2"), ("Statement/v1", "Statement/v2")] {
        let refused = check(&seal(&coordinator(), good.replace(from, to).as_bytes()));
        assert!(matches!(refused, Err(ReceiptError::Unknown(_))), "{refused:?}");
    }
}

#[test]
fn a_vote_must_be_signed_by_its_worker_for_this_run() {
    let refused = |change: &dyn Fn(&mut Predicate)| match changed(change) {
        Err(ReceiptError::Vote { attempt, why }) => (attempt, why),
        other => panic!("{other:?}"),
    };
    let unsigned = "its worker's signature does not verify";
    let another_run = |it: &mut Predicate| it.votes[1] = vote(2, RunId(8), it.run_key, it.result);
    assert_eq!(refused(&another_run), (2, unsigned));
    let another_spec = |it: &mut Predicate| it.votes[1] = vote(2, RUN, Digest::of(b"spec"), it.result);
    assert_eq!(refused(&another_spec), (2, unsigned));
    assert_eq!(refused(&|it| it.votes[0].nonce = Hex([9; 16])), (1, unsigned));
    assert_eq!(refused(&|it| it.votes[0].artifact = Digest::EMPTY), (1, unsigned));
    assert_eq!(refused(&|it| it.votes[0].attempt = 4), (4, unsigned));
    assert_eq!(refused(&|it| it.votes[0].key = PublicKey::of(&worker(9))), (1, unsigned));
    assert_eq!(refused(&|it| it.votes[0].batch.index = 0), (1, unsigned));
    assert_eq!(refused(&|it| it.votes[0].batch.count = 4), (1, unsigned));
    assert_eq!(refused(&|it| it.votes[0].batch.path.truncate(1)), (1, unsigned));
    assert_eq!(refused(&|it| it.votes[0].batch.path = vec![Hex([0; 32]); 40]), (1, unsigned));
    assert_eq!(refused(&|it| it.dissents[0].batch.signature = Hex([0; 64])), (3, unsigned));
    assert_eq!(refused(&|it| it.votes[0].class = Digest::EMPTY), (1, "it is of another class"));
    assert_eq!(refused(&|it| it.votes.push(it.dissents[0].clone())), (3, "it is for another result"));
    assert_eq!(refused(&|it| it.dissents.push(it.votes[0].clone())), (1, "it is for the result"));
}

#[test]
fn a_worker_has_one_vote_under_whatever_number() {
    let twice = changed(|it| it.votes[1] = it.votes[0].clone());
    assert_eq!(twice, Err(ReceiptError::Vote { attempt: 1, why: "the attempt has voted before" }));
    // another attempt, signed with the same key: the same worker under its own and under another number
    for number in [1, 2] {
        let again = changed(|it| {
            let mut second = it.votes[0].clone();
            (second.attempt, second.worker) = (2, WorkerId(number));
            let statement = second.statement(RUN, it.run_key);
            let proof = sign_one(&worker(1), &statement);
            second.batch = Batch { count: 1, index: 0, path: vec![], signature: Hex(proof.signature) };
            it.votes[1] = second;
        });
        assert_eq!(again, Err(ReceiptError::Vote { attempt: 2, why: "its worker has voted before" }));
    }
}

#[test]
fn the_votes_must_satisfy_the_rule_and_the_verdict_say_what_they_say() {
    let quorum = |n: u8| move |it: &mut Predicate| it.rule.n = Some(n);
    changed(quorum(3)).unwrap();
    for n in [4, 5, 15, 255] {
        assert!(matches!(changed(quorum(n)), Err(ReceiptError::Rule(_))), "{n}");
    }
    let rules: [&dyn Fn(&mut Predicate); 8] = [
        &|it| it.rule.n = Some(0),
        &|it| it.rule.n = Some(1),
        &|it| it.rule.n = None,
        &|it| it.rule.policy = "standard".to_owned(),
        &|it| it.rule.policy = "Quorum".to_owned(),
        &|it| it.rule.epsilon = Some("0.001".to_owned()),
        &|it| it.votes[0].credibility = Some("0.999".to_owned()),
        &|it| drop(it.votes.pop()),
    ];
    for rule in rules {
        assert!(matches!(changed(rule), Err(ReceiptError::Rule(_))));
    }
    let verdicts: [&dyn Fn(&mut Predicate); 5] = [
        &|it| it.verdict.votes = 3,
        &|it| it.verdict.kind = VerdictKind::Vouched,
        &|it| it.verdict.dissenters.clear(),
        &|it| it.dissents.clear(),
        &|it| (it.rule.policy, it.rule.n) = ("once".to_owned(), None),
    ];
    for verdict in verdicts {
        assert!(matches!(changed(verdict), Err(ReceiptError::Contradiction(_))));
    }
    let once = |it: &mut Predicate| {
        (it.rule.policy, it.rule.n) = ("once".to_owned(), None);
        it.votes.pop();
        it.dissents.clear();
        it.verdict = Verdict { kind: VerdictKind::Unchecked, votes: 1, dissenters: vec![] };
    };
    changed(once).unwrap();
    let none = changed(|it| {
        once(it);
        it.votes.clear();
        it.verdict.votes = 0;
    });
    assert!(matches!(none, Err(ReceiptError::Rule(_))));
}

#[test]
fn its_parts_must_not_contradict_each_other() {
    let other = || RunSpec::new(Digest::of(b"other"));
    let changes: [&dyn Fn(&mut Predicate); 5] = [
        &|it| it.spec = Some(other()),
        &|it| it.module = other().module,
        &|it| it.manifest = Some(ResultManifest { fuel_used: Some(1), ..manifest() }),
        &|it| it.outcome = Outcome::Exited { code: 1 },
        &|it| it.issued_at = it.created_at,
    ];
    for change in changes {
        let refused = changed(change);
        assert!(matches!(refused, Err(ReceiptError::Contradiction(_))), "{refused:?}");
    }
    let inputs = changed(|it| drop(it.class_inputs.as_mut().unwrap().remove("build")));
    assert!(matches!(inputs, Err(ReceiptError::Contradiction(_))), "{inputs:?}");
    let mut statement = Statement::new(predicate());
    statement.subject.pop();
    let refused = check(&seal(&coordinator(), &statement.canonical()));
    assert!(matches!(refused, Err(ReceiptError::Contradiction(_))), "{refused:?}");
}

#[test]
fn a_weak_key_signs_nothing() {
    // a point of small order verifies anything where checking is not strict
    let weak = PublicKey([&[1_u8][..], &[0; 31]].concat().try_into().unwrap());
    let mut receipt = String::from_utf8(sealed(predicate())).unwrap();
    receipt = receipt.replace(&PublicKey::of(&coordinator()).to_string(), &weak.to_string());
    assert!(check(receipt.as_bytes()).is_err());
    let statement = predicate().votes[0].statement(RUN, predicate().run_key);
    let identity = sign_one(&SigningKey::from_bytes(&[0; 32]), &statement);
    assert!(!identity.verify(&weak.0, &statement));
    let other =
        VoteStatement { attempt: AttemptId { run: RUN, number: 9 }, class: Class(class()), ..statement };
    assert!(!identity.verify(&PublicKey::of(&SigningKey::from_bytes(&[0; 32])).0, &other));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2_048)) {
        assert!(check(&bytes).is_err());
        assert!(check(&seal(&coordinator(), &bytes)).is_err());
    }
}

/// The good receipt, decided by credibility: two votes against a dissent.
fn weighed(it: &mut Predicate) {
    it.rule = Rule { policy: "standard".to_owned(), n: None, epsilon: Some("0.001".to_owned()) };
    for (vote, domain) in it.votes.iter_mut().chain(&mut it.dissents).zip(1..) {
        vote.credibility = Some(if domain == 3 { "0.8" } else { "0.99" }.to_owned());
        vote.confirmations_milli = Some(if domain == 3 { 0 } else { 20_000 });
        vote.fault_domain = Some(domain);
    }
}

#[test]
fn votes_decide_by_what_they_weigh() {
    changed(weighed).unwrap();
    let alone = |it: &mut Predicate| {
        weighed(it);
        it.votes.pop();
        it.dissents.clear();
        it.votes[0].credibility = Some("0.9995".to_owned());
        it.verdict = Verdict { kind: VerdictKind::Vouched, votes: 1, dissenters: vec![] };
    };
    changed(alone).unwrap();
    let rules: [&dyn Fn(&mut Predicate); 9] = [
        &|it| it.rule.epsilon = None,
        &|it| it.rule.epsilon = Some("0.01".to_owned()),
        &|it| it.rule.epsilon = Some("0.0010".to_owned()),
        &|it| it.rule.n = Some(2),
        &|it| it.rule.policy = "quorum".to_owned(),
        &|it| (it.rule.policy, it.rule.epsilon) = ("high".to_owned(), Some("0.000001".to_owned())),
        &|it| it.votes[1].fault_domain = Some(1),
        &|it| it.dissents[0].credibility = Some("0.9999".to_owned()),
        &|it| it.votes[0].credibility = Some("0.6".to_owned()),
    ];
    for (number, rule) in rules.into_iter().enumerate() {
        let judged = changed(|it| {
            weighed(it);
            rule(it);
        });
        assert!(matches!(judged, Err(ReceiptError::Rule(_))), "{number}: {judged:?}");
    }
    let weights: [&dyn Fn(&mut Predicate); 3] =
        [&|it| it.votes[0].credibility = None, &|it| it.votes[1].confirmations_milli = None, &|it| {
            it.dissents[0].fault_domain = None
        }];
    for weight in weights {
        let judged = changed(|it| {
            weighed(it);
            weight(it);
        });
        assert!(matches!(judged, Err(ReceiptError::Vote { .. })), "{judged:?}");
    }
    let newcomer = changed(|it| {
        alone(it);
        it.votes[0].confirmations_milli = Some(9_999);
    });
    let Err(ReceiptError::Rule(why)) = newcomer else {
        panic!("a newcomer never stands alone: {newcomer:?}")
    };
    assert!(why.contains("too few of them are of proven"), "{why}");
    let compared = changed(|it| {
        alone(it);
        it.verdict.kind = VerdictKind::Agreed;
    });
    assert!(matches!(compared, Err(ReceiptError::Contradiction(_))), "{compared:?}");
}

#[test]
fn a_correction_rests_on_more_than_the_first_result_did() {
    changed(|it| {
        weighed(it);
        it.revision = 2;
    })
    .unwrap();
    let alone = changed(|it| {
        weighed(it);
        it.votes.pop();
        it.dissents.clear();
        it.votes[0].credibility = Some("0.9995".to_owned());
        (it.revision, it.verdict) = (2, Verdict { kind: VerdictKind::Agreed, votes: 1, dissenters: vec![] });
    });
    assert!(matches!(alone, Err(ReceiptError::Rule(_))), "one that is trusted is not enough: {alone:?}");
    // two executions that are trusted settle it under any bound
    for revision in [1, 2] {
        let judged = changed(|it| {
            weighed(it);
            it.dissents.clear();
            it.verdict.dissenters.clear();
            it.votes.iter_mut().for_each(|vote| vote.arbiter = true);
            it.rule = Rule { policy: "high".to_owned(), n: None, epsilon: Some("0.000001".to_owned()) };
            it.revision = revision;
        });
        assert_eq!(judged.is_ok(), revision == 2, "{judged:?}");
    }
}
