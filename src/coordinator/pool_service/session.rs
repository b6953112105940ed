//! A session that is under way: batches in, batches out.
//!
//! Each direction goes on by itself, so that a worker that stops reading does not stop being heard. Nothing is read while more
//! of the session's bytes wait for the owner than its bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::handshake::Greeted;
use super::{PoolService, token};
use crate::coordinator::owner::{Command, Remote};
use crate::id::WorkerId;
use crate::protocol::agent::{FromAgent, ToAgent, VoteReport};
use crate::protocol::wire::{self, Batch, FromWorker, ToWorker, WireError};
use crate::receipt::{RootSignature, VoteProof, merkle, verify_root_by};

/// Messages that may wait for a worker: its assignments, and as many words about them. One that reads no more is cut off.
const OUTBOUND_MAX: usize = 16 * 1024;
/// Messages of the owner that are put together at once.
const GATHERED_MAX: usize = 512;
/// Where so many runs are open for each slot, some more milliseconds are little beside what one of them takes: votes wait for
/// each other, so that one message and one signature carry several …
const MANY_RUNS: usize = 16;
/// … until only so many are left: one commit ends dozens at once, and their callers come with the next ones.
const FEW_RUNS: usize = 4;
const PATIENCE_MS: u16 = 10;
/// That outputs may go is told together with what follows, or after this time.
const RELEASES_WAIT: Duration = Duration::from_millis(10);
/// What a session's messages may take until the owner has heard them, in KiB. A message counts as at least [`MESSAGE_KIB_MIN`].
const UNHEARD_KIB_MAX: u32 = 32 * 1024;
const MESSAGE_KIB_MIN: u32 = 64;
/// How long one message may take to leave.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A worker that says nothing for so long, not even an answer to a ping, is let go. Longer than it takes to be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A message that the owner has not heard; dropped when it has.
#[derive(Debug)]
pub struct Taken {
    _room: OwnedSemaphorePermit,
    messages: Arc<AtomicU64>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }
}

/// What ends a session from our side.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the connection ended")]
    Gone,
    #[error("nothing was heard for {} s", IDLE_TIMEOUT.as_secs())]
    Silent,
    #[error("it took nothing for {} s", WRITE_TIMEOUT.as_secs())]
    Stuck,
    #[error("it sent what it should not: {0}")]
    Wire(#[from] WireError),
    #[error("it sent text")]
    Text,
    #[error("a newer session took its place, or it read too slowly")]
    Replaced,
    #[error("the coordinator is shutting down")]
    Stopping,
}

/// The slots of a session, for as long as it lasts.
struct Slots<'a> {
    all: &'a AtomicUsize,
    its: usize,
}

impl<'a> Slots<'a> {
    fn of(all: &'a AtomicUsize, slots: u32) -> Slots<'a> {
        let its = slots as usize;
        all.fetch_add(its, Ordering::Relaxed);
        Slots { all, its }
    }
}

impl Drop for Slots<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.its, Ordering::Relaxed);
    }
}

impl PoolService {
    /// From the welcome to the end.
    pub(super) async fn run(&self, socket: WebSocket, greeted: Greeted) {
        let (worker, key, session) = (greeted.row.id, greeted.row.key, self.next_session());
        let (to, messages) = mpsc::channel(OUTBOUND_MAX);
        let remote = Some(Remote { slots: greeted.slots });
        let _ = self.parts.commands.send(Command::Join { row: Box::new(greeted.row), to, session, remote });
        let _ = self.parts.commands.send(Command::Said(worker, session, greeted.hello));
        let taken = Arc::new(AtomicU64::new(0));
        let _counted = Slots::of(&self.slots, greeted.slots);
        let (mut sink, stream) = socket.split();
        // no key proves nothing
        let key = VerifyingKey::from_bytes(&key).ok();
        let end = tokio::select! {
            end = self.listen(stream, worker, session, key.as_ref(), &taken) => end,
            end = self.speak(&mut sink, messages, worker, &taken) => end,
            () = self.parts.stopping.cancelled() => End::Stopping,
        };
        if let End::Wire(_) | End::Text = end {
            self.parts.metrics.sessions_refused("protocol");
            tracing::warn!(%worker, session, why = %end, "a worker's session was closed");
        } else {
            tracing::info!(%worker, session, why = %end, "a worker's session ended");
        }
        let _ = self.parts.commands.send(Command::Gone(worker, session));
        drop(tokio::time::timeout(Duration::from_secs(1), sink.close()).await);
    }

