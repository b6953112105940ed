//! Callbacks: tells others when a revision of a run becomes final. At least once, in no order.
//!
//! The store makes a delivery in the transaction of the final ([`crate::store::Delivery`]); [`Deliverer`] sends what is due,
//! takes a note of how it went, and begins anew after a restart. Invariants: nothing is sent where [`address::Rules`] forbid;
//! redirects are not followed and no answer is read beyond its status, so that a callback shows its sender nothing of the
//! coordinator's network; receivers that hang leave places to those that answer ([`places`]).

pub mod address;
mod body;
mod places;
mod shared;
mod sign;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use self::address::{Refused, Resolver, Rules};
use self::places::{Flying, KNOWN_MAX, PER_RECEIVER_MAX};
use self::shared::{PENDING_PER_RECEIVER_MAX, Pending};
use super::CoordinatorError;
use super::clock::Clock;
use super::http::views;
use super::metrics::Metrics;
use super::service::Service;
use crate::core::Time;
use crate::network::Networks;
use crate::store::{Delivery, OutboxLimits, Store, StoreError, Tried};
use crate::tls::{self, Refusal};

pub use body::{event_of, name_of};
pub use shared::{Callbacks, PENDING_PER_WORKSPACE_MAX, TooMany};
pub use sign::{Secret, Secrets};

/// How long one try may take, from the name's resolution to the head of the answer.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections to receivers that wait for the next delivery do so for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The first pause after a failure, in milliseconds; each further one is twice as long …
const PAUSE_MS: u64 = 1_000;
/// … up to this.
const PAUSE_MS_MAX: u64 = 60 * 60 * 1_000;
/// A delivery is given up so long after it was made or asked for again, in milliseconds …
const GIVE_UP_MS: u64 = 24 * 60 * 60 * 1_000;
/// … or after so many tries.
const TRIES_MAX: u32 = 50;
/// Length of a failure's words.
const ERROR_CHARS_MAX: usize = 300;
/// Deliveries that are looked at, once at the start, for who answers: some tens of milliseconds off every path.
const TRIED_LOOKED_AT_MAX: u32 = 100_000;
/// Between two looks at the outbox when nothing is known to be due.
const LOOK_PERIOD: Duration = Duration::from_secs(30);
/// The same after trouble with the store.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// What an operator sets.
#[derive(Clone, Debug, Default)]
pub struct CallbackConfig {
    /// Networks that callbacks may reach although they are not public, in plain HTTP too.
    pub allow: Networks,
    /// PEM file of certificate authorities that receivers' certificates are trusted by, beside the system's.
    pub ca: Option<PathBuf>,
}

/// Sends what is due.
pub struct Deliverer {
    callbacks: Arc<Callbacks>,
    store: Arc<dyn Store>,
    service: Service,
    metrics: Arc<Metrics>,
    clock: Clock,
    ca: Option<PathBuf>,
    clients: OnceLock<Clients>,
}

/// One client for each scheme: what may be reached differs.
struct Clients {
    https: Client,
    http: Client,
}

impl Clients {
    /// Reads the system's certificate authorities, and those of the file: some milliseconds.
    fn new(rules: &Arc<Rules>, ca: Option<&Path>) -> Result<Clients, String> {
        let tls = tls::client_config(ca).map_err(|error| words(&error))?;
        let client = |is_https| {
            let resolver = Resolver { rules: Arc::clone(rules), is_https };
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Arc::new(resolver))
                .redirect(reqwest::redirect::Policy::none())
                // a proxy would resolve names by itself
                .no_proxy()
                .https_only(is_https)
                .timeout(TRY_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(PER_RECEIVER_MAX)
                .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| words(&error))
        };
        Ok(Clients { https: client(true)?, http: client(false)? })
    }
}

/// How a try failed.
struct Failed {
    status: Option<StatusCode>,
    why: String,
    /// How long the receiver asked to be left alone, in milliseconds.
    at_least_ms: u64,
    /// The receiver wants nothing more.
    for_good: bool,
}

impl Failed {
    fn before_an_answer(why: String) -> Failed {
        Failed { status: None, why, at_least_ms: 0, for_good: false }
    }
}

