//! Letting a worker in: it signs a challenge with its key; a key that is not known needs a token.

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;

use super::{Admission, PoolService, token};
use crate::class::{Classes, Portable};
use crate::core::Class;
use crate::id::{AttemptId, Epoch};
use crate::protocol::agent::FromAgent;
use crate::protocol::wire::{
    Facts, Greeting, Hello, RejectCode, VERSION, Welcome, WireError, decode_handshake, encode_handshake,
};
use crate::store::{Enrolment, StoreError, WorkerRow};

/// Length of a worker's name and of its build, in characters.
const NAME_CHARS_MAX: usize = 100;
/// Length of a label's name or value, in characters.
const LABEL_CHARS_MAX: usize = 200;
/// Length of what a class is made of, in bytes.
const ABOUT_BYTES_MAX: usize = 4_096;
/// Attempts at once: as many as an embedded worker may have.
const SLOTS_MAX: u32 = 1_024;
/// Memory of one worker, in bytes: a petabyte is a slip of the finger.
const MEMORY_BYTES_MAX: u64 = 1 << 50;

/// Why a worker is not let in.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: RejectCode,
    pub(super) text: String,
}

impl Refusal {
    fn new(code: RejectCode, text: impl Into<String>) -> Refusal {
        Refusal { code, text: text.into() }
    }

    pub(super) fn full() -> Refusal {
        Refusal::new(
            RejectCode::Full,
            "as many workers are connected as this coordinator takes: try again later",
        )
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Refusal {
        match error {
            WireError::Signature => Refusal::new(
                RejectCode::Identity,
                "the worker's signature does not verify: its key file may be damaged; move it away to enrol anew",
            ),
            other => {
                Refusal::new(RejectCode::Protocol, format!("the worker's hello was not understood: {other}"))
            }
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        tracing::error!(%error, "a worker's row could not be had");
        Refusal::new(RejectCode::Unavailable, "the coordinator's store does not answer: try again")
    }
}

/// A worker that was let in.
pub(super) struct Greeted {
    pub(super) row: WorkerRow,
    pub(super) slots: u32,
    /// What the owner hears first.
    pub(super) hello: FromAgent,
}

impl PoolService {
    /// The handshake, up to the welcome.
    pub(super) async fn greet(
        &self,
        socket: &mut WebSocket,
        admission: Option<Admission>,
    ) -> Result<Box<Greeted>, Refusal> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce)
            .map_err(|_| Refusal::new(RejectCode::Unavailable, "the coordinator has no randomness"))?;
        let build = env!("CARGO_PKG_VERSION").to_owned();
        say(socket, &Greeting::Challenge { versions: vec![VERSION], nonce, build }).await;
        let hello: Hello = decode_handshake(&heard(socket).await?)?;
        let facts = hello.verify(&nonce)?;
        check(&facts)?;
        let row = self.enrolled(hello.key, &facts, admission).await?;
        // whether it is quarantined is kept by those who decide it: what was just read may be over already
        let welcome = Welcome {
            worker: row.id.0,
            domain: row.domain.clone(),
            heartbeat_ms: self.parts.heartbeat_ms,
            silence_ms: self.parts.worker_lost_ms.max(3 * self.parts.heartbeat_ms),
            http_token: token::issue(&self.parts.mac_key, row.id, self.parts.clock.now()),
            quarantined: row.quarantined.clone(),
        };
        say(socket, &Greeting::Welcome(welcome)).await;
        let slots = facts.slots;
        Ok(Box::new(Greeted { row, slots, hello: first_word(facts) }))
    }

    /// The worker's row: the one that it has, or a new one if its token allows that.
    async fn enrolled(
        &self,
        key: [u8; 32],
        facts: &Facts,
        admission: Option<Admission>,
    ) -> Result<WorkerRow, Refusal> {
        let known = self.parts.store.workers().await?.into_iter().find(|row| row.key == key);
        let row = match (known, admission) {
            (Some(row), _) => row,
            (None, Some(Admission { token, domain, owned, arbiter })) => {
                let (name, token, at) = (facts.name.clone(), Some(token), self.parts.clock.now());
                let embedded = false;
                let enrolment = Enrolment { key, name, domain, embedded, owned, arbiter, token, at };
                self.parts.store.enrol_worker(enrolment).await?
            }
            (None, None) => {
                let text = "this worker is not enrolled here yet: give it a token with the scope `worker` once \
                            (--token or LOCKSTEP_TOKEN)";
                return Err(Refusal::new(RejectCode::Token, text));
            }
        };
        if row.embedded {
            let text = "this key belongs to a worker in the coordinator's own process";
            return Err(Refusal::new(RejectCode::Identity, text));
        }
        Ok(row)
    }
}