    async fn listen(
        &self,
        mut stream: SplitStream<WebSocket>,
        worker: WorkerId,
        session: u64,
        key: Option<&VerifyingKey>,
        taken: &Arc<AtomicU64>,
    ) -> End {
        let room = Arc::new(Semaphore::new(UNHEARD_KIB_MAX as usize));
        loop {
            let bytes = match tokio::time::timeout(IDLE_TIMEOUT, stream.next()).await {
                Err(_) => return End::Silent,
                Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Ok(Some(Ok(Message::Text(_)))) => return End::Text,
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return End::Gone,
            };
            let kib = u32::try_from(bytes.len() / 1024 + 1).unwrap_or(UNHEARD_KIB_MAX);
            let kib = kib.clamp(MESSAGE_KIB_MIN, UNHEARD_KIB_MAX);
            let Ok(permit) = Arc::clone(&room).acquire_many_owned(kib).await else { return End::Gone };
            let messages = match self.understood(&bytes, worker, key) {
                Ok(messages) => messages,
                Err(error) => return error.into(),
            };
            let taken = Taken { _room: permit, messages: Arc::clone(taken) };
            if self.parts.commands.send(Command::SaidAll { worker, session, messages, taken }).is_err() {
                return End::Stopping;
            }
        }
    }

    /// Decodes a message; its votes come with their proof if the worker signed them.
    fn understood(
        &self,
        message: &Bytes,
        worker: WorkerId,
        key: Option<&VerifyingKey>,
    ) -> Result<Vec<FromAgent>, WireError> {
        let mut messages = Vec::new();
        let mut signature = None;
        for frame in wire::decode::<FromWorker>(message)? {
            match frame {
                FromWorker::Signature(signed) => signature = Some(RootSignature::from(signed)),
                frame => messages.extend(frame.message()),
            }
        }
        if !prove(&mut messages, signature, key) {
            tracing::warn!(%worker, "votes came without a valid signature");
        }
        Ok(messages)
    }

    async fn speak(
        &self,
        sink: &mut SplitSink<WebSocket, Message>,
        mut messages: mpsc::Receiver<ToAgent>,
        worker: WorkerId,
        taken: &AtomicU64,
    ) -> End {
        let mut beat = tokio::time::interval(Duration::from_millis(self.parts.heartbeat_ms));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renew = tokio::time::interval(Duration::from_millis(token::RENEW_MS));
        // the first token came with the welcome
        renew.reset();
        let (mut gathered, mut batch, mut told, mut patience_ms) = (Vec::new(), Batch::default(), 0, 0);
        let mut release_by: Option<Instant> = None;
        loop {
            let mut ping = false;
            tokio::select! {
                count = messages.recv_many(&mut gathered, GATHERED_MAX) => {
                    if count == 0 {
                        return End::Replaced;
                    }
                }
                _ = beat.tick() => ping = true,
                () = until(release_by) => {}
                _ = renew.tick() => {
                    let token = token::issue(&self.parts.mac_key, worker, self.parts.clock.now());
                    // a frame of some bytes always fits
                    let _ = batch.push(&ToWorker::HttpToken(token));
                }
            }
            if !ping && batch.is_empty() && only_releases(&gathered) {
                let now = Instant::now();
                if now < *release_by.get_or_insert(now + RELEASES_WAIT) {
                    continue;
                }
            }
            release_by = None;
            let heard = taken.load(Ordering::Relaxed);
            if heard != told {
                told = heard;
                let _ = batch.push(&ToWorker::Taken { messages: heard });
            }
            let before_ms = patience_ms;
            let (open, slots) =
                (self.parts.open_runs.load(Ordering::Relaxed), self.slots.load(Ordering::Relaxed));
            patience_ms = patience(open, slots, before_ms > 0);
            if before_ms != patience_ms {
                let _ = batch.push(&ToWorker::Patience { ms: patience_ms });
            }
            let mut outgoing = packed(&mut gathered, &mut batch, worker);
            if ping {
                outgoing.push(Message::Ping(Bytes::new()));
            }
            match tokio::time::timeout(WRITE_TIMEOUT, send(sink, outgoing)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Gone,
                Err(_) => return End::Stuck,
            }
        }
    }
}

/// How long votes may wait for each other, in milliseconds, while so many runs are open for all remote slots; they
/// `could_wait` so far or not.
fn patience(open_runs: usize, slots: usize, could_wait: bool) -> u16 {
    let enough = if could_wait { FEW_RUNS } else { MANY_RUNS };
    if open_runs >= slots.saturating_mul(enough) { PATIENCE_MS } else { 0 }
}

