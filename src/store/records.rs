//! How a run's parts are encoded in a row: versioned JSON, the same for every backend.
//!
//! The core's types know no serde, so each has a mirror here. Invariant: what was encoded decodes to the same value; a
//! version that this build does not know is refused with [`StoreError::Decode`], never guessed at. What is filtered or
//! sorted by lives in columns, not here.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{FinalRun, NewRun, Reverdict, Reverification, Source, StoreError};
use crate::core::{AttemptRecord, AttemptState, Explained, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId};
use crate::result::{FailReason, Fault, Outcome, ResultManifest, Verdict};
use crate::spec::{Policy, RunSpec};

/// The only version so far. A change that older builds would misread raises it; the decoder then takes both.
const VERSION: u32 = 1;

/// A record with its version in front.
#[derive(Serialize)]
struct Sealed<T> {
    v: u32,
    record: T,
}

/// The same as it is read: the record is looked at only when its version is known.
#[derive(Deserialize)]
struct Opened<'a> {
    v: u32,
    #[serde(borrow)]
    record: &'a RawValue,
}

fn encode<T: Serialize>(record: T) -> Vec<u8> {
    serde_json::to_vec(&Sealed { v: VERSION, record }).expect("records have string keys and no failing impls")
}

fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    let refuse = |why: String| StoreError::Decode { what, why };
    let opened: Opened<'_> = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
    if opened.v != VERSION {
        return Err(refuse(format!("version {} is not known to this build", opened.v)));
    }
    serde_json::from_str(opened.record.get()).map_err(|error| refuse(error.to_string()))
}

/// What a run was asked to do, beyond its columns.
#[derive(Serialize, Deserialize)]
pub struct Request {
    /// See [`NewRun::spec`].
    pub spec: Arc<RunSpec>,
    /// See [`NewRun::run_key`].
    pub run_key: Digest,
    /// See [`NewRun::policy`].
    pub policy: Policy,
    /// See [`NewRun::rerun_of`].
    pub rerun_of: Option<RunId>,
}

impl Request {
    /// Encodes the request of `run`.
    pub fn encode(run: &NewRun) -> Vec<u8> {
        encode(Request {
            spec: Arc::clone(&run.spec),
            run_key: run.run_key,
            policy: run.policy.clone(),
            rerun_of: run.rerun_of,
        })
    }

    /// Decodes it.
    pub fn decode(bytes: &[u8]) -> Result<Request, StoreError> {
        decode("run request", bytes)
    }
}

/// How a run ended, beyond its columns.
pub struct Ending {
    /// See [`crate::core::Final::revision`].
    pub revision: u32,
    /// With `Failed`.
    pub reason: Option<FailReason>,
    /// The agreed outcome.
    pub outcome: Option<Outcome>,
    /// What the votes say.
    pub verdict: Verdict,
    /// The result digest.
    pub result: Option<Digest>,
    /// The result's manifest.
    pub manifest: Option<ResultManifest>,
    /// Every attempt.
    pub attempts: Vec<AttemptRecord>,
    /// Every decision.
    pub explain: Arc<Vec<Explained>>,
    /// Dissenting attempts whose manifest was kept.
    pub dissents: Vec<(AttemptId, Digest)>,
    /// Whose result it is, if not its own.
    pub source: Option<Source>,
    /// When this replaced the revision before, if it did.
    pub corrected_at: Option<Time>,
}

/// An [`Ending`] as it is written.
#[derive(Serialize)]
struct EndingOut<'a> {
    revision: u32,
    reason: Option<FailReason>,
    outcome: &'a Option<Outcome>,
    verdict: &'a Verdict,
    result: Option<Digest>,
    manifest: &'a Option<ResultManifest>,
    attempts: Vec<Attempt>,
    explain: Vec<Line>,
    dissents: Vec<(u32, Digest)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_from: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_with: Option<RunId>,
    corrected_at: Option<u64>,
}

