//! The settings with their defaults and bounds, and what `serve` makes of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Environment, Machine};
use crate::core;
use crate::network::Networks;
use crate::spec::Verify;
use crate::units::{Period, Size};

/// What a worker has for its attempts at the least, in bytes, unless it is set: a run with default limits leases 352 MiB.
pub(super) const WORKER_MEMORY_MIN: u64 = 384 << 20;

/// A policy of verification as a text.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct VerifyText(pub(super) Verify);

impl TryFrom<String> for VerifyText {
    type Error = crate::spec::ParseVerifyError;

    fn try_from(text: String) -> Result<VerifyText, Self::Error> {
        text.parse().map(VerifyText)
    }
}

impl From<VerifyText> for String {
    fn from(verify: VerifyText) -> String {
        verify.0.to_string()
    }
}

/// Every setting, under its name, with its default. The comments here are the reference.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Directory that holds everything (default: [`Environment::data_dir`]).
    pub(super) data: Option<PathBuf>,
    /// Address of the one port.
    pub(super) listen: SocketAddr,
    /// Listen beyond loopback without TLS: tokens and data then travel in the clear.
    pub(super) allow_plaintext: bool,
    /// PEM file of the certificate chain; with `tls_key` everything is served in TLS.
    pub(super) tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub(super) tls_key: Option<PathBuf>,
    /// Embedded workers.
    pub(super) workers: u32,
    /// Embedded workers beside them that settle disputes and audits, and get no ordinary work while others are there.
    pub(super) arbiters: u32,
    /// How results are verified of runs that ask for nothing else: `standard`, `high`, `once` or `quorum:N`.
    pub(super) verify: VerifyText,
    /// Attempts that each worker executes at once (default: cores / workers, at least 1).
    pub(super) slots: Option<u32>,
    /// Memory for all attempts of one worker (default: 80 % of the machine's memory / workers).
    pub(super) worker_memory: Option<Size>,
    /// How often a worker says that it is alive.
    pub(super) heartbeat: Period,
    /// Outputs that one worker keeps until they are collected; while it keeps more it takes no work.
    pub(super) worker_outputs_max: Size,
    /// Runners that a worker keeps ready for a workspace that has none, so that a dead one is replaced at once.
    pub(super) spare_runners: u32,
    /// Idle runners that a worker keeps for their workspaces.
    pub(super) parked_runners: u32,
    /// How long a runner may take to start and to load a module before another one gets the attempt.
    pub(super) begin_timeout: Period,
    /// Threads of the asynchronous shell (default: cores).
    pub(super) threads: Option<u32>,

    // Bounds and timings of the rules: see `core::Config`, which has the same names.
    pub(super) runs_max: usize,
    pub(super) runs_per_workspace_max: usize,
    pub(super) fresh_worker_wait: Period,
    pub(super) quorum_wait: Period,
    pub(super) crashes_max: u32,
    pub(super) losses_max: u32,
    pub(super) refusals_max: u32,
    pub(super) probation_attempts_max: u32,
    pub(super) module_crashes_max: u32,
    pub(super) worker_failures_max: u32,
    pub(super) start_grace: Period,
    pub(super) worker_lost: Period,
    pub(super) collect_timeout: Period,
    pub(super) timeout_grace: Period,
    /// Second attempts of slow ones that all attempts together earn, in thousandths of their number; 0 turns them off.
    pub(super) hedge_permille: u32,

    /// Largest module.
    pub(super) module_max: Size,
    /// Largest blob.
    pub(super) blob_max: Size,
    /// Connections at once.
    pub(super) connections_max: u32,
    /// Connections get so long to finish what they answer when the process ends.
    pub(super) http_drain: Period,
    /// An upload waits so long for its admission before it answers `compiling`.
    pub(super) admission_wait: Period,
    /// Machine code that is kept beside the modules; beyond it what was used longest ago goes and is compiled again.
    pub(super) artifact_cache_max: Size,
    /// Compiling a module may take so long …
    pub(super) compile_timeout: Period,
    /// … and so much memory.
    pub(super) compile_memory: Size,

    /// Final runs older than this go.
    pub(super) retention_age: Period,
    /// Of the final runs the newest so many stay.
    pub(super) retention_runs: u64,
    /// Of the evidence about each worker the newest so many observations stay, however old …
    pub(super) retention_evidence: u64,
    /// … and what is younger than this, up to ten times as many.
    pub(super) retention_evidence_age: Period,
    /// An uploaded blob that no run refers to yet stays at least so long.
    pub(super) upload_keep: Period,
    /// Verified results that may answer equal runs; 0 turns that off …
    pub(super) cache_entries: usize,
    /// … the memory that they take together …
    pub(super) cache_memory: Size,
    /// … and how long they do.
    pub(super) cache_age: Period,

    /// Networks that callbacks may reach although they are not public, in plain HTTP too: `10.0.0.0/8,loopback`.
    pub(super) callback_allow: Networks,
    /// PEM file of certificate authorities by which receivers of callbacks are trusted, beside the system's.
    pub(super) callback_ca: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        let rules = core::Config::default();
        let ms = |ms| Period { ms };
        Settings {
            data: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            allow_plaintext: false,
            tls_cert: None,
            tls_key: None,
            workers: 3,
            arbiters: 0,
            verify: VerifyText(Verify::Standard),
            slots: None,
            worker_memory: None,
            heartbeat: Period::seconds(1),
            worker_outputs_max: Size(4 << 30),
            spare_runners: 1,
            parked_runners: 4,
            begin_timeout: Period::seconds(30),
            threads: None,
            runs_max: rules.runs_max,
            runs_per_workspace_max: rules.runs_per_workspace_max,
            fresh_worker_wait: ms(rules.fresh_worker_wait_ms),
            quorum_wait: ms(rules.quorum_wait_ms),
            crashes_max: rules.crashes_max,
            losses_max: rules.losses_max,
            refusals_max: rules.refusals_max,
            probation_attempts_max: rules.probation_attempts_max,
            module_crashes_max: rules.module_crashes_max,
            worker_failures_max: rules.worker_failures_max,
            start_grace: ms(rules.start_grace_ms),
            worker_lost: ms(rules.worker_lost_ms),
            collect_timeout: ms(rules.collect_timeout_ms),
            timeout_grace: ms(rules.timeout_grace_ms),
            hedge_permille: rules.hedge_permille,
            module_max: Size::mib(128),
            blob_max: Size(4 << 30),
            connections_max: 4_096,
            http_drain: Period::seconds(10),
            admission_wait: Period::seconds(10),
            artifact_cache_max: Size(8 << 30),
            compile_timeout: Period::seconds(60),
            compile_memory: Size(2 << 30),
            retention_age: Period::seconds(30 * 86_400),
            retention_runs: 1_000_000,
            retention_evidence: 10_000,
            retention_evidence_age: Period::seconds(30 * 86_400),
            upload_keep: Period::seconds(86_400),
            cache_entries: 100_000,
            cache_memory: Size::mib(128),
            cache_age: Period::seconds(7 * 86_400),
            callback_allow: Networks::default(),
            callback_ca: None,
        }
    }
}

