//! What workers say, checked before the core hears it.
//!
//! A vote reaches the core only if it names this pool's assignment (epoch, nonce), the run's key, the worker's own class and
//! the class's artifact, and if its manifest and inline outputs hash to their names. Anything else is a fault of its
//! worker (corrupt), never an error of ours.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use super::artifacts::Trust;
use super::effects::{COLLECTED_PIN_MS, UNWRITTEN_PIN_MS};
use super::links::Hello;
use super::{Command, Link, Owner, collect};
use crate::class::Classes;
use crate::coordinator::open_run::Reported;
use crate::core::{Beat, Class, Event, Time, Vote};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, WorkerId};
use crate::protocol::agent::{BlobBody, FromAgent, ToAgent, VoteReport};
use crate::receipt::VoteProof;
use crate::result::{Fault, ResultManifest};
use crate::spec::{Limits, Profile};
use crate::store::{CastVote, WorkerFacts};

/// A timed-out attempt may have used a little more than its timeout before it was dead, in microseconds.
const CPU_SPARE_US: u64 = 10_000_000;
/// Of a worker's own words for a fault, which are kept with the run and shown.
const FAULT_CHARS_MAX: usize = 1_000;
/// Attempts that a worker may ask for, for each of its slots: one that it executes and those that it is handed ahead.
const CREDITS_PER_SLOT: u32 = 64;

/// Why a vote is not taken.
#[derive(Debug)]
struct Refused {
    /// A word of a closed set, for the metrics.
    why: &'static str,
    fault: Fault,
}

impl Refused {
    fn new(why: &'static str, detail: impl Into<String>) -> Refused {
        Refused { why, fault: Fault::Corrupt { detail: detail.into() } }
    }
}

