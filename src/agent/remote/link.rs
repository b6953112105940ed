//! The link between an agent and whichever coordinator it has a session with. It lives as long as the process; connections
//! come and go, and the agent does not notice.
//!
//! Invariant: nothing here waits without also hearing the agent, so that what executes goes on whatever the network does.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Upgraded, Url};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::blobs::{Access, Remote, travel_inline};
use super::connect::{Connection, Connector};
use super::holds::{Grants, Holds};
use super::{Joined, RemoteError};
use crate::agent::misbehave::Misbehaviour;
use crate::agent::{AgentConfig, AgentHandle, ArtifactSource, InputSource, misbehave};
use crate::id::WorkerId;
use crate::protocol::agent::{Assignment, FromAgent, ToAgent};
use crate::protocol::wire::{self, Batch, Facts, FromWorker, ToWorker, VERSION, Welcome, WireError};
use crate::receipt::{merkle, sign_root};
use crate::result::Fault;

/// Messages of the agent that are sent together.
const GATHERED_MAX: usize = 512;
/// Messages for the agent beyond which nothing more is read from the coordinator.
const PENDING_MAX: usize = 4_096;
/// What is said of ended attempts leaves together with what follows, while others are about to end: so many votes at most …
const COMPANY_MAX: usize = 32;
/// … so many if nothing else is here to be executed …
const COMPANY_ENOUGH: usize = 16;
/// … and for so long at most: little beside what a run waits for where so many do.
const COMPANY_WAIT: Duration = Duration::from_millis(10);
/// A coordinator is never taken for dead sooner.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// Beyond the time for a drain: for telling the coordinator.
const FAREWELL: Duration = Duration::from_secs(5);

/// A drain that the process was asked for.
pub(super) type Drain<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

/// How a session ended.
pub(super) enum End {
    /// The connection is gone.
    Cut(String),
    /// The worker has drained, and said so.
    Drained,
}

/// What the link works with.
pub(super) struct Parts {
    pub(super) agent: AgentConfig,
    pub(super) inputs: Arc<dyn InputSource>,
    pub(super) artifacts: Arc<dyn ArtifactSource>,
    pub(super) key: SigningKey,
    pub(super) blobs: Remote,
    pub(super) access: watch::Sender<Option<Access>>,
    pub(super) drain_within: Duration,
    pub(super) misbehaviour: Option<Misbehaviour>,
    pub(super) joined: Box<dyn FnMut(&Joined) + Send>,
}

pub(super) struct Link {
    parts: Parts,
    /// To the agent, which is started at the first welcome: that says how often it beats.
    to: Option<mpsc::Sender<ToAgent>>,
    /// From the agent.
    from: Option<mpsc::Receiver<FromAgent>>,
    /// The agent has said its last word.
    ended: bool,
    has_drained: bool,
    /// When a drain is given up.
    give_up: Option<tokio::time::Instant>,
    holds: Holds,
    grants: Grants,
    /// For the agent.
    pending: VecDeque<ToAgent>,
    /// For the coordinator.
    outbox: Vec<FromAgent>,
    delivering: JoinSet<FromAgent>,
    /// Until when what is to be said waits for company.
    company: Option<tokio::time::Instant>,
    /// How long it may, although nothing else is about to end here, by the coordinator's word.
    patience: Duration,
    /// Messages sent in this session.
    sent: u64,
}

impl Link {
    pub(super) fn new(parts: Parts) -> Link {
        Link {
            parts,
            to: None,
            from: None,
            ended: false,
            has_drained: false,
            give_up: None,
            holds: Holds::default(),
            grants: Grants::default(),
            pending: VecDeque::new(),
            outbox: Vec::new(),
            delivering: JoinSet::new(),
            company: None,
            patience: Duration::ZERO,
            sent: 0,
        }
    }