/// Everything that `serve` needs to know, validated.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Directory that holds everything.
    pub data: PathBuf,
    /// Address of the one port; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Files of the certificate chain and of its key, if it serves in TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Threads of the asynchronous shell.
    pub threads: usize,
    /// The embedded workers.
    pub workers: WorkersConfig,
    /// How results are verified of runs that ask for nothing else.
    pub verify: Verify,
    /// Bounds and timings of the rules.
    pub core: core::Config,
    /// Bounds on what is sent here.
    pub limits: LimitsConfig,
    /// Bounds of the compiler child.
    pub compiler: CompilerConfig,
    /// What is kept, and how long.
    pub retention: RetentionConfig,
    /// Networks that callbacks may reach although they are not public.
    pub callback_allow: Networks,
    /// File of authorities by which receivers of callbacks are trusted too.
    pub callback_ca: Option<PathBuf>,
}

/// The embedded workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkersConfig {
    /// How many.
    pub count: u32,
    /// How many settle disputes and audits beside them.
    pub arbiters: u32,
    /// Attempts that each executes at once.
    pub slots: u32,
    /// Memory for all attempts of one worker, in bytes.
    pub memory_bytes: u64,
    /// Time between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// Outputs that each keeps until they are collected, in bytes.
    pub outputs_bytes_max: u64,
    /// Runners that each keeps ready for a workspace that has none.
    pub spare_runners: u32,
    /// Idle runners that each keeps for their workspaces.
    pub parked_runners: u32,
    /// How long a runner may take to begin its first attempt, in milliseconds.
    pub begin_ms: u64,
}

