//! Tokens, workers with their sessions; and random comings and goings against plain maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::id::{WorkerId, WorkspaceId};
use crate::store::{Enrolment, Store, TokenRow, WorkerFacts, WorkerRow, WorkerSession};

fn token(name: &str) -> TokenRow {
    TokenRow {
        id: 0,
        hash: digest(name),
        name: name.to_owned(),
        workspace: WorkspaceId(3),
        scopes: vec!["admin".to_owned(), "read".to_owned()],
        created_at: Time(4),
        expires_at: (name == "b").then_some(Time(5)),
        domain: (name == "b").then(|| "lab-2".to_owned()),
        owned: name == "b",
        arbiter: name == "b",
        last_used_at: None,
    }
}

fn enrolment(key: u8, at: u64) -> Enrolment {
    Enrolment {
        key: [key; 32],
        name: format!("worker {key}"),
        domain: "domain".to_owned(),
        embedded: key == 0,
        owned: key.is_multiple_of(2),
        arbiter: key == 1,
        token: (key > 0).then_some(7),
        at: Time(at),
    }
}

fn facts(version: u8) -> WorkerFacts {
    WorkerFacts {
        labels: BTreeMap::from([("zone".to_owned(), version.to_string())]),
        class: digest("class"),
        version: format!("0.{version}"),
        slots: version.into(),
    }
}

pub(crate) async fn tokens_are_found_by_their_hash_until_deleted(place: &dyn Place) {
    let store = place.open().await;
    let a = store.put_token(token("a")).await.unwrap();
    let b = store.put_token(token("b")).await.unwrap();
    assert_eq!(b, TokenRow { id: b.id, ..token("b") });
    assert_eq!(store.token(digest("b")).await.unwrap(), Some(b.clone()));
    assert_eq!(store.token(digest("c")).await.unwrap(), None);
    assert_eq!(store.tokens().await.unwrap(), [a.clone(), b.clone()]);
    assert_eq!(store.put_token(token("b")).await.unwrap(), b, "the same token is the same row");
    assert!(store.delete_token(b.id).await.unwrap());
    assert!(!store.delete_token(b.id).await.unwrap());
    assert_eq!(store.token(digest("b")).await.unwrap(), None);
    let c = store.put_token(token("c")).await.unwrap();
    assert!(c.id > b.id, "a revoked number is never given again");
}

pub(crate) async fn the_use_of_a_token_is_noted_and_never_goes_backwards(place: &dyn Place) {
    let store = place.open().await;
    let a = store.put_token(token("a")).await.unwrap();
    let b = store.put_token(token("b")).await.unwrap();
    store.note_tokens_used(vec![(a.id, Time(60)), (99, Time(60))]).await.unwrap();
    store.note_tokens_used(vec![(a.id, Time(50))]).await.unwrap();
    store.note_tokens_used(Vec::new()).await.unwrap();
    let used = TokenRow { last_used_at: Some(Time(60)), ..a };
    assert_eq!(store.tokens().await.unwrap(), [used.clone(), b]);
    assert_eq!(store.token(used.hash).await.unwrap(), Some(used));
}

pub(crate) async fn workers_are_enrolled_once_per_key(place: &dyn Place) {
    let store = place.open().await;
    let racers: Vec<_> = (0..8_u8)
        .map(|racer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.enrol_worker(enrolment(racer % 2, racer.into())).await.unwrap() })
        })
        .collect();
    let mut enrolled = Vec::new();
    for racer in racers {
        enrolled.push(racer.await.unwrap());
    }
    let workers = store.workers().await.unwrap();
    assert_eq!(workers.len(), 2);
    assert_ne!(workers[0].id, workers[1].id);
    assert!(enrolled.iter().all(|worker| workers.contains(worker)));
    for worker in &workers {
        assert_eq!((worker.embedded, worker.enrolled_by.is_none()), (worker.key[0] == 0, worker.key[0] == 0));
    }
    assert!(store.quarantine_worker(workers[0].id, quarantine(1, false), Time(50)).await.unwrap());
    assert!(!store.quarantine_worker(WorkerId(99), None, Time(50)).await.unwrap());
    let other = Enrolment {
        name: "other".to_owned(),
        domain: "other".to_owned(),
        token: Some(8),
        ..enrolment(workers[0].key[0], 99)
    };
    let again = store.enrol_worker(other).await.unwrap();
    assert_eq!(again.quarantined.as_deref(), Some("lied"), "enrolling again does not wash anybody clean");
    assert_eq!(WorkerRow { quarantined: None, ..again }, workers[0]);
    assert!(store.quarantine_worker(workers[0].id, None, Time(50)).await.unwrap());
    assert_eq!(store.workers().await.unwrap(), workers);
}

