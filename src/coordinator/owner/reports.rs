//! What workers say, checked before the core hears it.
//!
//! A vote reaches the core only if it names this pool's assignment (epoch, nonce), the run's key, the worker's own class and
//! the class's artifact, and if its manifest and inline outputs hash to their names. Anything else is a fault of its
//! worker (corrupt), never an error of ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use super::effects::{COLLECTED_PIN_MS, assignment_mac, nonce};
use super::{Command, Hello, Owner, collect};
use crate::coordinator::open_run::{Purpose, Reported};
use crate::core::{Class, Event, Time, Vote};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, WorkerId};
use crate::protocol::agent::{BlobBody, FromAgent, VoteReport};
use crate::result::{Fault, ResultManifest};
use crate::spec::RunSpec;

impl Owner {
    /// One message of a worker.
    pub(super) fn said(&mut self, worker: WorkerId, message: FromAgent) {
        match message {
            FromAgent::Hello { class, slots, memory_bytes, labels, holds, version } => {
                tracing::info!(%worker, slots, %version, class = %class.0.short(), "worker joined");
                let holds = self.proven(holds);
                self.hello(worker, Hello { class, slots, memory_bytes, labels, holds });
            }
            FromAgent::Credits { credits, received } => {
                let Some(link) = self.links.get(&worker) else { return };
                // what was sent and not yet seen by the worker is not free
                let unseen = u32::try_from(link.sent.saturating_sub(received)).unwrap_or(u32::MAX);
                self.step(Event::Credits { worker, credits: credits.saturating_sub(unseen) });
            }
            FromAgent::Heartbeat(beats) => {
                for beat in beats {
                    if let Some(at) = beat.begun_at_us {
                        self.step(Event::AttemptBegun { attempt: beat.attempt, worker, at: Time(at) });
                    }
                }
                self.step(Event::Heartbeat { worker });
            }
            FromAgent::Voted(report) => self.voted(worker, *report),
            FromAgent::Faulted { attempt, epoch, fault, begun_at_us, cpu_us } => {
                self.begun(attempt, worker, begun_at_us);
                self.parts.metrics.attempt_ended(fault.name());
                tracing::info!(%worker, %attempt, %fault, "attempt faulted");
                let begun = begun_at_us.is_some();
                self.step(Event::AttemptFaulted { attempt, epoch, worker, fault, begun, cpu_us });
            }
            FromAgent::Blobs { attempt, blobs } => self.delivered(attempt, blobs),
            FromAgent::Live { attempt, is_stderr, offset, bytes } => {
                if let Some(open) = self.runs.get_mut(&attempt.run) {
                    open.wrote(attempt.number, is_stderr, offset, bytes);
                }
            }
            FromAgent::Drained => {
                let why = "it has drained".to_owned();
                self.step(Event::WorkerDraining { worker, why });
            }
        }
    }

    fn begun(&mut self, attempt: AttemptId, worker: WorkerId, begun_at_us: Option<u64>) {
        if let Some(at) = begun_at_us {
            // the worker's clock may be off; the future would move the attempt's timeout
            let at = Time(at).min(self.now());
            self.step(Event::AttemptBegun { attempt, worker, at });
        }
    }

    /// Of what a returning worker claims to hold, what it can prove.
    fn proven(&self, holds: Vec<(AttemptId, Epoch, [u8; 32])>) -> Vec<(AttemptId, Epoch)> {
        let is_ours = |(attempt, epoch, mac): &(AttemptId, Epoch, [u8; 32])| {
            bool::from(assignment_mac(&self.parts.mac_key, *attempt, *epoch).ct_eq(mac))
        };
        holds.into_iter().filter(is_ours).map(|(attempt, epoch, _)| (attempt, epoch)).collect()
    }

