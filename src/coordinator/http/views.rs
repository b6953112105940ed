//! From what the service knows to what callers read. Conversion only: no rule is decided here.

use crate::coordinator::callbacks::{Secrets, event_of, name_of};
use crate::coordinator::classes::ClassBook;
use crate::coordinator::keys::PublishedKey;
use crate::coordinator::service::{
    CurrentAttempt as CurrentHeld, Delivery, DeliveryState, Evidence, Facts, Figures, ModuleState,
    Repair as RepairRow, Reverdict, RunDetail, Source, StoredModule, StoredRun, TokenRow, WorkerReport,
    WorkerRow, WorkspaceSettings, name_of_workspace,
};
use crate::core::{AttemptRecord, AttemptState, Prior, Standing, Time, WorkerStanding, WorkerView, day_of};
use crate::id::{AttemptId, RunId};
use crate::protocol::api::{
    Attempt, AttemptStateName, CallbackDelivery, CallbackRequest, CallbackSecret, Clock, ConclusionName,
    CurrentAttempt, DeliveryStateName, EvidenceItem, EvidenceView, Explanation, HourCounts, InputFile, Key,
    Module, ModuleStateName, Nondeterminism, Output, OutputFile, PlacementMode, PlacementRequest, PolicyView,
    PoolStats, PreviousSecret, Refusal, Repair, RepairState, RetentionStats, RetentionView, Revision, Run,
    RunSummary, RunVerdict, Scope, SpecView, StorageStats, Timestamp, Token, Verification, VerifyRequest,
    Worker, WorkerDetail, WorkerStandingName, Workspace,
};
use crate::receipt::PublicKey;
use crate::result::Verdict;
use crate::spec::{FileInput, Placement, Policy, RunSpec};

/// A run with everything about it.
pub fn run(detail: &RunDetail) -> Run {
    let stored = &detail.run;
    let manifest = stored.manifest.as_ref();
    Run {
        id: stored.id,
        state: stored.state,
        reason: stored.reason,
        module: stored.spec.module,
        run_key: stored.run_key,
        revision: stored.revision,
        outcome: stored.outcome.clone(),
        verdict: verdict(&stored.verdict),
        result: stored.result,
        cached: matches!(stored.source, Some(Source::Cached(_))),
        stdout: manifest.map(|manifest| Output::new(manifest.stdout, detail.stdout.as_deref())),
        stderr: manifest.map(|manifest| Output::new(manifest.stderr, detail.stderr.as_deref())),
        files: manifest.map_or_else(Vec::new, |manifest| {
            let file = |file: &crate::result::OutputFile| OutputFile {
                path: file.path.to_string(),
                digest: file.digest,
                size: file.size,
            };
            manifest.files.iter().map(file).collect()
        }),
        fuel_used: manifest.and_then(|manifest| manifest.fuel_used),
        attempts: stored.attempts.iter().map(|record| attempt(stored.id, record)).collect(),
        explain: stored
            .explain
            .iter()
            .map(|said| Explanation { at: said.at.into(), text: said.text() })
            .collect(),
        spec: spec(&stored.spec),
        policy: policy(&stored.policy),
        rerun_of: stored.rerun_of,
        created_at: stored.created_at.into(),
        finished_at: stored.finished_at.map(Timestamp::from),
        cached_from: cached_from(stored),
        shared_with: shared_with(stored),
        corrected_at: stored.corrected_at.map(Timestamp::from),
        verification: verification(stored),
    }
}

/// What came of verifying a run anew; a correction came of that too.
fn verification(stored: &StoredRun) -> Option<Verification> {
    let found = stored.verification.as_ref().map(|found| (found.at, found.verdict));
    let (at, verdict) = found.or(stored.corrected_at.map(|at| (at, Reverdict::Corrected)))?;
    let conclusion = match verdict {
        Reverdict::Confirmed => ConclusionName::Confirmed,
        Reverdict::Corrected => ConclusionName::Corrected,
        Reverdict::Undecided => ConclusionName::Undecided,
        Reverdict::Nondeterministic => ConclusionName::Nondeterministic,
        Reverdict::NotVerifiable => ConclusionName::NotVerifiable,
    };
    Some(Verification { reverified_at: at.into(), conclusion })
}