pub(crate) async fn a_worker_keeps_its_latest_session(place: &dyn Place) {
    let store = place.open().await;
    let worker = store.enrol_worker(enrolment(1, 5)).await.unwrap();
    assert_eq!(worker.session, None);
    let session = async || store.workers().await.unwrap().remove(0).session;
    store.note_workers_seen(vec![(worker.id, Time(9)), (WorkerId(99), Time(9))]).await.unwrap();
    store.end_session(worker.id, Time(5), Time(9)).await.unwrap();
    assert_eq!(session().await, None, "what never began is neither heard of nor ended");

    assert!(!store.begin_session(WorkerId(99), facts(1), Time(10)).await.unwrap());
    assert!(store.begin_session(worker.id, facts(1), Time(10)).await.unwrap());
    let first = WorkerSession { facts: facts(1), connected_at: Time(10), left_at: None, seen_at: Time(10) };
    assert_eq!(session().await, Some(first.clone()));
    store.note_workers_seen(vec![(worker.id, Time(30))]).await.unwrap();
    store.note_workers_seen(vec![(worker.id, Time(20))]).await.unwrap();
    assert_eq!(session().await.unwrap().seen_at, Time(30));
    store.end_session(worker.id, Time(10), Time(40)).await.unwrap();
    store.end_session(worker.id, Time(10), Time(50)).await.unwrap();
    let ended = WorkerSession { left_at: Some(Time(40)), seen_at: Time(40), ..first };
    assert_eq!(session().await, Some(ended));

    store.begin_session(worker.id, facts(2), Time(60)).await.unwrap();
    // the end of the session before comes late
    store.end_session(worker.id, Time(10), Time(70)).await.unwrap();
    let second = WorkerSession { facts: facts(2), connected_at: Time(60), left_at: None, seen_at: Time(60) };
    assert_eq!(session().await, Some(second.clone()));
    store.close().await;
    assert_eq!(place.open().await.workers().await.unwrap()[0].session, Some(second));
}

pub(crate) async fn a_forgotten_worker_is_gone_and_its_number_never_comes_back(place: &dyn Place) {
    let store = place.open().await;
    let worker = store.enrol_worker(enrolment(1, 5)).await.unwrap();
    assert!(store.forget_worker(worker.id).await.unwrap());
    assert!(!store.forget_worker(worker.id).await.unwrap());
    assert_eq!(store.workers().await.unwrap(), []);
    assert!(!store.begin_session(worker.id, facts(1), Time(10)).await.unwrap());
    let again = store.enrol_worker(enrolment(1, 6)).await.unwrap();
    assert!(again.id > worker.id);
}