/// Refuses what no honest worker says of itself.
fn check(facts: &Facts) -> Result<(), Refusal> {
    if facts.version != VERSION {
        let text = format!(
            "the worker (build {}) speaks version {} of the protocol, the coordinator version {VERSION}: use the same \
             build on both sides",
            plain(&facts.build),
            facts.version
        );
        return Err(Refusal::new(RejectCode::Version, text));
    }
    let is_text = |text: &str, max: usize| text.chars().count() <= max && !text.contains(char::is_control);
    let refuse = |what: String| Err(Refusal::new(RejectCode::Facts, what));
    if facts.name.is_empty()
        || !is_text(&facts.name, NAME_CHARS_MAX)
        || !is_text(&facts.build, NAME_CHARS_MAX)
    {
        return refuse(format!(
            "a worker's name has 1 to {NAME_CHARS_MAX} characters and no control characters"
        ));
    }
    if facts.about.iter().any(|text| text.len() > ABOUT_BYTES_MAX) {
        return refuse(format!("what a class is made of has at most {ABOUT_BYTES_MAX} bytes"));
    }
    if !(1..=SLOTS_MAX).contains(&facts.slots) {
        return refuse(format!("a worker has 1 to {SLOTS_MAX} slots, not {}", facts.slots));
    }
    if !(1..=MEMORY_BYTES_MAX).contains(&facts.memory_bytes) {
        return refuse(format!("{} bytes are no memory of a worker", facts.memory_bytes));
    }
    let is_label = |(name, value): &(String, String)| {
        !name.is_empty() && is_text(name, LABEL_CHARS_MAX) && is_text(value, LABEL_CHARS_MAX)
    };
    if !facts.labels.iter().all(is_label) {
        return refuse(format!("a label's name and value have up to {LABEL_CHARS_MAX} characters each"));
    }
    Ok(())
}

fn plain(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).filter(|char| !char.is_control()).collect()
}

fn first_word(facts: Facts) -> FromAgent {
    FromAgent::Hello {
        classes: Classes {
            native: Class(facts.class),
            portable: Portable { results: Class(facts.portable), code: Class(facts.portable_code) },
        },
        // of a build that has more to say, what can be understood is nothing
        about: facts.about.iter().filter_map(|text| serde_json::from_str(text).ok()).collect(),
        slots: facts.slots,
        memory_bytes: facts.memory_bytes,
        labels: facts.labels.into_iter().collect(),
        holds: facts
            .holds
            .into_iter()
            .map(|hold| (AttemptId::from(hold.attempt), Epoch(hold.epoch), hold.mac))
            .collect(),
        version: facts.build,
    }
}

/// The next binary message.
async fn heard(socket: &mut WebSocket) -> Result<Bytes, Refusal> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(_) | Message::Close(_)) | Err(_)) | None => {
                return Err(Refusal::new(RejectCode::Protocol, "a hello was expected"));
            }
        }
    }
}

/// Says something; a worker that is gone is noticed when it should answer.
async fn say(socket: &mut WebSocket, greeting: &Greeting) {
    if let Ok(message) = encode_handshake(greeting) {
        drop(socket.send(Message::Binary(message)).await);
    }
}

/// Tells why, and closes.
pub(super) async fn reject(socket: &mut WebSocket, refusal: Refusal) {
    let last = async {
        say(socket, &Greeting::Rejected { code: refusal.code.name().to_owned(), text: refusal.text }).await;
        drop(socket.send(Message::Close(None)).await);
    };
    drop(tokio::time::timeout(super::HANDSHAKE_TIMEOUT, last).await);
}