/// An [`Ending`] as it is read.
#[derive(Deserialize)]
struct EndingIn {
    revision: u32,
    reason: Option<FailReason>,
    outcome: Option<Outcome>,
    verdict: Verdict,
    result: Option<Digest>,
    manifest: Option<ResultManifest>,
    attempts: Vec<Attempt>,
    explain: Vec<Line>,
    dissents: Vec<(u32, Digest)>,
    /// Neither is in records of before; those who do not know them ignore them, so the version stays.
    #[serde(default)]
    cached_from: Option<RunId>,
    #[serde(default)]
    shared_with: Option<RunId>,
    /// Of corrections only; those who do not know it ignore it, so the version stays.
    #[serde(default)]
    corrected_at: Option<u64>,
}

impl Ending {
    /// Encodes how `run` ended.
    pub fn encode(run: &FinalRun) -> Vec<u8> {
        let record = &run.record;
        encode(EndingOut {
            revision: record.revision,
            reason: record.reason,
            outcome: &record.outcome,
            verdict: &record.verdict,
            result: record.result,
            manifest: &run.manifest,
            attempts: record.attempts.iter().map(Attempt::from).collect(),
            explain: record.explain.iter().map(Line::from).collect(),
            dissents: run.dissents.iter().map(|(attempt, digest)| (attempt.number, *digest)).collect(),
            cached_from: match run.source {
                Some(Source::Cached(run)) => Some(run),
                _ => None,
            },
            shared_with: match run.source {
                Some(Source::Shared(run)) => Some(run),
                _ => None,
            },
            corrected_at: (record.revision > 1).then_some(record.finished_at.0),
        })
    }

    /// Decodes how `run` ended.
    pub fn decode(run: RunId, bytes: &[u8]) -> Result<Ending, StoreError> {
        let record: EndingIn = decode("run ending", bytes)?;
        let dissents = record.dissents.into_iter();
        Ok(Ending {
            revision: record.revision,
            reason: record.reason,
            outcome: record.outcome,
            verdict: record.verdict,
            result: record.result,
            manifest: record.manifest,
            attempts: record.attempts.into_iter().map(AttemptRecord::from).collect(),
            explain: Arc::new(record.explain.into_iter().map(Explained::from).collect()),
            dissents: dissents.map(|(number, digest)| (AttemptId { run, number }, digest)).collect(),
            source: record.cached_from.map(Source::Cached).or(record.shared_with.map(Source::Shared)),
            corrected_at: record.corrected_at.map(Time),
        })
    }
}

/// Encodes one attempt of a run that is not final.
pub fn encode_attempt(attempt: &AttemptRecord) -> Vec<u8> {
    encode(Attempt::from(attempt))
}

/// Decodes it.
pub fn decode_attempt(bytes: &[u8]) -> Result<AttemptRecord, StoreError> {
    decode::<Attempt>("attempt", bytes).map(AttemptRecord::from)
}

/// The explain log of a run that is not final.
#[derive(Serialize, Deserialize)]
struct Log {
    lines: Vec<Line>,
}

/// Encodes the explain log of a run that is not final.
pub fn encode_explain(explain: &[Explained]) -> Vec<u8> {
    encode(Log { lines: explain.iter().map(Line::from).collect() })
}

/// Decodes it.
pub fn decode_explain(bytes: &[u8]) -> Result<Arc<Vec<Explained>>, StoreError> {
    let log: Log = decode("explain log", bytes)?;
    Ok(Arc::new(log.lines.into_iter().map(Explained::from).collect()))
}

/// Mirror of [`Reverification`].
#[derive(Serialize, Deserialize)]
struct Anew {
    at: u64,
    verdict: String,
    explain: Vec<Line>,
}

/// Encodes what verifying a final anew said.
pub fn encode_reverification(found: &Reverification) -> Vec<u8> {
    encode(Anew {
        at: found.at.0,
        verdict: found.verdict.name().to_owned(),
        explain: found.explain.iter().map(Line::from).collect(),
    })
}

