//! Figures of this process in the OpenMetrics text format: counters that the shell bumps where things happen, and
//! gauges that are set from the pool's own figures when somebody asks.
//!
//! Invariant: label values come from closed sets (states, route patterns, methods, statuses), never from a request, so
//! that the number of series is bounded. It knows no HTTP, and of the store only its figures.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::core::Stats;
use crate::result::{RunState, VerdictKind};
use crate::store::Usage;

/// Label of finished runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// Label of ended attempts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByEnd {
    how: &'static str,
}

/// Label of votes and sessions that were refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByWhy {
    why: &'static str,
}

/// Label of finals that were verified anew.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByVerdict {
    verdict: &'static str,
}

/// Labels of answered requests.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByRoute {
    method: &'static str,
    route: String,
    status: u16,
}

type U64Gauge = Gauge<u64, AtomicU64>;

/// Every figure. Cheap to bump from any task: each is an atomic, a label set is looked up under a short lock.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Runs that were acknowledged.
    pub runs_submitted: Counter,
    /// Submissions that were refused because the queue was full.
    pub runs_rejected: Counter,
    /// Attempts that were handed out because an earlier one met a fault.
    pub reruns: Counter,
    /// Votes that lost against an agreed result.
    pub dissents: Counter,
    /// Runs that a cached result answered.
    pub cache_hits: Counter,
    /// Runs that looked for one and found none.
    pub cache_misses: Counter,
    /// Cached results that were withdrawn.
    pub cache_withdrawn: Counter,
    /// Runs that shared the attempts of another.
    pub runs_shared: Counter,
    /// Runs that were corrected because the run which had computed their result was.
    pub dependents_corrected: Counter,
    /// Finals that were put down to be verified anew.
    pub reverifications_queued: Counter,
    reverifications: Family<ByVerdict, Counter>,
    runs_finished: Family<ByState, Counter>,
    runs_judged: Family<ByVerdict, Counter>,
    callbacks_tried: Family<ByEnd, Counter>,
    attempts_ended: Family<ByEnd, Counter>,
    votes_refused: Family<ByWhy, Counter>,
    sessions_refused: Family<ByWhy, Counter>,
    run_seconds: Histogram,
    http_requests: Family<ByRoute, Counter>,
    http_seconds: Histogram,
    gauges: Gauges,
}