impl Owner {
    /// One message of a worker.
    pub(super) fn said(&mut self, worker: WorkerId, message: FromAgent) {
        match message {
            FromAgent::Hello { classes, about, slots, memory_bytes, labels, holds, version } => {
                let class = classes.native.0;
                tracing::info!(%worker, slots, %version, class = %class.short(), "worker joined");
                let named = [class, classes.portable.results.0, classes.portable.code.0];
                self.parts.classes.learn(&named, about);
                let holds = self.proven(holds);
                self.hello(worker, Hello { classes, slots, memory_bytes, labels, holds, version });
            }
            FromAgent::Credits { credits, received } => {
                let Some(link) = self.links.get(&worker) else { return };
                // what was sent and not yet seen by the worker is not free
                let unseen = u32::try_from(link.sent.saturating_sub(received)).unwrap_or(u32::MAX);
                let most =
                    link.remote.map_or(u32::MAX, |remote| remote.slots.saturating_mul(CREDITS_PER_SLOT));
                self.step(Event::Credits { worker, credits: credits.min(most).saturating_sub(unseen) });
            }
            FromAgent::Heartbeat(beats) => {
                if let Some(link) = self.links.get_mut(&worker) {
                    link.cpu_us = beats.iter().map(|beat| (beat.attempt, beat.cpu_us)).collect();
                }
                // the worker's clock may be off; the future would move the attempt's timeout
                let now = self.now();
                let beat = |beat: crate::protocol::agent::Beat| Beat {
                    attempt: beat.attempt,
                    cpu_us: beat.cpu_us,
                    begun_at: beat.begun_at_us.map(|at| Time(at).min(now)),
                };
                let beats = beats.into_iter().map(beat).collect();
                self.step(Event::Heartbeat { worker, beats });
            }
            FromAgent::Voted(report) => self.voted(worker, *report),
            FromAgent::Faulted { attempt, epoch, fault, begun_at_us, cpu_us } => {
                let (fault, cpu_us) = (clipped(fault), self.possible_cpu_us(attempt, cpu_us));
                self.begun(attempt, worker, begun_at_us);
                self.parts.metrics.attempt_ended(fault.name());
                tracing::info!(%worker, %attempt, %fault, "attempt faulted");
                let begun = begun_at_us.is_some();
                self.step(Event::AttemptFaulted { attempt, epoch, worker, fault, begun, cpu_us });
            }
            FromAgent::Returned { attempt, epoch } => {
                self.parts.metrics.attempt_ended("returned");
                self.step(Event::AttemptReturned { attempt, epoch, worker });
            }
            FromAgent::Blobs { attempt, blobs } => self.delivered(worker, attempt, blobs),
            FromAgent::Live { attempt, is_stderr, offset, bytes } => {
                let is_its = self.parts.pool.holder(attempt) == Some(worker);
                if let Some(open) = self.runs.get_mut(&attempt.run).filter(|_| is_its) {
                    open.wrote(attempt.number, is_stderr, offset, bytes);
                }
            }
            FromAgent::Drained => {
                if let Some(link) = self.links.get_mut(&worker) {
                    link.has_drained = true;
                }
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

    /// A worker's figure within what the attempt's timeout allows: it is charged to the workspace.
    fn possible_cpu_us(&self, attempt: AttemptId, cpu_us: u64) -> u64 {
        let Some(open) = self.runs.get(&attempt.run) else { return 0 };
        cpu_us.min(open.new.policy.timeout_ms.saturating_mul(1_000).saturating_add(CPU_SPARE_US))
    }

    /// Of what a returning worker claims to hold, what it can prove.
    fn proven(&self, holds: Vec<(AttemptId, Epoch, [u8; 32])>) -> Vec<(AttemptId, Epoch)> {
        let is_ours = |(attempt, epoch, mac): &(AttemptId, Epoch, [u8; 32])| {
            bool::from(self.parts.key.mac(*attempt, *epoch).ct_eq(mac))
        };
        holds.into_iter().filter(is_ours).map(|(attempt, epoch, _)| (attempt, epoch)).collect()
    }

    fn hello(&mut self, worker: WorkerId, hello: Hello) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.classes = Some(hello.classes);
        let facts = WorkerFacts {
            labels: hello.labels.clone(),
            class: hello.classes.native.0,
            version: hello.version.clone(),
            slots: hello.slots,
        };
        self.begin_session(worker, facts);
        self.tell_classes();
        let Some(link) = self.links.get(&worker) else { return };
        let holds = hello.holds.iter().map(|(attempt, _)| *attempt).collect();
        let joining = self.joining(link, hello);
        self.step(Event::WorkerJoined(Box::new(joining)));
        // it has granted nothing yet: nothing comes between
        if let Some(why) = self.drains.get(&worker).cloned() {
            self.step(Event::WorkerDraining { worker, why });
        }
        self.ask_again(worker, holds);
    }

    fn voted(&mut self, worker: WorkerId, report: VoteReport) {
        let mut report = report;
        report.cpu_us = self.possible_cpu_us(report.attempt, report.cpu_us);
        let (attempt, epoch, cpu_us) = (report.attempt, report.epoch, report.cpu_us);
        self.begun(attempt, worker, Some(report.begun_at_us));
        let vote = match self.check(worker, report) {
            Ok(vote) => vote,
            Err(Refused { why, fault }) => {
                self.parts.metrics.vote_refused(why);
                self.parts.metrics.attempt_ended(fault.name());
                tracing::warn!(%worker, %attempt, why, %fault, "vote refused");
                self.step(Event::AttemptFaulted { attempt, epoch, worker, fault, begun: true, cpu_us });
                // nobody will ask for its outputs
                self.tell(worker, ToAgent::Release(attempt));
                return;
            }
        };
        self.parts.metrics.attempt_ended("voted");
        self.step(Event::AttemptVoted { attempt, epoch, worker, vote });
    }

    /// Checks a vote and remembers what it described.
    fn check(&mut self, worker: WorkerId, mut report: VoteReport) -> Result<Vote, Refused> {
        if !bool::from(self.parts.key.nonce(report.attempt, report.epoch).ct_eq(&report.nonce)) {
            return Err(Refused::new("nonce", "the vote does not carry its assignment's nonce"));
        }
        if self.parts.pool.holder(report.attempt).is_some_and(|holder| holder != worker) {
            return Err(Refused::new("attempt", "the vote is for an attempt of another worker"));
        }
        let spec = self.runs.get(&report.attempt.run).map(|open| Arc::clone(&open.new.spec));
        let known = self.links.get(&worker).and_then(|link| Some((link, link.classes?)));
        let is_its = |classes: &Classes| match &spec {
            Some(spec) => classes.of(spec.profile) == report.class,
            // late: nobody knows what was executed
            None => Profile::ALL.iter().any(|profile| classes.of(*profile) == report.class),
        };
        let Some((link, classes)) = known.filter(|(_, classes)| is_its(classes)) else {
            return Err(Refused::new("class", "the vote names another class than its worker's"));
        };
        let proof = report.proof.take();
        if proof.is_none() && link.remote.is_some() {
            return Err(Refused::new("signature", "its worker's signature does not verify"));
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
                    return Err(Refused::new("run_key", "the vote is for another spec"));
                }
                if open.voted.get(&report.attempt).is_some_and(|before| *before != result) {
                    return Err(Refused::new("twice", "its worker voted for another result before"));
                }
                let trust = Trust::of(&link.row, link.remote.is_some());
                let is_its = self.artifacts.check(classes, trust, &open.new.spec, report.artifact);
                is_its.map_err(|known| {
                    let (named, known) = (report.artifact.short(), known.short());
                    Refused::new("artifact", format!("its artifact {named} is not the class's {known}"))
                })?;
                let vote = cast(link, classes.code(open.new.spec.profile), &report, proof);
                if let Some(known) = open.reported.get_mut(&result) {
                    if known.canonical != report.manifest {
                        return Err(Refused::new("manifest", "the result digest does not name the manifest"));
                    }
                    if !known.is_whole() {
                        known.inline.extend(checked_inline(&known.manifest, report.inline)?);
                    }
                } else {
                    let manifest = read_manifest(&report)?;
                    check_limits(&manifest, &open.new.spec.limits)
                        .map_err(|why| Refused::new("limits", why))?;
                    let inline = checked_inline(&manifest, report.inline)?;
                    open.reported.insert(result, Reported { manifest, canonical: report.manifest, inline });
                }
                open.voted.insert(report.attempt, result);
                open.cast(vote);
                let known = &open.reported[&result];
                outcome = known.manifest.outcome.clone();
                complete = known.is_whole();
            }
        }
        Ok(Vote { result, outcome, cpu_us: report.cpu_us, complete })
    }