/// Bounds on what is sent here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// Largest module, in bytes.
    pub module_bytes_max: u64,
    /// Largest blob, in bytes.
    pub blob_bytes_max: u64,
    /// Connections at once.
    pub connections_max: u32,
    /// How long connections get to finish what they answer when the process ends, in milliseconds.
    pub http_drain_ms: u64,
    /// How long an upload waits for its admission, in milliseconds.
    pub admission_wait_ms: u64,
}

/// Bounds of the compiler child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompilerConfig {
    /// How long one compilation may take, in milliseconds.
    pub timeout_ms: u64,
    /// How much memory it may take, in bytes.
    pub memory_bytes: u64,
    /// Machine code that is kept, in bytes.
    pub cache_bytes_max: u64,
}

/// What is kept, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionConfig {
    /// Final runs older than this go, in milliseconds.
    pub age_ms: u64,
    /// Of the final runs the newest so many stay.
    pub runs_max: u64,
    /// Of the evidence about each worker the newest so many observations stay, however old.
    pub evidence_max: u64,
    /// Evidence younger than this stays too, up to ten times that number, in milliseconds.
    pub evidence_age_ms: u64,
    /// How long an uploaded blob stays that nothing refers to, in milliseconds.
    pub upload_keep_ms: u64,
    /// Verified results that may answer equal runs.
    pub cache_entries_max: usize,
    /// Memory that they take together, in bytes.
    pub cache_bytes_max: u64,
    /// How long they do, in milliseconds.
    pub cache_age_ms: u64,
}