/// A revision of a run.
pub fn revision(stored: &StoredRun) -> Revision {
    Revision {
        revision: stored.revision,
        state: stored.state,
        reason: stored.reason,
        outcome: stored.outcome.clone(),
        verdict: verdict(&stored.verdict),
        result: stored.result,
        decided_at: stored.corrected_at.or(stored.finished_at).map(Timestamp::from),
        verification: verification(stored),
    }
}

/// A worker whose finals are looked at.
pub fn repair(repair: &RepairRow) -> Repair {
    let state = match repair {
        RepairRow { lifted_at: Some(_), .. } => RepairState::Lifted,
        RepairRow { is_complete: false, .. } => RepairState::Looking,
        RepairRow { pending: 1.., .. } | RepairRow { is_followed: false, .. } => RepairState::Verifying,
        _ => RepairState::Done,
    };
    Repair {
        worker: repair.worker,
        since: repair.since.into(),
        why: repair.why.clone(),
        state,
        finals: repair.finals,
        found: repair.looked_at,
        decisive: repair.decisive,
        pending: repair.pending,
        confirmed: repair.confirmed,
        corrected: repair.corrected,
        undecided: repair.undecided,
        dependents: repair.dependents,
        not_verifiable: repair.not_verifiable,
    }
}

/// A run in a list.
pub fn summary(stored: &StoredRun) -> RunSummary {
    RunSummary {
        id: stored.id,
        state: stored.state,
        reason: stored.reason,
        module: stored.spec.module,
        entry: stored.spec.entry.clone(),
        run_key: stored.run_key,
        revision: stored.revision,
        outcome: stored.outcome.clone(),
        verdict: verdict(&stored.verdict),
        result: stored.result,
        cached: matches!(stored.source, Some(Source::Cached(_))),
        attempt_count: u32::try_from(stored.attempts.len()).unwrap_or(u32::MAX),
        rerun_of: stored.rerun_of,
        created_at: stored.created_at.into(),
        finished_at: stored.finished_at.map(Timestamp::from),
        cached_from: cached_from(stored),
        shared_with: shared_with(stored),
    }
}

fn cached_from(stored: &StoredRun) -> Option<RunId> {
    match stored.source {
        Some(Source::Cached(run)) => Some(run),
        _ => None,
    }
}

fn shared_with(stored: &StoredRun) -> Option<RunId> {
    match stored.source {
        Some(Source::Shared(run)) => Some(run),
        _ => None,
    }
}

fn verdict(verdict: &Verdict) -> RunVerdict {
    RunVerdict { kind: verdict.kind, votes: verdict.votes, dissenters: verdict.dissenters.clone() }
}

fn attempt(run: RunId, record: &AttemptRecord) -> Attempt {
    let (mut result, mut outcome, mut won, mut fault) = (None, None, None, None);
    let state = match &record.state {
        AttemptState::Assigned => AttemptStateName::Assigned,
        AttemptState::Begun => AttemptStateName::Begun,
        AttemptState::Voted { result: voted, outcome: did, won: has_won } => {
            (result, outcome, won) = (Some(*voted), did.clone(), *has_won);
            AttemptStateName::Voted
        }
        AttemptState::Faulted { fault: met } => {
            fault = Some(met.clone());
            AttemptStateName::Faulted
        }
        AttemptState::Canceled => AttemptStateName::Canceled,
    };
    Attempt {
        id: AttemptId { run, number: record.number },
        number: record.number,
        worker: record.worker,
        state,
        result,
        outcome,
        won,
        fault,
        assigned_at: record.assigned_at.into(),
        started_at: record.begun_at.map(Timestamp::from),
        ended_at: record.ended_at.map(Timestamp::from),
        cpu_ms: milliseconds(record.cpu_us),
    }
}