/// Keys, times and numbers are few, so that histories meet themselves; the numbers are those that the first rows get.
#[derive(Clone, Debug)]
enum Step {
    Enrol { key: u8 },
    Begin { number: u32, version: u8, at: u64 },
    End { number: u32, began: u64, at: u64 },
    Seen { number: u32, at: u64 },
    Quarantine { number: u32, on: bool },
    Forget { number: u32 },
    Make { name: u8 },
    Use { number: u32, at: u64 },
    Revoke { number: u32 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 1..5_u32;
    let at = || 1..6_u64;
    prop_oneof![
        3 => (0..3_u8).prop_map(|key| Step::Enrol { key }),
        4 => (number(), 1..4_u8, at()).prop_map(|(number, version, at)| Step::Begin { number, version, at }),
        3 => (number(), at(), at()).prop_map(|(number, began, at)| Step::End { number, began, at }),
        2 => (number(), at()).prop_map(|(number, at)| Step::Seen { number, at }),
        1 => (number(), any::<bool>()).prop_map(|(number, on)| Step::Quarantine { number, on }),
        1 => number().prop_map(|number| Step::Forget { number }),
        3 => (0..3_u8).prop_map(|name| Step::Make { name }),
        3 => (number(), at()).prop_map(|(number, at)| Step::Use { number, at }),
        1 => number().prop_map(|number| Step::Revoke { number }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    workers: BTreeMap<u32, WorkerRow>,
    tokens: BTreeMap<u32, TokenRow>,
    enrolled: u32,
    made: u32,
}

impl Model {
    /// What enrolling answers, when a new row gets the number `id`.
    fn enrol(&mut self, enrolment: &Enrolment, id: WorkerId) -> WorkerRow {
        if let Some(known) = self.workers.values().find(|worker| worker.key == enrolment.key) {
            return known.clone();
        }
        assert!(id.0 > self.enrolled, "a number is never given again");
        self.enrolled = id.0;
        let row = WorkerRow {
            id,
            key: enrolment.key,
            name: enrolment.name.clone(),
            domain: enrolment.domain.clone(),
            embedded: enrolment.embedded,
            enrolled_by: enrolment.token,
            owned: enrolment.owned,
            arbiter: enrolment.arbiter,
            standings: BTreeMap::new(),
            proven_as: BTreeMap::new(),
            quarantined: None,
            for_votes: false,
            created_at: enrolment.at,
            session: None,
        };
        self.workers.insert(id.0, row.clone());
        row
    }

    fn session(&mut self, number: u32) -> Option<&mut WorkerSession> {
        self.workers.get_mut(&number)?.session.as_mut()
    }
}

async fn take(step: &Step, place: &dyn Place, store: &mut Arc<dyn Store>, model: &mut Model) {
    match *step {
        Step::Enrol { key } => {
            let enrolment = enrolment(key, 3);
            let row = store.enrol_worker(enrolment.clone()).await.unwrap();
            let id = row.id;
            assert_eq!(row, model.enrol(&enrolment, id));
        }
        Step::Begin { number, version, at } => {
            let there = store.begin_session(WorkerId(number), facts(version), Time(at)).await.unwrap();
            assert_eq!(there, model.workers.contains_key(&number));
            if let Some(worker) = model.workers.get_mut(&number) {
                let (connected_at, seen_at) = (Time(at), Time(at));
                worker.session =
                    Some(WorkerSession { facts: facts(version), connected_at, left_at: None, seen_at });
            }
        }
        Step::End { number, began, at } => {
            store.end_session(WorkerId(number), Time(began), Time(at)).await.unwrap();
            if let Some(session) = model.session(number)
                && session.connected_at == Time(began)
                && session.left_at.is_none()
            {
                session.left_at = Some(Time(at));
                session.seen_at = session.seen_at.max(Time(at));
            }
        }
        Step::Seen { number, at } => {
            store.note_workers_seen(vec![(WorkerId(number), Time(at))]).await.unwrap();
            if let Some(session) = model.session(number) {
                session.seen_at = session.seen_at.max(Time(at));
            }
        }
        Step::Quarantine { number, on } => {
            let new = quarantine(5, number % 2 == 0).filter(|_| on);
            let there = store.quarantine_worker(WorkerId(number), new.clone(), Time(50)).await.unwrap();
            assert_eq!(there, model.workers.contains_key(&number));
            let is_pools = new.as_ref().is_some_and(|new| new.for_votes);
            let stands = |worker: &WorkerRow| worker.quarantined.is_some() && !worker.for_votes && is_pools;
            if let Some(worker) = model.workers.get_mut(&number).filter(|worker| !stands(worker)) {
                worker.for_votes = new.as_ref().is_some_and(|new| new.for_votes);
                worker.quarantined = new.map(|new| new.why);
            }
        }
        Step::Forget { number } => {
            let there = store.forget_worker(WorkerId(number)).await.unwrap();
            assert_eq!(there, model.workers.remove(&number).is_some());
        }
        Step::Reopen => {
            store.close().await;
            *store = place.open().await;
        }
        Step::Make { .. } | Step::Use { .. } | Step::Revoke { .. } => {
            take_of_tokens(step, &**store, model).await;
        }
    }
}

async fn take_of_tokens(step: &Step, store: &dyn Store, model: &mut Model) {
    match *step {
        Step::Make { name } => {
            let new = token(["a", "b", "c"][usize::from(name)]);
            let known = model.tokens.values().find(|token| token.hash == new.hash).cloned();
            let stored = store.put_token(new.clone()).await.unwrap();
            let expected = known.unwrap_or_else(|| {
                assert!(stored.id > model.made, "a number is never given again");
                model.made = stored.id;
                TokenRow { id: stored.id, ..new }
            });
            assert_eq!(stored, expected);
            model.tokens.insert(expected.id, expected);
        }
        Step::Use { number, at } => {
            store.note_tokens_used(vec![(number, Time(at))]).await.unwrap();
            if let Some(token) = model.tokens.get_mut(&number) {
                token.last_used_at = token.last_used_at.max(Some(Time(at)));
            }
        }
        Step::Revoke { number } => {
            let there = store.delete_token(number).await.unwrap();
            assert_eq!(there, model.tokens.remove(&number).is_some());
        }
        _ => {}
    }
}

/// Random comings and goings end as they do in plain maps, step by step.
pub(crate) fn histories<P: Place>(fresh: impl Fn() -> P) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&prop::collection::vec(step(), 1..40), |steps| {
        runtime.block_on(async {
            let place = fresh();
            let (mut store, mut model) = (place.open().await, Model::default());
            for step in &steps {
                take(step, &place, &mut store, &mut model).await;
            }
            let workers: Vec<_> = model.workers.into_values().collect();
            assert_eq!(store.workers().await.unwrap(), workers);
            let tokens: Vec<_> = model.tokens.into_values().collect();
            assert_eq!(store.tokens().await.unwrap(), tokens);
            store.close().await;
        });
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