    /// Until the worker has drained, or can never be let in.
    pub(super) async fn run(
        mut self,
        mut connector: Connector,
        mut drain: Drain<'_>,
    ) -> Result<(), RemoteError> {
        loop {
            let Some(connection) = self.connected(&mut connector, &mut drain).await? else { return Ok(()) };
            let begun = Instant::now();
            let coordinator = connection.base.clone();
            let end = self.session(connection, &mut drain).await;
            connector.ended(begun.elapsed());
            match end? {
                End::Drained => return Ok(()),
                End::Cut(why) => tracing::warn!(%coordinator, why, "the session with the coordinator ended"),
            }
        }
    }

    /// A connection; `None` if the worker ends without one. What executes goes on meanwhile.
    async fn connected(
        &mut self,
        connector: &mut Connector,
        drain: &mut Drain<'_>,
    ) -> Result<Option<Connection>, RemoteError> {
        let facts = self.facts();
        let mut connecting = std::pin::pin!(connector.connect(&facts));
        let mut heard = Vec::new();
        loop {
            let give_up = self.give_up;
            if give_up.is_some() && (self.to.is_none() || self.ended && self.holds.is_empty()) {
                return Ok(None);
            }
            // cancel safe: receiving loses nothing, the others keep their state
            tokio::select! {
                made = &mut connecting => return made.map(Some),
                () = &mut *drain, if give_up.is_none() => self.begin_drain(),
                count = hear(&mut self.from, &mut heard), if !self.ended => self.take(count, &mut heard),
                () = pass(&self.to, &mut self.pending), if !self.pending.is_empty() => {}
                () = until(give_up) => {
                    tracing::warn!(votes = self.holds.len(), "the drain ends without a coordinator");
                    return Ok(None);
                }
            }
            // beats and output are of the moment; votes and faults are kept
            self.outbox.clear();
        }
    }

    fn facts(&self) -> Facts {
        let agent = &self.parts.agent;
        Facts {
            version: VERSION,
            name: agent.name.clone(),
            class: agent.classes.native.0,
            slots: agent.slots,
            memory_bytes: agent.memory_bytes,
            labels: agent.labels.clone().into_iter().collect(),
            holds: self.holds.shown(),
            build: agent.version.clone(),
            portable: agent.classes.portable.results.0,
            portable_code: agent.classes.portable.code.0,
            about: agent.about.iter().filter_map(|inputs| serde_json::to_string(inputs).ok()).collect(),
        }
    }

    fn begin_drain(&mut self) {
        let within = self.parts.drain_within;
        self.give_up = Some(tokio::time::Instant::now() + within + FAREWELL);
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(within_ms, "draining: nothing new is taken");
        self.pending.push_back(ToAgent::Drain { within_ms });
    }

    fn start_agent(&mut self, heartbeat_ms: u64) -> Result<(), RemoteError> {
        if self.to.is_none() {
            let config = AgentConfig { heartbeat_ms, ..self.parts.agent.clone() };
            let (inputs, artifacts) = (Arc::clone(&self.parts.inputs), Arc::clone(&self.parts.artifacts));
            let name = config.name.clone();
            let handle = crate::agent::start(config, inputs, artifacts).map_err(RemoteError::Agent)?;
            let AgentHandle { to, from, .. } = match self.parts.misbehaviour {
                Some(kind) => misbehave::wrap(handle, kind, name),
                None => handle,
            };
            (self.to, self.from) = (Some(to), Some(from));
        }
        Ok(())
    }

    /// A session begins: everything that the coordinator may not have heard is to be said again.
    fn begin(&mut self, welcome: &Welcome, base: &Url) -> Result<(), RemoteError> {
        (self.parts.joined)(&Joined {
            worker: WorkerId(welcome.worker),
            domain: welcome.domain.clone(),
            classes: self.parts.agent.classes,
            coordinator: base.to_string(),
            quarantined: welcome.quarantined.clone(),
        });
        let access = Access { base: base.clone(), token: welcome.http_token.clone() };
        self.parts.access.send_replace(Some(access));
        self.start_agent(welcome.heartbeat_ms)?;
        self.grants.begin();
        self.sent = 0;
        self.patience = Duration::ZERO;
        self.outbox = self.holds.again();
        self.outbox.push(self.grants.words(self.holds.len()));
        if self.has_drained {
            self.outbox.push(FromAgent::Drained);
        }
        Ok(())
    }