/// Exact below 2^53 µs, which is 285 years of CPU time.
#[expect(clippy::cast_precision_loss, reason = "no attempt uses 285 years of CPU time")]
fn milliseconds(us: u64) -> f64 {
    us as f64 / 1_000.0
}

fn spec(spec: &RunSpec) -> SpecView {
    let input = |input: &FileInput| match input {
        FileInput::Blob(digest) => InputFile::Digest(*digest),
        FileInput::Tree(digest) => InputFile::Tree(*digest),
    };
    SpecView {
        entry: spec.entry.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        stdin: spec.stdin,
        files: spec.files.iter().map(|(path, file)| (path.to_string(), input(file))).collect(),
        profile: spec.profile,
        clock: Clock::At(Timestamp(spec.clock)),
        seed: spec.seed,
        limits: spec.limits.into(),
    }
}

/// A policy with every default.
pub fn policy(policy: &Policy) -> PolicyView {
    PolicyView {
        verify: policy.verify.into(),
        retry: policy.retry,
        attempts_max: policy.attempts_max,
        placement: match &policy.placement {
            Placement::Any => PlacementRequest { mode: PlacementMode::Any, labels: None },
            Placement::Labels { labels } => {
                PlacementRequest { mode: PlacementMode::Labels, labels: Some(labels.clone()) }
            }
        },
        timeout_ms: policy.timeout_ms,
        deadline_ms: policy.deadline_ms,
        priority: policy.priority,
        durable: policy.durable,
        cache: policy.cache,
        callback: policy.callback.as_ref().map(|callback| CallbackRequest { url: callback.url.to_string() }),
    }
}

/// A module; an analysis that is no JSON any more is left out rather than failing the answer.
pub fn module(stored: &StoredModule) -> Module {
    Module {
        digest: stored.digest,
        size: stored.size,
        name: stored.name.clone(),
        state: match stored.state {
            ModuleState::Analysed => ModuleStateName::Analysed,
            ModuleState::Compiling => ModuleStateName::Compiling,
            ModuleState::Ready => ModuleStateName::Ready,
            ModuleState::Refused => ModuleStateName::Refused,
        },
        analysis: stored.analysis.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        refusal: stored.refusal.clone().map(|(code, text)| Refusal { code, text }),
        quarantined: stored.quarantined.clone(),
        verify: stored.verify.map(VerifyRequest::from),
        created_at: stored.created_at.into(),
        nondeterministic: stored
            .nondeterministic
            .map(|found| Nondeterminism { run: found.run, at: found.at.into() }),
    }
}

/// A worker, from its row and what the pool sees of it, if it is connected.
pub fn worker(row: &WorkerRow, view: Option<&WorkerView>, now: Time, classes: &ClassBook) -> Worker {
    let worker = match view {
        Some(view) => connected(row, view, now),
        None => gone(row, now),
    };
    Worker { class_parts: worker.class.and_then(|class| classes.get(class)), ..worker }
}

fn connected(row: &WorkerRow, view: &WorkerView, now: Time) -> Worker {
    let record = record(view.evidence, row.prior(), now);
    Worker {
        id: row.id,
        name: row.name.clone(),
        key: PublicKey(row.key).to_string(),
        standing: match view.standing {
            WorkerStanding::Active => WorkerStandingName::Active,
            WorkerStanding::Suspect => WorkerStandingName::Suspect,
            WorkerStanding::Draining => WorkerStandingName::Draining,
            WorkerStanding::Lost => WorkerStandingName::Lost,
            WorkerStanding::Quarantined => WorkerStandingName::Quarantined,
        },
        // what the pool knows after a restart is only that it is out
        why: match view.standing {
            WorkerStanding::Quarantined => row.quarantined.clone().or_else(|| view.why.clone()),
            _ => view.why.clone(),
        },
        domain: view.domain.clone(),
        embedded: row.embedded,
        owned: row.owned,
        arbiter: view.is_arbiter,
        credibility: record.credibility,
        confirmations: record.confirmations,
        suspect_since: record.suspect_since,
        version: row.session.as_ref().map(|session| session.facts.version.clone()),
        class: Some(view.class.0),
        peers: view.peers as u64,
        labels: view.labels.clone(),
        slots: view.slots,
        credits: view.credits,
        holds: view.holds.clone(),
        memory_bytes: view.memory_bytes,
        memory_leased_bytes: view.memory_leased,
        votes: view.votes,
        dissents: view.dissents,
        faults: view.faults,
        created_at: row.created_at.into(),
        connected_at: row.session.as_ref().map(|session| session.connected_at.into()),
        left_at: None,
        heard_at: view.heard_at.into(),
        class_parts: None,
        portable_class: Some(view.portable.results.0),
        portable_peers: view.portable_peers as u64,
    }
}