/// Whether nothing was gathered but that outputs may go, and not too much of that.
fn only_releases(gathered: &[ToAgent]) -> bool {
    gathered.len() < GATHERED_MAX && gathered.iter().all(|message| matches!(message, ToAgent::Release(_)))
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What was gathered as messages, behind what is in the batch.
fn packed(gathered: &mut Vec<ToAgent>, batch: &mut Batch, worker: WorkerId) -> Vec<Message> {
    let mut outgoing = Vec::new();
    for message in gathered.drain(..) {
        if let Err(error) = batch.push(&ToWorker::from(&message)) {
            // only an assignment can be so large: its worker will not show it, so it is handed out elsewhere
            tracing::error!(%worker, %error, "a message cannot be sent");
        }
        if batch.is_full() {
            outgoing.push(Message::Binary(batch.take()));
        }
    }
    if !batch.is_empty() {
        outgoing.push(Message::Binary(batch.take()));
    }
    outgoing
}

/// Sends all of it with one flush.
async fn send(sink: &mut SplitSink<WebSocket, Message>, messages: Vec<Message>) -> Result<(), axum::Error> {
    for message in messages {
        sink.feed(message).await?;
    }
    sink.flush().await
}

/// Gives each vote its proof, if the signature is the worker's over just these votes. `false`: some vote has none.
fn prove(messages: &mut [FromAgent], signature: Option<RootSignature>, key: Option<&VerifyingKey>) -> bool {
    let mut votes: Vec<&mut VoteReport> = messages
        .iter_mut()
        .filter_map(|message| match message {
            FromAgent::Voted(report) => Some(&mut **report),
            _ => None,
        })
        .collect();
    if votes.is_empty() {
        return true;
    }
    let leaves: Vec<_> = votes.iter().map(|vote| vote.statement().leaf()).collect();
    let (root, paths) = merkle::tree(&leaves);
    let count = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
    let is_its =
        |signature: &RootSignature| key.is_some_and(|key| verify_root_by(key, &root, count, signature));
    let Some(signature) = signature.filter(is_its) else { return false };
    for ((vote, path), index) in votes.iter_mut().zip(paths).zip(0..count) {
        vote.proof = Some(Box::new(VoteProof { root, count, index, path, signature }));
    }
    true
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::core::Class;
    use crate::digest::Digest;
    use crate::id::{AttemptId, Epoch, RunId};
    use crate::receipt::sign_root;

    fn vote(number: u32) -> FromAgent {
        FromAgent::Voted(Box::new(VoteReport {
            attempt: AttemptId { run: RunId(1), number },
            epoch: Epoch(1),
            nonce: [0; 16],
            run_key: Digest::EMPTY,
            class: Class(Digest::EMPTY),
            artifact: Digest::EMPTY,
            result: Digest::EMPTY,
            manifest: Bytes::new(),
            inline: Vec::new(),
            cpu_us: 0,
            begun_at_us: 0,
            proof: None,
        }))
    }

    fn proofs(messages: &[FromAgent]) -> usize {
        let has_proof =
            |message: &&FromAgent| matches!(message, FromAgent::Voted(vote) if vote.proof.is_some());
        messages.iter().filter(has_proof).count()
    }

    #[test]
    fn votes_wait_for_each_other_from_many_runs_on_until_few_are_left() {
        assert_eq!(patience(1, 1, false), 0, "a lone run is answered at once");
        assert_eq!(patience(31, 2, false), 0);
        assert_eq!(patience(32, 2, false), PATIENCE_MS);
        assert_eq!(patience(8, 2, true), PATIENCE_MS, "what one commit ends makes no difference");
        assert_eq!(patience(7, 2, true), 0);
    }

    #[test]
    fn only_the_release_of_outputs_waits_for_company() {
        let attempt = AttemptId { run: RunId(1), number: 1 };
        let releases = vec![ToAgent::Release(attempt); GATHERED_MAX];
        assert!(only_releases(&releases[1..]));
        assert!(!only_releases(&releases), "as many as one message should have");
        assert!(!only_releases(&[ToAgent::Release(attempt), ToAgent::Abort(attempt)]));
    }

    #[test]
    fn a_signature_proves_just_its_own_votes() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let public = key.verifying_key();
        let leaf = |message: &FromAgent| match message {
            FromAgent::Voted(vote) => vote.statement().leaf(),
            _ => panic!("a vote"),
        };
        let mut messages = vec![vote(1), vote(2), vote(3)];
        let leaves: Vec<_> = messages.iter().map(leaf).collect();
        let signature = sign_root(&key, &merkle::root(&leaves), 3);
        messages.insert(1, FromAgent::Drained);
        assert!(prove(&mut messages, Some(signature), Some(&public)));
        assert_eq!(proofs(&messages), 3);
        let FromAgent::Voted(third) = &messages[3] else { panic!() };
        assert!(third.proof.as_ref().unwrap().verify(public.as_bytes(), &third.statement()));

        for mut other in [vec![vote(1), vote(2)], vec![vote(2), vote(1), vote(3)], vec![vote(4)]] {
            assert!(!prove(&mut other, Some(signature), Some(&public)));
            assert_eq!(proofs(&other), 0);
        }
        assert!(!prove(&mut [vote(1)], None, Some(&public)));
        assert!(prove(&mut [FromAgent::Drained], None, Some(&public)), "what is no vote needs no signature");
    }
}