    async fn session(&mut self, connection: Connection, drain: &mut Drain<'_>) -> Result<End, RemoteError> {
        let Connection { mut socket, welcome, base } = connection;
        self.begin(&welcome, &base)?;
        let silence = Duration::from_millis(welcome.silence_ms).max(SILENCE_MIN);
        let mut quiet = tokio::time::Instant::now() + silence;
        let mut heard = Vec::new();
        loop {
            if !self.outbox.is_empty() && !self.waits_for_company() {
                match timeout(silence, self.flush(&mut socket)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Ok(End::Cut(error.to_string())),
                    Err(_) => return Ok(End::Cut("the coordinator takes nothing".to_owned())),
                }
            }
            if self.has_drained && self.delivering.is_empty() {
                drop(timeout(FAREWELL, socket.close(None)).await);
                return Ok(End::Drained);
            }
            let give_up = self.give_up;
            let reads = self.pending.len() < PENDING_MAX;
            // cancel safe: the socket keeps what it has read, receiving loses nothing
            tokio::select! {
                message = socket.next(), if reads => {
                    quiet = tokio::time::Instant::now() + silence;
                    if let Err(why) = self.received(message, &base) {
                        return Ok(End::Cut(why));
                    }
                }
                count = hear(&mut self.from, &mut heard), if !self.ended => self.take(count, &mut heard),
                () = pass(&self.to, &mut self.pending), if !self.pending.is_empty() => {}
                Some(delivered) = self.delivering.join_next(), if !self.delivering.is_empty() => {
                    self.outbox.extend(delivered);
                }
                () = &mut *drain, if give_up.is_none() => self.begin_drain(),
                () = until(self.company), if self.company.is_some() => {}
                () = sleep_until(quiet), if reads => {
                    return Ok(End::Cut(format!("nothing was heard for {} ms", silence.as_millis())));
                }
                () = until(give_up) => return Ok(End::Drained),
            }
            if self.ended && !self.has_drained {
                return Err(RemoteError::AgentEnded);
            }
        }
    }

    /// Whether more is about to be said: then one message carries it, with one signature. A worker that has nothing else
    /// to execute does not wait, so that nobody waits for it, unless the coordinator says that many runs are open; and
    /// never while a slot has nothing to do that only hearing from it can fill.
    fn waits_for_company(&mut self) -> bool {
        let is_vote = |message: &&FromAgent| matches!(message, FromAgent::Voted(_));
        let is_other =
            |message: &FromAgent| !matches!(message, FromAgent::Voted(_) | FromAgent::Credits { .. });
        let slots = self.parts.agent.slots as usize;
        let has_more = self.holds.open() > slots;
        let is_starved = self.holds.open() < slots && self.grants.outstanding() == 0;
        let wait = if has_more { COMPANY_WAIT } else { self.patience };
        let enough = if has_more { COMPANY_MAX } else { COMPANY_ENOUGH };
        if wait.is_zero()
            || is_starved
            || self.outbox.iter().any(is_other)
            || self.outbox.iter().filter(is_vote).count() >= enough
        {
            self.company = None;
            return false;
        }
        let now = tokio::time::Instant::now();
        let until = *self.company.get_or_insert(now + wait);
        if until <= now {
            self.company = None;
        }
        until > now
    }