    /// Blobs that were asked for: stored by a task of their own, which answers with a command. Anything else that comes,
    /// or that comes from somebody else, is nobody's.
    fn delivered(&mut self, worker: WorkerId, attempt: AttemptId, mut bodies: Vec<(Digest, BlobBody)>) {
        if self.keeping.get(&attempt).is_some_and(|(from, _)| *from == worker)
            && let Some((_, wanted)) = self.keeping.remove(&attempt)
        {
            bodies.retain(|(digest, _)| wanted.contains(digest));
            self.store_dissent(bodies);
            return;
        }
        let Some(open) = self.runs.get_mut(&attempt.run) else { return };
        if open.collecting.get(&attempt) != Some(&worker) {
            return;
        }
        open.collecting.remove(&attempt);
        self.asked.remove(&(worker, attempt));
        let wanted = open.wanted_from(attempt);
        bodies.retain(|(digest, _)| wanted.contains(digest));
        let absent = absent(&wanted, &bodies);
        let pin_ms = if open.is_durable() { COLLECTED_PIN_MS } else { UNWRITTEN_PIN_MS };
        let pin = self.now().plus_ms(pin_ms);
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

/// A vote as it is kept with its run's final.
fn cast(link: &Link, code: Class, report: &VoteReport, proof: Option<Box<VoteProof>>) -> CastVote {
    CastVote {
        number: report.attempt.number,
        worker: link.row.id,
        key: link.row.key,
        domain: link.row.domain.clone(),
        nonce: report.nonce,
        class: report.class,
        code,
        artifact: report.artifact,
        result: report.result,
        proof,
        // known when it has been counted
        weight: None,
    }
}

/// The manifest of a vote, which must hash to the result digest.
fn read_manifest(report: &VoteReport) -> Result<ResultManifest, Refused> {
    if Digest::of(&report.manifest) != report.result {
        return Err(Refused::new("manifest", "the result digest does not name the manifest"));
    }
    serde_json::from_slice(&report.manifest)
        .map_err(|error| Refused::new("manifest", format!("the manifest does not decode: {error}")))
}

/// What no guest can have left: a runner that was taken over, or a worker that lies, could otherwise have more stored here
/// than its run may leave.
fn check_limits(manifest: &ResultManifest, limits: &Limits) -> Result<(), &'static str> {
    let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0_u64, u64::saturating_add);
    let written = manifest.stdout.size.saturating_add(manifest.stderr.size);
    if written > limits.output_bytes {
        return Err("the result has more output than the run may write");
    }
    if manifest.files.len() > limits.file_count as usize
        || sum(&mut manifest.files.iter().map(|file| file.size)) > limits.file_bytes
    {
        return Err("the result has more files than the run may leave");
    }
    if !manifest.files.iter().all(|file| file.path.is_below("/out"))
        || !manifest.files.is_sorted_by(|one, other| one.path < other.path)
    {
        return Err("the files of the result are not those below /out in their order");
    }
    Ok(())
}

/// A fault with no more of its worker's words than are kept.
fn clipped(fault: Fault) -> Fault {
    let clip = |detail: String| match detail.char_indices().nth(FAULT_CHARS_MAX) {
        Some((end, _)) => detail[..end].to_owned(),
        None => detail,
    };
    match fault {
        Fault::Crashed { signal, detail } => Fault::Crashed { signal, detail: clip(detail) },
        Fault::Refused { detail } => Fault::Refused { detail: clip(detail) },
        Fault::Corrupt { detail } => Fault::Corrupt { detail: clip(detail) },
        Fault::TimedOut | Fault::Lost | Fault::Drained => fault,
    }
}