/// Decodes it.
pub fn decode_reverification(bytes: &[u8]) -> Result<Reverification, StoreError> {
    let what = "reverification";
    let anew: Anew = decode(what, bytes)?;
    let all = [
        Reverdict::Confirmed,
        Reverdict::Corrected,
        Reverdict::Undecided,
        Reverdict::Nondeterministic,
        Reverdict::NotVerifiable,
    ];
    let unknown =
        || StoreError::Decode { what, why: format!("`{}` is not known to this build", anew.verdict) };
    let verdict = all.into_iter().find(|verdict| verdict.name() == anew.verdict).ok_or_else(unknown)?;
    let explain = Arc::new(anew.explain.into_iter().map(Explained::from).collect());
    Ok(Reverification { at: Time(anew.at), verdict, explain })
}

/// Mirror of [`AttemptRecord`]; times are microseconds since the Unix epoch.
#[derive(Serialize, Deserialize)]
struct Attempt {
    number: u32,
    worker: WorkerId,
    state: State,
    assigned_at: u64,
    begun_at: Option<u64>,
    ended_at: Option<u64>,
    cpu_us: u64,
}

/// Mirror of [`AttemptState`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Assigned,
    Begun,
    Voted {
        result: Digest,
        /// Not in records of before it was kept; those who do not know it ignore it, so the version stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
        won: Option<bool>,
    },
    Faulted {
        fault: Fault,
    },
    Canceled,
}

/// Mirror of [`Explained`].
#[derive(Serialize, Deserialize)]
struct Line {
    at: u64,
    text: String,
}

impl From<&AttemptRecord> for Attempt {
    fn from(attempt: &AttemptRecord) -> Attempt {
        Attempt {
            number: attempt.number,
            worker: attempt.worker,
            state: match &attempt.state {
                AttemptState::Assigned => State::Assigned,
                AttemptState::Begun => State::Begun,
                AttemptState::Voted { result, outcome, won } => {
                    State::Voted { result: *result, outcome: outcome.clone(), won: *won }
                }
                AttemptState::Faulted { fault } => State::Faulted { fault: fault.clone() },
                AttemptState::Canceled => State::Canceled,
            },
            assigned_at: attempt.assigned_at.0,
            begun_at: attempt.begun_at.map(|at| at.0),
            ended_at: attempt.ended_at.map(|at| at.0),
            cpu_us: attempt.cpu_us,
        }
    }
}

impl From<Attempt> for AttemptRecord {
    fn from(attempt: Attempt) -> AttemptRecord {
        AttemptRecord {
            number: attempt.number,
            worker: attempt.worker,
            state: match attempt.state {
                State::Assigned => AttemptState::Assigned,
                State::Begun => AttemptState::Begun,
                State::Voted { result, outcome, won } => AttemptState::Voted { result, outcome, won },
                State::Faulted { fault } => AttemptState::Faulted { fault },
                State::Canceled => AttemptState::Canceled,
            },
            assigned_at: Time(attempt.assigned_at),
            begun_at: attempt.begun_at.map(Time),
            ended_at: attempt.ended_at.map(Time),
            cpu_us: attempt.cpu_us,
        }
    }
}

impl From<&Explained> for Line {
    fn from(line: &Explained) -> Line {
        Line { at: line.at.0, text: line.text() }
    }
}

impl From<Line> for Explained {
    fn from(line: Line) -> Explained {
        Explained::kept(Time(line.at), line.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_of_before_outcomes_were_kept_with_votes_is_read() {
        let digest = Digest::of(b"result");
        let old = format!(
            r#"{{"v":1,"record":{{"number":2,"worker":"w3","state":{{"voted":{{"result":"{digest}","won":false}}}},
            "assigned_at":1,"begun_at":2,"ended_at":3,"cpu_us":4}}}}"#
        );
        let record = decode_attempt(old.as_bytes()).unwrap();
        assert_eq!(record.state, AttemptState::Voted { result: digest, outcome: None, won: Some(false) });
        // as it was: who rewrites it adds nothing
        let again: serde_json::Value = serde_json::from_slice(&encode_attempt(&record)).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(&old).unwrap());

        let outcome = Some(Outcome::Exited { code: 3 });
        let new = AttemptRecord {
            state: AttemptState::Voted { result: digest, outcome, won: Some(false) },
            ..record
        };
        assert_eq!(decode_attempt(&encode_attempt(&new)).unwrap(), new);
    }
}