/// A public key of the coordinator.
pub fn key(key: &PublishedKey) -> Key {
    Key { keyid: key.key, valid_from: key.valid_from.into(), valid_until: key.valid_until.map(Into::into) }
}

/// A worker's standing as people see it.
struct Record {
    credibility: f64,
    confirmations: f64,
    suspect_since: Option<Timestamp>,
}

/// What a standing means on a day, for a worker of which that is assumed.
fn record(standing: Standing, prior: Prior, now: Time) -> Record {
    const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;
    let suspect_since = standing.suspect_since.filter(|_| standing.is_suspect(now));
    let standing = standing.aged(day_of(now));
    Record {
        credibility: 1.0 - standing.error_ppb(prior) as f64 / 1e9,
        confirmations: standing.k_milli as f64 / 1e3,
        suspect_since: suspect_since.map(|day| Time(u64::from(day) * DAY_US).into()),
    }
}

/// One that is enrolled, but not connected: what it said last.
fn gone(row: &WorkerRow, now: Time) -> Worker {
    let session = row.session.as_ref();
    let facts = session.map(|session| &session.facts);
    let standing = facts.map(|facts| row.standing(facts.class)).unwrap_or_default();
    let record = record(standing, row.prior(), now);
    Worker {
        id: row.id,
        name: row.name.clone(),
        key: PublicKey(row.key).to_string(),
        standing: WorkerStandingName::Gone,
        why: row.quarantined.as_ref().map(|why| format!("quarantined: {why}")),
        domain: row.domain.clone(),
        embedded: row.embedded,
        owned: row.owned,
        arbiter: row.arbiter,
        credibility: record.credibility,
        confirmations: record.confirmations,
        suspect_since: record.suspect_since,
        version: facts.map(|facts| facts.version.clone()),
        class: facts.map(|facts| facts.class),
        peers: 0,
        labels: facts.map(|facts| facts.labels.clone()).unwrap_or_default(),
        slots: facts.map_or(0, |facts| facts.slots),
        credits: 0,
        holds: Vec::new(),
        memory_bytes: 0,
        memory_leased_bytes: 0,
        votes: 0,
        dissents: 0,
        faults: 0,
        created_at: row.created_at.into(),
        connected_at: session.map(|session| session.connected_at.into()),
        // a coordinator that was killed could not record the end
        left_at: session.map(|session| session.left_at.unwrap_or(session.seen_at).into()),
        heard_at: session.map_or(row.created_at, |session| session.seen_at).into(),
        class_parts: None,
        portable_class: None,
        portable_peers: 0,
    }
}

/// A worker with what it does and what was seen of it.
pub fn worker_detail(report: &WorkerReport, classes: &ClassBook) -> WorkerDetail {
    let attempt = |held: &CurrentHeld| CurrentAttempt {
        run: held.attempt.run,
        number: held.attempt.number,
        since: held.assigned_at.into(),
        started_at: held.begun_at.map(Timestamp::from),
        cpu_ms: milliseconds(held.cpu_us),
    };
    let worker = worker(&report.row, report.view.as_ref(), report.at, classes);
    WorkerDetail {
        heard_ago_ms: report.at.ms_since(worker.heard_at.into()),
        worker,
        current: report.current.iter().map(attempt).collect(),
        evidence: EvidenceView {
            counts: report.counts.iter().cloned().collect(),
            recent: report.recent.iter().map(|(number, seen)| evidence(*number, seen)).collect(),
        },
    }
}