/// Set at each scrape.
#[derive(Debug, Default)]
struct Gauges {
    runs_queued: U64Gauge,
    runs_running: U64Gauge,
    attempts_live: U64Gauge,
    workers_active: U64Gauge,
    workers_suspect: U64Gauge,
    slots: U64Gauge,
    stored_runs: U64Gauge,
    stored_runs_open: U64Gauge,
    stored_modules: U64Gauge,
    stored_blobs: U64Gauge,
    stored_blob_bytes: U64Gauge,
    stored_garbage_bytes: U64Gauge,
    cache_entries: U64Gauge,
    cache_bytes: U64Gauge,
    callbacks_pending: U64Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// Upper bounds in seconds, from 100 µs (the hot path) to 5 minutes (the longest wait).
const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("lockstep"),
            runs_submitted: Counter::default(),
            runs_rejected: Counter::default(),
            reruns: Counter::default(),
            dissents: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_withdrawn: Counter::default(),
            runs_shared: Counter::default(),
            dependents_corrected: Counter::default(),
            reverifications_queued: Counter::default(),
            reverifications: Family::default(),
            runs_finished: Family::default(),
            runs_judged: Family::default(),
            callbacks_tried: Family::default(),
            attempts_ended: Family::default(),
            votes_refused: Family::default(),
            sessions_refused: Family::default(),
            run_seconds: Histogram::new(SECONDS),
            http_requests: Family::default(),
            http_seconds: Histogram::new(SECONDS),
            gauges: Gauges::default(),
        };
        metrics.register_counters();
        metrics.register_gauges();
        metrics
    }

    /// A run became final, so long after its submission.
    pub fn run_finished(&self, state: RunState, verdict: VerdictKind, after: Duration) {
        self.runs_finished.get_or_create(&ByState { state: state.name() }).inc();
        self.runs_judged.get_or_create(&ByVerdict { verdict: verdict.name() }).inc();
        self.run_seconds.observe(after.as_secs_f64());
    }

    /// A try of a callback ended. `how` is a word of a closed set: `delivered`, `failed` or `given_up`.
    pub fn callback_tried(&self, how: &'static str) {
        self.callbacks_tried.get_or_create(&ByEnd { how }).inc();
    }

    /// An attempt ended. `how` is a word of a closed set: `voted`, `canceled` or the kind of its fault.
    pub fn attempt_ended(&self, how: &'static str) {
        self.attempts_ended.get_or_create(&ByEnd { how }).inc();
    }

    /// A final was verified anew. `verdict` is a word of a closed set.
    pub fn reverified(&self, verdict: &'static str) {
        self.reverifications.get_or_create(&ByVerdict { verdict }).inc();
    }

    /// A vote was not taken. `why` is a word of a closed set.
    pub fn vote_refused(&self, why: &'static str) {
        self.votes_refused.get_or_create(&ByWhy { why }).inc();
    }

    /// A worker was not let in, or its session was closed for what it sent. `why` is a word of a closed set.
    pub fn sessions_refused(&self, why: &'static str) {
        self.sessions_refused.get_or_create(&ByWhy { why }).inc();
    }

    /// A request was answered. `route` is the pattern that matched (never the path) and `method` a known one.
    pub fn request_answered(&self, method: &'static str, route: &str, status: u16, after: Duration) {
        self.http_requests.get_or_create(&ByRoute { method, route: route.to_owned(), status }).inc();
        self.http_seconds.observe(after.as_secs_f64());
    }

    /// How much is cached, for the gauges.
    pub fn cache_holds(&self, entries: u64, bytes: u64) {
        self.gauges.cache_entries.set(entries);
        self.gauges.cache_bytes.set(bytes);
    }

    /// The OpenMetrics text, with the gauges as of now.
    pub fn render(&self, pool: Stats, stored: Usage, callbacks_pending: u64) -> String {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let gauges = &self.gauges;
        gauges.runs_queued.set(wide(pool.queued));
        gauges.runs_running.set(wide(pool.running));
        gauges.attempts_live.set(wide(pool.attempts_live));
        gauges.workers_active.set(wide(pool.workers_active));
        gauges.workers_suspect.set(wide(pool.workers_suspect));
        gauges.slots.set(u64::from(pool.slots));
        gauges.stored_runs.set(stored.runs);
        gauges.stored_runs_open.set(stored.runs_open);
        gauges.stored_modules.set(stored.modules);
        gauges.stored_blobs.set(stored.blobs);
        gauges.stored_blob_bytes.set(stored.blob_bytes);
        gauges.stored_garbage_bytes.set(stored.garbage_bytes);
        gauges.callbacks_pending.set(callbacks_pending);
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // writing to a String does not fail; should the encoder, the scrape says so instead of being half
            text.clear();
            let _ = writeln!(text, "# the figures could not be encoded\n# EOF");
        }
        text
    }

    fn register_counters(&mut self) {
        let registry = &mut self.registry;
        registry.register("runs_submitted", "Runs that were acknowledged", self.runs_submitted.clone());
        registry.register(
            "runs_rejected",
            "Submissions refused because the queue was full",
            self.runs_rejected.clone(),
        );
        registry.register("cache_hits", "Runs that a cached result answered", self.cache_hits.clone());
        registry.register(
            "cache_misses",
            "Runs that no cached result could answer",
            self.cache_misses.clone(),
        );
        registry.register(
            "cache_withdrawn",
            "Cached results that were withdrawn",
            self.cache_withdrawn.clone(),
        );
        registry.register(
            "runs_shared",
            "Runs that shared the attempts of an equal one",
            self.runs_shared.clone(),
        );
        registry.register(
            "reruns",
            "Attempts handed out after a fault of an earlier one",
            self.reruns.clone(),
        );
        registry.register(
            "dependents_corrected",
            "Runs that had been answered with a wrong result and were corrected with the run that computed it",
            self.dependents_corrected.clone(),
        );
        registry.register(
            "reverifications_queued",
            "Finals that were put down to be verified anew",
            self.reverifications_queued.clone(),
        );
        registry.register(
            "reverifications",
            "Finals that were verified anew, by what came of it",
            self.reverifications.clone(),
        );
        registry.register("runs_finished", "Runs that became final, by state", self.runs_finished.clone());
        registry.register("runs_judged", "Runs that became final, by verdict", self.runs_judged.clone());
        registry.register(
            "callbacks_tried",
            "Tries of callbacks that ended, by how",
            self.callbacks_tried.clone(),
        );
        registry.register("attempts_ended", "Attempts that ended, by how", self.attempts_ended.clone());
        registry.register(
            "votes_refused",
            "Votes that were not taken, by what is wrong with them",
            self.votes_refused.clone(),
        );
        registry.register(
            "sessions_refused",
            "Workers that were not let in or were thrown out, by why",
            self.sessions_refused.clone(),
        );
        registry.register_with_unit(
            "run",
            "Time from the submission of a run to its end",
            Unit::Seconds,
            self.run_seconds.clone(),
        );
        registry.register("http_requests", "Requests that were answered", self.http_requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time from the head of a request to the head of its answer",
            Unit::Seconds,
            self.http_seconds.clone(),
        );
    }

    fn register_gauges(&mut self) {
        let gauges = &self.gauges;
        let rows: [(&str, &str, &U64Gauge); 12] = [
            ("runs_queued", "Runs without an attempt", &gauges.runs_queued),
            ("runs_running", "Runs with an attempt", &gauges.runs_running),
            ("attempts_live", "Attempts that workers hold", &gauges.attempts_live),
            ("workers_active", "Workers that get work", &gauges.workers_active),
            ("workers_suspect", "Workers that missed two heartbeats", &gauges.workers_suspect),
            ("slots", "Slots of the workers that get work", &gauges.slots),
            ("stored_runs", "Runs in the store", &gauges.stored_runs),
            ("stored_runs_open", "Runs in the store that are not final", &gauges.stored_runs_open),
            ("stored_modules", "Modules in the store", &gauges.stored_modules),
            ("stored_blobs", "Blobs in the store", &gauges.stored_blobs),
            ("cache_entries", "Results that may answer equal runs", &gauges.cache_entries),
            ("callbacks_pending", "Callbacks that wait for their receivers", &gauges.callbacks_pending),
        ];
        for (name, help, gauge) in rows {
            self.registry.register(name, help, gauge.clone());
        }
        let bytes = [
            ("stored_blob", "Size of all blobs", &gauges.stored_blob_bytes),
            ("stored_garbage", "Size of blobs that nothing refers to", &gauges.stored_garbage_bytes),
            ("cache", "Memory of the results that may answer equal runs", &gauges.cache_bytes),
        ];
        for (name, help, gauge) in bytes {
            self.registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_figure_with_its_labels() {
        let metrics = Metrics::new();
        metrics.runs_submitted.inc();
        metrics.run_finished(RunState::Succeeded, VerdictKind::Vouched, Duration::from_millis(3));
        metrics.callback_tried("delivered");
        metrics.attempt_ended("voted");
        metrics.vote_refused("nonce");
        metrics.reverifications_queued.inc_by(2);
        metrics.reverified("corrected");
        metrics.dependents_corrected.inc_by(3);
        metrics.request_answered("GET", "/v1/runs/{id}", 200, Duration::from_micros(300));
        let pool = Stats { queued: 7, slots: 4, ..Stats::default() };
        let text = metrics.render(pool, Usage { blob_bytes: 9, ..Usage::default() }, 5);
        for line in [
            "lockstep_runs_submitted_total 1",
            "lockstep_runs_finished_total{state=\"succeeded\"} 1",
            "lockstep_runs_judged_total{verdict=\"vouched\"} 1",
            "lockstep_callbacks_tried_total{how=\"delivered\"} 1",
            "lockstep_callbacks_pending 5",
            "lockstep_attempts_ended_total{how=\"voted\"} 1",
            "lockstep_votes_refused_total{why=\"nonce\"} 1",
            "lockstep_reverifications_queued_total 2",
            "lockstep_dependents_corrected_total 3",
            "lockstep_reverifications_total{verdict=\"corrected\"} 1",
            "lockstep_http_requests_total{method=\"GET\",route=\"/v1/runs/{id}\",status=\"200\"} 1",
            "lockstep_run_seconds_bucket{le=\"0.005\"} 1",
            "lockstep_runs_queued 7",
            "lockstep_slots 4",
            "lockstep_stored_blob_bytes 9",
            "# EOF",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
        }
    }
}