    fn hello(&mut self, worker: WorkerId, hello: Hello) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.class = Some(hello.class);
        let Some(link) = self.links.get(&worker) else { return };
        let joining = self.joining(link, hello);
        self.step(Event::WorkerJoined(Box::new(joining)));
    }

    fn voted(&mut self, worker: WorkerId, report: VoteReport) {
        let (attempt, epoch, cpu_us) = (report.attempt, report.epoch, report.cpu_us);
        self.begun(attempt, worker, Some(report.begun_at_us));
        let vote = match self.check(worker, report) {
            Ok(vote) => vote,
            Err(fault) => {
                self.parts.metrics.attempt_ended(fault.name());
                tracing::warn!(%worker, %attempt, %fault, "vote refused");
                self.step(Event::AttemptFaulted { attempt, epoch, worker, fault, begun: true, cpu_us });
                return;
            }
        };
        self.parts.metrics.attempt_ended("voted");
        self.step(Event::AttemptVoted { attempt, epoch, worker, vote });
    }

    /// Checks a vote and remembers what it described.
    fn check(&mut self, worker: WorkerId, report: VoteReport) -> Result<Vote, Fault> {
        let corrupt = |detail: &str| Fault::Corrupt { detail: detail.to_owned() };
        if !bool::from(nonce(&self.parts.mac_key, report.attempt, report.epoch).ct_eq(&report.nonce)) {
            return Err(corrupt("the vote does not carry its assignment's nonce"));
        }
        let class = self.links.get(&worker).and_then(|link| link.class);
        if class != Some(report.class) {
            return Err(corrupt("the vote names another class than its worker's"));
        }
        let result = report.result;
        let outcome;
        let complete;
        match self.runs.get_mut(&report.attempt.run) {
            // late: the run is final or gone, the core only takes it as evidence
            None => {
                outcome = read_manifest(&report)?.outcome;
                complete = false;
            }
            Some(open) => {
                if report.run_key != open.new.run_key {
                    return Err(corrupt("the vote is for another spec"));
                }
                check_artifact(&mut self.artifacts, &open.new.spec, &report)?;
                if let Some(known) = open.reported.get_mut(&result) {
                    if known.canonical != report.manifest {
                        return Err(corrupt("the result digest does not name the manifest"));
                    }
                    if !known.missing().is_empty() {
                        known.inline.extend(checked_inline(&known.manifest, report.inline)?);
                    }
                } else {
                    let manifest = read_manifest(&report)?;
                    let inline = checked_inline(&manifest, report.inline)?;
                    open.reported.insert(result, Reported { manifest, canonical: report.manifest, inline });
                }
                open.voted.insert(report.attempt, result);
                let known = &open.reported[&result];
                outcome = known.manifest.outcome.clone();
                complete = known.missing().is_empty();
            }
        }
        Ok(Vote { result, outcome, cpu_us: report.cpu_us, complete })
    }

    /// Blobs that were asked for: stored by a task of their own, which answers with a command.
    fn delivered(&mut self, attempt: AttemptId, mut bodies: Vec<(Digest, BlobBody)>) {
        let Some(open) = self.runs.get_mut(&attempt.run) else { return };
        let Some(purpose) = open.collecting.remove(&attempt) else { return };
        let wanted = open.wanted_from(attempt);
        // what was not asked for is not stored
        bodies.retain(|(digest, _)| wanted.contains(digest));
        if purpose == Purpose::Dissent {
            self.store_dissent(bodies);
            return;
        }
        let absent = wanted.iter().find(|digest| !bodies.iter().any(|(there, _)| there == *digest)).copied();
        let pin = self.now().plus_ms(COLLECTED_PIN_MS);
        if let Some(digest) = absent {
            let fault = Fault::Corrupt { detail: format!("{digest} was not delivered") };
            return self.collected(attempt, Err(fault));
        }
        self.step(Event::Delivered { attempt });
        let (blobs, commands) = (Arc::clone(&self.parts.blobs), self.parts.commands.clone());
        tokio::spawn(async move {
            if let Some(outcome) = collect::take(&blobs, bodies, pin).await {
                let _ = commands.send(Command::Collected { attempt, outcome });
            }
        });
    }
}

/// The first vote of a class fixes the artifact of a module; a differing one is a fault, not a vote.
fn check_artifact(
    artifacts: &mut std::collections::HashMap<(Class, Digest, bool), Digest>,
    spec: &RunSpec,
    report: &VoteReport,
) -> Result<(), Fault> {
    let counts_fuel = spec.limits.fuel.is_some();
    let known = artifacts.entry((report.class, spec.module, counts_fuel)).or_insert(report.artifact);
    if *known == report.artifact {
        return Ok(());
    }
    Err(Fault::Corrupt {
        detail: format!("its artifact {} is not the class's {}", report.artifact.short(), known.short()),
    })
}

/// The manifest of a vote, which must hash to the result digest.
fn read_manifest(report: &VoteReport) -> Result<ResultManifest, Fault> {
    if Digest::of(&report.manifest) != report.result {
        return Err(Fault::Corrupt { detail: "the result digest does not name the manifest".to_owned() });
    }
    serde_json::from_slice(&report.manifest)
        .map_err(|error| Fault::Corrupt { detail: format!("the manifest does not decode: {error}") })
}

/// The inline outputs of a vote, which must be outputs of the manifest and hash to their names.
fn checked_inline(
    manifest: &ResultManifest,
    inline: Vec<(Digest, Bytes)>,
) -> Result<BTreeMap<Digest, Bytes>, Fault> {
    let mut checked = BTreeMap::new();
    for (digest, bytes) in inline {
        let is_output = manifest.outputs().any(|output| output.digest == digest);
        if !is_output || Digest::of(&bytes) != digest {
            return Err(Fault::Corrupt { detail: format!("{digest} does not name what came with the vote") });
        }
        checked.insert(digest, bytes);
    }
    Ok(checked)
}