impl Settings {
    /// Number settings with their least and greatest value. Sizes count bytes, periods milliseconds.
    pub(super) fn bounded(&self) -> [(&'static str, u64, u64, u64); 41] {
        const DAY: u64 = 86_400_000;
        const YEARS: u64 = 100 * 365 * DAY;
        let wide = |n: usize| n as u64;
        [
            // More workers or slots than this on one machine is a slip of the finger.
            ("workers", self.workers.into(), 0, 256),
            ("arbiters", self.arbiters.into(), 0, 16),
            ("slots", self.slots.unwrap_or(1).into(), 1, 1_024),
            ("worker_memory", self.worker_memory.map_or(1 << 20, |size| size.0), 1 << 20, 1 << 50),
            ("threads", self.threads.unwrap_or(1).into(), 1, 1_024),
            ("heartbeat", self.heartbeat.ms, 10, 60_000),
            ("worker_outputs_max", self.worker_outputs_max.0, 1 << 20, 1 << 50),
            ("spare_runners", self.spare_runners.into(), 0, 256),
            ("parked_runners", self.parked_runners.into(), 0, 4_096),
            ("begin_timeout", self.begin_timeout.ms, 1_000, DAY),
            ("runs_max", wide(self.runs_max), 1, 100_000_000),
            ("runs_per_workspace_max", wide(self.runs_per_workspace_max), 1, 100_000_000),
            ("fresh_worker_wait", self.fresh_worker_wait.ms, 0, DAY),
            ("quorum_wait", self.quorum_wait.ms, 0, DAY),
            ("crashes_max", self.crashes_max.into(), 1, 100),
            ("losses_max", self.losses_max.into(), 1, 1_000),
            ("refusals_max", self.refusals_max.into(), 1, 1_000),
            ("probation_attempts_max", self.probation_attempts_max.into(), 1, 10_000),
            ("module_crashes_max", self.module_crashes_max.into(), 1, 1_000_000),
            ("worker_failures_max", self.worker_failures_max.into(), 1, 1_000_000),
            ("start_grace", self.start_grace.ms, 0, DAY),
            ("worker_lost", self.worker_lost.ms, 20, DAY),
            ("collect_timeout", self.collect_timeout.ms, 10, DAY),
            ("timeout_grace", self.timeout_grace.ms, 10, DAY),
            ("hedge_permille", self.hedge_permille.into(), 0, 1_000),
            ("module_max", self.module_max.0, 8, 4 << 30),
            ("blob_max", self.blob_max.0, 1 << 20, 1 << 40),
            ("connections_max", self.connections_max.into(), 8, 1_000_000),
            ("http_drain", self.http_drain.ms, 0, DAY),
            ("admission_wait", self.admission_wait.ms, 0, 300_000),
            ("artifact_cache_max", self.artifact_cache_max.0, 64 << 20, 1 << 50),
            ("compile_timeout", self.compile_timeout.ms, 100, DAY),
            ("compile_memory", self.compile_memory.0, 64 << 20, 1 << 40),
            ("retention_age", self.retention_age.ms, 60_000, YEARS),
            ("retention_runs", self.retention_runs, 1, 1 << 40),
            ("retention_evidence", self.retention_evidence, 100, 10_000_000),
            ("retention_evidence_age", self.retention_evidence_age.ms, 60_000, YEARS),
            ("upload_keep", self.upload_keep.ms, 60_000, YEARS),
            ("cache_entries", wide(self.cache_entries), 0, 10_000_000),
            ("cache_memory", self.cache_memory.0, 1 << 20, 1 << 40),
            ("cache_age", self.cache_age.ms, 1_000, YEARS),
        ]
    }

    pub(super) fn into_config(self, environment: &Environment, machine: Machine) -> ServeConfig {
        // a pool of remote workers only still has a share that one of its own would get
        let workers = self.workers.max(1);
        let share = machine.memory_bytes / 10 * 8 / u64::from(workers);
        ServeConfig {
            data: self.data.unwrap_or_else(|| environment.data_dir()),
            listen: self.listen,
            tls: self.tls_cert.zip(self.tls_key),
            threads: self.threads.unwrap_or(machine.cores).max(1) as usize,
            workers: WorkersConfig {
                count: self.workers,
                arbiters: self.arbiters,
                slots: self.slots.unwrap_or(machine.cores / workers).max(1),
                // Less than what a default run leases would leave a small machine unable to run anything.
                memory_bytes: self.worker_memory.map_or(share.max(WORKER_MEMORY_MIN), |size| size.0),
                heartbeat_ms: self.heartbeat.ms,
                outputs_bytes_max: self.worker_outputs_max.0,
                spare_runners: self.spare_runners,
                parked_runners: self.parked_runners,
                begin_ms: self.begin_timeout.ms,
            },
            verify: self.verify.0,
            core: core::Config {
                runs_max: self.runs_max,
                runs_per_workspace_max: self.runs_per_workspace_max,
                fresh_worker_wait_ms: self.fresh_worker_wait.ms,
                quorum_wait_ms: self.quorum_wait.ms,
                crashes_max: self.crashes_max,
                losses_max: self.losses_max,
                refusals_max: self.refusals_max,
                probation_attempts_max: self.probation_attempts_max,
                module_crashes_max: self.module_crashes_max,
                worker_failures_max: self.worker_failures_max,
                start_grace_ms: self.start_grace.ms,
                heartbeat_ms: self.heartbeat.ms,
                worker_lost_ms: self.worker_lost.ms,
                collect_timeout_ms: self.collect_timeout.ms,
                timeout_grace_ms: self.timeout_grace.ms,
                hedge_permille: self.hedge_permille,
                ..core::Config::default()
            },
            limits: LimitsConfig {
                module_bytes_max: self.module_max.0,
                blob_bytes_max: self.blob_max.0,
                connections_max: self.connections_max,
                http_drain_ms: self.http_drain.ms,
                admission_wait_ms: self.admission_wait.ms,
            },
            compiler: CompilerConfig {
                timeout_ms: self.compile_timeout.ms,
                memory_bytes: self.compile_memory.0,
                cache_bytes_max: self.artifact_cache_max.0,
            },
            retention: RetentionConfig {
                age_ms: self.retention_age.ms,
                runs_max: self.retention_runs,
                evidence_max: self.retention_evidence,
                evidence_age_ms: self.retention_evidence_age.ms,
                upload_keep_ms: self.upload_keep.ms,
                cache_entries_max: self.cache_entries,
                cache_bytes_max: self.cache_memory.0,
                cache_age_ms: self.cache_age.ms,
            },
            callback_allow: self.callback_allow,
            callback_ca: self.callback_ca,
        }
    }
}