    /// Something came, or the end of it.
    fn received(&mut self, message: Option<Result<Message, SocketError>>, base: &Url) -> Result<(), String> {
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                self.understand(&bytes, base).map_err(|error| error.to_string())
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Text(_))) => Err("it sent text".to_owned()),
            Some(Ok(Message::Close(_))) | None => Err("the coordinator closed it".to_owned()),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    /// What the agent said.
    fn take(&mut self, count: usize, heard: &mut Vec<FromAgent>) {
        self.ended = count == 0;
        for message in heard.drain(..) {
            self.say(message);
        }
        // what it gave back is not held any more
        self.outbox.extend(self.grants.again(self.holds.len()));
    }

    fn say(&mut self, message: FromAgent) {
        match message {
            FromAgent::Hello { .. } => {}
            FromAgent::Credits { credits, received } => {
                self.grants.granted(credits, received);
                self.outbox.push(self.grants.words(self.holds.len()));
            }
            FromAgent::Voted(report) => {
                if self.holds.voted(&report) {
                    self.outbox.push(FromAgent::Voted(report));
                }
            }
            FromAgent::Faulted { attempt, epoch, fault, begun_at_us, cpu_us } => {
                if self.holds.faulted(attempt, fault.clone(), begun_at_us, cpu_us) {
                    self.outbox.push(FromAgent::Faulted { attempt, epoch, fault, begun_at_us, cpu_us });
                }
            }
            FromAgent::Returned { attempt, .. } => {
                // a cut may swallow the word; that it is not shown afterwards says the same
                self.holds.forget(attempt);
                self.outbox.push(message);
            }
            FromAgent::Blobs { attempt, blobs } if !travel_inline(&blobs) => {
                self.delivering.spawn(self.parts.blobs.clone().deliver(attempt, blobs));
            }
            FromAgent::Drained => {
                self.has_drained = true;
                self.outbox.push(FromAgent::Drained);
            }
            other @ (FromAgent::Heartbeat(_) | FromAgent::Live { .. } | FromAgent::Blobs { .. }) => {
                self.outbox.push(other);
            }
        }
    }

    /// What the coordinator said.
    fn understand(&mut self, message: &[u8], base: &Url) -> Result<(), WireError> {
        for frame in wire::decode::<ToWorker>(message)? {
            match frame {
                ToWorker::Assign(frame) => {
                    let (attempt, epoch) = frame.name();
                    match Assignment::try_from(*frame) {
                        Ok(assignment) => {
                            self.holds.assigned(&assignment);
                            self.grants.pass();
                            self.pending.push_back(ToAgent::Assign(Box::new(assignment)));
                        }
                        Err(error) => {
                            self.grants.skip();
                            let fault = Fault::Refused { detail: error.to_string() };
                            let words =
                                FromAgent::Faulted { attempt, epoch, fault, begun_at_us: None, cpu_us: 0 };
                            self.outbox.extend([words, self.grants.words(self.holds.len())]);
                        }
                    }
                }
                ToWorker::Abort(attempt) => {
                    self.holds.forget(attempt.into());
                    self.pending.push_back(ToAgent::Abort(attempt.into()));
                }
                ToWorker::Release(attempt) => {
                    self.holds.forget(attempt.into());
                    self.pending.push_back(ToAgent::Release(attempt.into()));
                }
                ToWorker::Collect { attempt, digests } => {
                    self.pending.push_back(ToAgent::Collect { attempt: attempt.into(), digests });
                }
                ToWorker::Watch(attempt) => self.pending.push_back(ToAgent::Watch(attempt.into())),
                ToWorker::Drain { within_ms } => self.pending.push_back(ToAgent::Drain { within_ms }),
                ToWorker::HttpToken(token) => {
                    self.parts.access.send_replace(Some(Access { base: base.clone(), token }));
                }
                ToWorker::Taken { messages } => self.holds.taken(messages),
                ToWorker::Patience { ms } => {
                    self.patience = Duration::from_millis(ms.into()).min(COMPANY_WAIT);
                }
            }
        }
        self.outbox.extend(self.grants.again(self.holds.len()));
        Ok(())
    }

    /// Sends what is to be said: in batches, each with one signature over its votes, and with one flush.
    async fn flush(&mut self, socket: &mut WebSocketStream<Upgraded>) -> Result<(), SocketError> {
        let (mut batch, mut votes) = (Batch::default(), Vec::new());
        let mut outbox = VecDeque::from(std::mem::take(&mut self.outbox));
        only_last_grant(&mut outbox);
        while let Some(message) = outbox.pop_front() {
            let mut attempt = None;
            let mut leaf = None;
            match &message {
                FromAgent::Voted(report) => {
                    attempt = Some((report.attempt, report.epoch));
                    leaf = Some(report.statement().leaf());
                }
                FromAgent::Faulted { attempt, .. } => self.holds.leaves(*attempt, self.sent + 1),
                FromAgent::Credits { credits, received } => self.grants.told(*credits, *received),
                _ => {}
            }
            let Some(frame) = FromWorker::of(message) else { continue };
            match (batch.push(&frame), attempt) {
                (Ok(()), _) => votes.extend(leaf),
                (Err(error), Some((attempt, epoch))) => {
                    // a manifest that cannot be told: nobody can vote for it from afar
                    let fault = Fault::Refused { detail: error.to_string() };
                    self.holds.faulted(attempt, fault.clone(), None, 0);
                    self.pending.push_back(ToAgent::Release(attempt));
                    outbox.push_front(FromAgent::Faulted {
                        attempt,
                        epoch,
                        fault,
                        begun_at_us: None,
                        cpu_us: 0,
                    });
                }
                (Err(error), None) => tracing::error!(%error, "a message cannot be sent"),
            }
            if batch.is_full() {
                self.seal(&mut batch, &mut votes, socket).await?;
            }
        }
        if !batch.is_empty() {
            self.seal(&mut batch, &mut votes, socket).await?;
        }
        socket.flush().await
    }

    async fn seal(
        &mut self,
        batch: &mut Batch,
        votes: &mut Vec<merkle::Node>,
        socket: &mut WebSocketStream<Upgraded>,
    ) -> Result<(), SocketError> {
        if !votes.is_empty() {
            let count = u32::try_from(votes.len()).unwrap_or(u32::MAX);
            let signature = sign_root(&self.parts.key, &merkle::root(votes), count);
            // there is room: a full batch keeps some for it
            let _ = batch.push(&FromWorker::Signature(signature.into()));
            votes.clear();
        }
        self.sent += 1;
        socket.feed(Message::Binary(batch.take())).await
    }
}