/// The first of the wanted blobs that was not delivered.
fn absent(wanted: &[Digest], bodies: &[(Digest, BlobBody)]) -> Option<Digest> {
    let there: HashSet<Digest> = bodies.iter().map(|(digest, _)| *digest).collect();
    wanted.iter().find(|digest| !there.contains(digest)).copied()
}

/// The inline outputs of a vote, which must be outputs of the manifest and hash to their names.
fn checked_inline(
    manifest: &ResultManifest,
    inline: Vec<(Digest, Bytes)>,
) -> Result<BTreeMap<Digest, Bytes>, Refused> {
    let mut checked = BTreeMap::new();
    if inline.is_empty() {
        return Ok(checked);
    }
    let outputs: HashSet<Digest> = manifest.outputs().map(|output| output.digest).collect();
    for (digest, bytes) in inline {
        if !outputs.contains(&digest) || Digest::of(&bytes) != digest {
            return Err(Refused::new("inline", format!("{digest} does not name what came with the vote")));
        }
        checked.insert(digest, bytes);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Outcome, OutputFile, OutputRef};

    #[test]
    fn a_result_that_no_guest_can_have_left_is_refused() {
        let limits = Limits { output_bytes: 10, file_bytes: 10, file_count: 2, ..Limits::default() };
        let of = |size| OutputRef { digest: Digest::EMPTY, size };
        let file = |path: &str, size| OutputFile { path: path.parse().unwrap(), digest: Digest::EMPTY, size };
        let manifest = |stdout, stderr, files| ResultManifest {
            outcome: Outcome::Exited { code: 0 },
            stdout: of(stdout),
            stderr: of(stderr),
            files,
            fuel_used: None,
        };
        let good = [manifest(5, 5, vec![]), manifest(0, 0, vec![file("/out/a", 5), file("/out/b", 5)])];
        for manifest in good {
            assert_eq!(check_limits(&manifest, &limits), Ok(()));
        }
        let bad = [
            manifest(5, 6, vec![]),
            manifest(u64::MAX, u64::MAX, vec![]),
            manifest(0, 0, vec![file("/out/a", 5), file("/out/b", 6)]),
            manifest(0, 0, vec![file("/out/a", u64::MAX), file("/out/b", u64::MAX)]),
            manifest(0, 0, vec![file("/out/a", 0), file("/out/b", 0), file("/out/c", 0)]),
            manifest(0, 0, vec![file("/etc/passwd", 1)]),
            manifest(0, 0, vec![file("/out/b", 1), file("/out/a", 1)]),
            manifest(0, 0, vec![file("/out/a", 1), file("/out/a", 1)]),
        ];
        for manifest in bad {
            assert!(check_limits(&manifest, &limits).is_err(), "{manifest:?}");
        }
    }

    #[test]
    fn as_many_outputs_as_a_run_may_leave_are_compared_at_once() {
        let bodies = |count: u32| -> Vec<(Digest, Bytes)> {
            let body = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
            (0..count).map(body).map(|bytes| (Digest::of(&bytes), bytes)).collect()
        };
        let all = bodies(Limits::MAX.file_count);
        let file = |(digest, bytes): &(Digest, Bytes)| OutputFile {
            path: format!("/out/{digest}").parse().unwrap(),
            digest: *digest,
            size: bytes.len() as u64,
        };
        let manifest = ResultManifest {
            outcome: Outcome::Exited { code: 0 },
            stdout: OutputRef::of(b""),
            stderr: OutputRef::of(b""),
            files: all.iter().map(file).collect(),
            fuel_used: None,
        };
        let wanted: Vec<Digest> = all.iter().map(|(digest, _)| *digest).collect();
        let delivered: Vec<_> =
            all.iter().cloned().map(|(digest, bytes)| (digest, BlobBody::Inline(bytes))).collect();
        let began = std::time::Instant::now();
        assert_eq!(absent(&wanted, &delivered), None);
        assert_eq!(absent(&wanted, &delivered[..delivered.len() - 1]), wanted.last().copied());
        assert_eq!(checked_inline(&manifest, all).unwrap().len(), wanted.len());
        // Far above what it takes, and far below what looking through all of them for each takes.
        assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
        let foreign = bodies(Limits::MAX.file_count + 1).split_off(wanted.len());
        assert!(checked_inline(&manifest, foreign).is_err());
    }

    #[test]
    fn a_fault_keeps_no_more_words_than_are_shown() {
        let detail = "\u{e4}".repeat(FAULT_CHARS_MAX + 1);
        let Fault::Refused { detail } = clipped(Fault::Refused { detail }) else { panic!("another fault") };
        assert_eq!(detail.chars().count(), FAULT_CHARS_MAX);
    }
}