/// One observation about a worker.
pub fn evidence(number: u64, seen: &Evidence) -> EvidenceItem {
    EvidenceItem {
        number,
        kind: seen.kind.clone(),
        count: seen.count,
        run: seen.attempt.map(|attempt| attempt.run),
        attempt: seen.attempt.map(|attempt| attempt.number),
        result: seen.result,
        class: seen.class,
        at: seen.at.into(),
    }
}

/// The pool at a glance.
pub fn stats(figures: &Figures, facts: &Facts) -> PoolStats {
    let Figures { glance, workers, slots, usage, outlook } = figures;
    PoolStats {
        at: glance.at.into(),
        workers: *workers,
        slots: *slots,
        queue: glance.queue,
        runs_per_second: glance.runs_per_second,
        last_hour: HourCounts { since: glance.since.into(), tally: glance.last_hour },
        storage: StorageStats {
            runs: usage.runs,
            runs_open: usage.runs_open,
            modules: usage.modules,
            blobs: usage.blobs,
            bytes: usage.blob_bytes,
            retention: RetentionStats {
                keeps: retention(facts),
                oldest_finished_at: outlook.oldest_finished_at.map(Timestamp::from),
                would_free_runs: outlook.due,
                would_free_runs_in_a_day: outlook.due_in_a_day,
                would_free_bytes: usage.garbage_bytes,
            },
        },
    }
}

/// What is kept, and how long.
pub fn retention(facts: &Facts) -> RetentionView {
    RetentionView {
        age_ms: facts.retention.age_ms,
        runs_max: facts.retention.runs_max,
        upload_keep_ms: facts.upload_keep_ms,
        evidence_max: facts.retention.evidence_max,
        evidence_age_ms: facts.retention.evidence_age_ms,
    }
}

/// A token without its secret.
pub fn token(row: &TokenRow) -> Token {
    Token {
        id: row.id,
        name: row.name.clone(),
        workspace: name_of_workspace(row.workspace),
        scopes: scopes(&row.scopes),
        created_at: row.created_at.into(),
        expires_at: row.expires_at.map(Timestamp::from),
        last_used_at: row.last_used_at.map(Timestamp::from),
        domain: row.domain.clone(),
        owned: row.owned,
        arbiter: row.arbiter,
    }
}

/// Scopes by name; one of a newer build is not shown, because it allows nothing here.
pub fn scopes(names: &[String]) -> Vec<Scope> {
    names.iter().filter_map(|name| Scope::of_name(name)).collect()
}

/// A workspace.
pub fn workspace(name: &str, settings: WorkspaceSettings) -> Workspace {
    Workspace { name: name.to_owned(), verify: settings.verify.map(VerifyRequest::from) }
}

/// A delivery of a callback.
pub fn delivery(delivery: &Delivery) -> CallbackDelivery {
    CallbackDelivery {
        id: name_of(delivery.id),
        event: event_of(delivery.id),
        revision: delivery.id.revision,
        url: delivery.url.to_string(),
        state: match delivery.state {
            DeliveryState::Pending => DeliveryStateName::Pending,
            DeliveryState::Delivered => DeliveryStateName::Delivered,
            DeliveryState::GivenUp => DeliveryStateName::GivenUp,
        },
        tries: delivery.tries,
        created_at: delivery.created_at.into(),
        last_at: delivery.last_at.map(Timestamp::from),
        last_status: delivery.last_status,
        last_error: delivery.last_error.clone(),
        next_at: delivery.next_at.map(Timestamp::from),
    }
}

/// What callbacks are signed with at `now`.
pub fn callback_secret(secrets: &Secrets, now: Time) -> CallbackSecret {
    let previous = secrets.previous(now);
    CallbackSecret {
        secret: secrets.current.text(),
        since: secrets.since.into(),
        previous: previous
            .map(|(secret, until)| PreviousSecret { secret: secret.text(), until: (*until).into() }),
    }
}