impl Deliverer {
    /// Prepares to send. Authorities that the operator names are read at once, so that a wrong file is found at the start; a
    /// pool that is never asked for a callback reads none.
    pub fn new(
        config: &CallbackConfig,
        service: Service,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Deliverer, CoordinatorError> {
        let (callbacks, metrics) = (service.callbacks(), service.shared_metrics());
        let ca = config.ca.clone();
        let deliverer = Deliverer { callbacks, store, service, metrics, clock, ca, clients: OnceLock::new() };
        if deliverer.ca.is_some() {
            deliverer.clients().map_err(CoordinatorError::Callbacks)?;
        }
        Ok(deliverer)
    }

    /// The clients, made when they are needed first.
    fn clients(&self) -> Result<&Clients, String> {
        if let Some(clients) = self.clients.get() {
            return Ok(clients);
        }
        let made = Clients::new(&self.callbacks.rules, self.ca.as_deref())?;
        Ok(self.clients.get_or_init(|| made))
    }

    /// Runs until `stopping`. What is on its way then is sent again by the next life.
    pub async fn run(self, stopping: CancellationToken) {
        let deliverer = Arc::new(self);
        let mut flying = deliverer.begin().await;
        loop {
            let wait = deliverer.send_due(&mut flying).await;
            tokio::select! {
                // cancel safe: what ended stays in the set until it is taken
                Some(ended) = flying.tasks.join_next_with_id() => flying.landed(ended),
                () = deliverer.callbacks.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Who has answered before the start has room from the first delivery on, whatever strangers do.
    async fn begin(&self) -> Flying {
        match self.store.tried_receivers(KNOWN_MAX as u32, TRIED_LOOKED_AT_MAX).await {
            Ok(tried) => Flying::after(tried),
            Err(error) => {
                tracing::warn!(%error, "who answered callbacks before cannot be read: everybody is new");
                Flying::default()
            }
        }
    }

    /// Sends as much of what is due as there are places; gives how long nothing else will be due.
    async fn send_due(self: &Arc<Self>, flying: &mut Flying) -> Duration {
        let now = self.clock.now();
        loop {
            let room = flying.room();
            if room == 0 {
                // whoever lands looks again
                return LOOK_PERIOD;
            }
            let limits = OutboxLimits {
                due: room as u32,
                per_receiver: PER_RECEIVER_MAX as u32,
                full: PENDING_PER_RECEIVER_MAX,
            };
            let found = match self.store.due_callbacks(now, flying.skipped(), limits).await {
                Ok(found) => found,
                Err(StoreError::Closed) => return LOOK_PERIOD,
                Err(error) => {
                    tracing::warn!(%error, "the outbox of callbacks cannot be read; it will be tried again");
                    return TROUBLE_PAUSE;
                }
            };
            self.callbacks.note(Pending { of_workspaces: found.pending, full: found.full });
            let is_all = found.due.len() < room;
            for delivery in found.due {
                if flying.has_room_for(&delivery.receiver) {
                    self.launch(flying, delivery);
                }
            }
            if is_all {
                // rounded up: a look just before it would find nothing
                let next = found.next_at.map(|at| Duration::from_millis(at.ms_since(now) + 1));
                return next.unwrap_or(LOOK_PERIOD).min(LOOK_PERIOD);
            }
            // whoever has all of its places is skipped now, so the first one that is found has room: this ends
        }
    }

    fn launch(self: &Arc<Self>, flying: &mut Flying, delivery: Delivery) {
        let deliverer = Arc::clone(self);
        let (id, receiver) = (delivery.id, delivery.receiver.clone());
        let task = flying.tasks.spawn(async move { deliverer.deliver(delivery).await });
        flying.launched(task.id(), id, receiver);
    }

    /// One try, and a note of it. True if it was delivered.
    async fn deliver(&self, delivery: Delivery) -> bool {
        let answer = self.send(&delivery).await;
        let is_delivered = answer.is_ok();
        let now = self.clock.now();
        let tries = delivery.tries.saturating_add(1);
        let tried = match answer {
            Ok(status) => {
                self.metrics.callback_tried("delivered");
                Tried { at: now, status: Some(status.as_u16()), error: None, next_at: None }
            }
            Err(failed) => {
                let mut lot = [0; 8];
                // without randomness only the spread over time is lost
                let _ = getrandom::fill(&mut lot);
                let next_at =
                    next_try(tries, delivery.since, now, failed.at_least_ms, u64::from_le_bytes(lot))
                        .filter(|_| !failed.for_good);
                self.metrics.callback_tried(if next_at.is_some() { "failed" } else { "given_up" });
                if next_at.is_none() {
                    let (callback, why) = (name_of(delivery.id), &failed.why);
                    tracing::warn!(%callback, receiver = delivery.receiver, %why, tries, "a callback was given up");
                }
                let error = failed.why.chars().take(ERROR_CHARS_MAX).collect();
                let status = failed.status.map(|status| status.as_u16());
                Tried { at: now, status, error: Some(error), next_at }
            }
        };
        // on a disk that is full the note is what is repeated, not what was sent
        while let Err(error) = self.store.callback_tried(delivery.id, delivery.tries, tried.clone()).await {
            tracing::warn!(%error, callback = name_of(delivery.id), "how a callback went was not stored");
            tokio::time::sleep(TROUBLE_PAUSE).await;
            if !matches!(error, StoreError::Full) {
                break;
            }
        }
        is_delivered
    }

    async fn send(&self, delivery: &Delivery) -> Result<StatusCode, Failed> {
        let refuse = |why: String| Failed::before_an_answer(why);
        let url = address::parse(&delivery.url).map_err(refuse)?;
        if let Some(address) = address::literal(&url) {
            // the client asks no resolver about an address
            let is_https = url.scheme() == "https";
            self.callbacks.rules.judge(address, is_https).map_err(|refused| refuse(refused.to_string()))?;
        }
        let id = delivery.id;
        let detail = self.service.run_of_callback(id.run).await.map_err(|error| refuse(error.to_string()))?;
        let body = body::body(id, delivery.created_at, views::run(&detail));
        let name = name_of(id);
        // receivers hold it against their own clocks, so it is the machine's
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signatures = self.callbacks.secrets().signatures(&name, timestamp, &body, self.clock.now());
        let clients = self.clients().map_err(refuse)?;
        let client = if url.scheme() == "https" { &clients.https } else { &clients.http };
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", name)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures)
            .header("lockstep-event", event_of(id).name())
            .body(body);
        let answer = request.send().await.map_err(|error| refuse(why(&error)))?;
        judge_answer(&answer)
    }
}

fn judge_answer(answer: &Response) -> Result<StatusCode, Failed> {
    let status = answer.status();
    if status.is_success() {
        return Ok(status);
    }
    let why = match status {
        StatusCode::GONE => "the receiver answered 410: it wants nothing more".to_owned(),
        status if status.is_redirection() => {
            format!("the receiver answered {}: redirects are not followed", status.as_u16())
        }
        status => format!("the receiver answered {}", status.as_u16()),
    };
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let at_least_ms = seconds.unwrap_or(0_u64).saturating_mul(1_000).min(PAUSE_MS_MAX);
    Err(Failed { status: Some(status), why, at_least_ms, for_good: status == StatusCode::GONE })
}

/// Why no answer came, in words that do not repeat the address.
fn why(error: &reqwest::Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut innermost = None;
    while let Some(found) = source {
        if let Some(refused) = found.downcast_ref::<Refused>() {
            return refused.to_string();
        }
        innermost = Some(found.to_string());
        source = found.source();
    }
    if let Some(refusal) = Refusal::of(error) {
        return format!("the TLS handshake failed: {refusal}");
    }
    match innermost {
        _ if error.is_timeout() => format!("no answer within {} s", TRY_TIMEOUT.as_secs()),
        Some(words) if error.is_connect() => format!("no connection: {words}"),
        Some(words) => words,
        None => error.to_string(),
    }
}

/// An error with what it came from.
fn words(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// When a delivery that has failed so many times is tried again: after a pause that doubles, of which the second half is
/// drawn by `lot`, so that receivers that come back are not met by everybody at once. `None` when it was tried for long
/// enough.
fn next_try(tries: u32, since: Time, now: Time, at_least_ms: u64, lot: u64) -> Option<Time> {
    if tries >= TRIES_MAX {
        return None;
    }
    let doublings = tries.saturating_sub(1).min(32);
    let most_ms = (PAUSE_MS << doublings).min(PAUSE_MS_MAX);
    let pause_ms = most_ms / 2 + lot % (most_ms / 2 + 1);
    let at = now.plus_ms(pause_ms.max(at_least_ms));
    (at <= since.plus_ms(GIVE_UP_MS)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_000_000_000_000);

    #[test]
    fn pauses_double_within_their_bounds_and_end() {
        for lot in [0, 1, 123_456_789, u64::MAX] {
            let (mut now, mut tries) = (START, 0);
            loop {
                tries += 1;
                let Some(at) = next_try(tries, START, now, 0, lot) else { break };
                let pause = at.ms_since(now);
                let most = (1_000 << (tries - 1).min(32)).min(3_600_000);
                assert!((most / 2..=most).contains(&pause), "try {tries}: {pause} ms of {most}");
                now = at;
            }
            // it was tried over most of a day, and not for ever
            let hours = now.ms_since(START) as f64 / 3.6e6;
            assert!((tries == TRIES_MAX || hours > 22.9) && hours <= 24.0, "{tries} tries over {hours} h");
            assert!(tries > 20, "{tries}");
        }
        assert_ne!(next_try(3, START, START, 0, 7), next_try(3, START, START, 0, 900), "it is drawn");
    }

    #[test]
    fn a_receiver_that_asks_for_peace_gets_it() {
        assert_eq!(next_try(1, START, START, 90_000, 3), Some(START.plus_ms(90_000)));
        // unless the day is over by then
        let late = START.plus_ms(GIVE_UP_MS - 5_000);
        assert_eq!(next_try(1, START, late, 90_000, 3), None);
        assert!(next_try(1, START, late, 0, 3).is_some());
        assert_eq!(next_try(TRIES_MAX, START, START, 0, 3), None);
    }
}