/// Of several grants the last one says all.
fn only_last_grant(outbox: &mut VecDeque<FromAgent>) {
    let is_grant = |message: &FromAgent| matches!(message, FromAgent::Credits { .. });
    let mut later = outbox.iter().filter(|message| is_grant(message)).count();
    outbox.retain(|message| {
        later -= usize::from(is_grant(message));
        !is_grant(message) || later == 0
    });
}

/// What the agent says next; 0 when it has said everything.
async fn hear(from: &mut Option<mpsc::Receiver<FromAgent>>, heard: &mut Vec<FromAgent>) -> usize {
    match from {
        Some(from) => from.recv_many(heard, GATHERED_MAX).await,
        None => std::future::pending().await,
    }
}

/// Passes on as much as the agent takes now, at least one message.
async fn pass(to: &Option<mpsc::Sender<ToAgent>>, pending: &mut VecDeque<ToAgent>) {
    let Some(to) = to else { return std::future::pending().await };
    let Ok(permit) = to.reserve().await else {
        // it has ended: nothing reaches it any more
        return pending.clear();
    };
    if let Some(message) = pending.pop_front() {
        permit.send(message);
    }
    while let Some(message) = pending.pop_front() {
        match to.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(message)) => return pending.push_front(message),
            Err(mpsc::error::TrySendError::Closed(_)) => return pending.clear(),
        }
    }
}

async fn until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
