//! `lockstep worker`: an agent on this machine for a coordinator on another.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::LogFormat;
use super::error::CliError;
use super::{parse, telemetry};
use crate::agent::AgentConfig;
use crate::agent::corpus;
use crate::agent::misbehave::Misbehaviour;
use crate::agent::remote::{self, Folder, Joined, RemoteConfig, RemoteError};
use crate::compiler::{CompileLimits, Compiler, CompilerConfig};
use crate::config::{Environment, Machine};
use crate::sandbox::ClassParts;
use crate::tls;
use crate::units::{Period, Size};

/// Machine code that is kept, in bytes.
const ARTIFACTS_BYTES_MAX: u64 = 8 << 30;
/// What the folder is called below the user's data directory.
const DATA_DIR: &str = "lockstep-worker";
/// Where this machine's name is.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
/// A coordinator that is there accepts a connection at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two questions of the kernel whether the other side is there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Attempts at once: more on one machine is a slip of the finger.
const SLOTS_MAX: u64 = 1_024;
/// Slots for which one thread sends and receives: their messages leave it mostly idle.
const SLOTS_PER_THREAD: u32 = 16;

/// Work for a coordinator on another machine
///
/// Joins the pool with a key of its own, made at the first start and kept in its data directory. The token is needed once: a
/// worker that is enrolled comes back with its key alone. One outgoing connection does everything, so it works behind NAT and
/// proxies; when it breaks the worker goes on with what it has and delivers it after reconnecting. SIGTERM or Ctrl-C drains: it
/// takes nothing new, finishes what executes, hands back the rest, and stops; a second signal ends it at once.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct WorkerArgs {
    /// Address of a coordinator; may be given often, they are tried in turn [default: $LOCKSTEP_COORDINATOR, with commas between]
    #[arg(long = "coordinator", value_name = "URL", value_hint = ValueHint::Url)]
    pub coordinators: Vec<String>,
    /// Token with the scope `worker`, for the first time [default: $LOCKSTEP_TOKEN]
    #[arg(long, value_name = "TOKEN", hide_default_value = true)]
    pub token: Option<String>,
    /// What people call it [default: $LOCKSTEP_NAME, else this machine's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Attempts that it executes at once [default: $LOCKSTEP_SLOTS, else cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SLOTS_MAX))]
    pub slots: Option<u64>,
    /// Memory for all of its attempts, such as 4GiB [default: $LOCKSTEP_MEMORY, else 80 % of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// What placement may ask for; may be given often [default: $LOCKSTEP_LABELS, with commas between]
    #[arg(long = "label", value_name = "K=V", value_parser = parse::pair)]
    pub labels: Vec<(String, String)>,
    /// Directory for its key and its caches [default: $LOCKSTEP_DATA, else ~/.local/share/lockstep-worker]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data: Option<PathBuf>,
    /// Inputs and modules that are kept on disk [default: 10GiB]
    #[arg(long, value_name = "SIZE")]
    pub cache: Option<Size>,
    /// Certificate of the authority that vouches for the coordinator (PEM) [default: $LOCKSTEP_CA, else the system's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// How long a drain waits for what executes
    #[arg(long, value_name = "PERIOD", default_value = "30s")]
    pub drain: Period,
    /// What to log, such as `debug` or `lockstep=trace` [default: $LOCKSTEP_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// For tests and demonstrations: lie, collude, parrot or flip (or with `:PERCENT`), `sleep:VOTES[:PERCENT]`, `slow:MS`,
    /// `drop:PERCENT`, corrupt, `corpus:N` (answer the golden corpus as another build would), `cpu:N` (be of the class of another
    /// CPU)
    #[arg(long, value_name = "KIND", hide_short_help = true)]
    pub unsafe_misbehave: Option<Misbehaviour>,
}

const HELP: &str = "\
Examples:
  lockstep worker --coordinator https://pool.example:7070 --ca ca.pem --token lsk_…
  lockstep worker --coordinator http://127.0.0.1:7070 --slots 2 --label zone=b
  LOCKSTEP_COORDINATOR=https://a:7070,https://b:7070 lockstep worker

Exit codes: 0 after a drain, 1 when it is refused for good or cannot work, 2 wrong usage.

--unsafe-misbehave makes a worker that does wrong on purpose, to show that the pool finds out: it lies (alone, or the same lie as
every other such worker, at once or after so many honest votes), repeats what it found in the run before, flips a bit, is slow,
loses votes, delivers other bytes than it voted for, or lands in another class, as another build (`corpus:N`) or another CPU
(`cpu:N`) would. `lockstep drill` starts a whole pool with such workers in it. Never use it on a pool that matters.";

/// Works until it has drained.
pub fn worker(args: &WorkerArgs, environment: &Environment) -> Result<u8, CliError> {
    telemetry::start(args.log.as_deref().or(environment.get("LOCKSTEP_LOG")), args.log_format)?;
    if let Some(kind) = args.unsafe_misbehave {
        tracing::warn!(
            ?kind,
            "THIS WORKER MISBEHAVES ON PURPOSE (--unsafe-misbehave): its results are not to be trusted"
        );
    }
    runtime(args, environment)?.block_on(work(args, environment))?;
    Ok(0)
}

/// One thread does for a worker of ordinary size, since what takes long is a process or has a thread of its own; and it need
/// not be woken by another one for each message, which takes as much time as the message.
fn runtime(args: &WorkerArgs, environment: &Environment) -> Result<tokio::runtime::Runtime, CliError> {
    let threads = usize::try_from(slots(args, environment)? / SLOTS_PER_THREAD).unwrap_or(1);
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.max(1)).enable_all().build().map_err(CliError::Runtime)
}

fn slots(args: &WorkerArgs, environment: &Environment) -> Result<u32, CliError> {
    let cores = u64::from(Machine::of_process().cores);
    let slots = match args.slots {
        Some(slots) => slots,
        None => set(environment, "LOCKSTEP_SLOTS")?.unwrap_or(cores).clamp(1, SLOTS_MAX),
    };
    Ok(u32::try_from(slots).unwrap_or(1))
}

async fn work(args: &WorkerArgs, environment: &Environment) -> Result<(), CliError> {
    let drain = drain_signal()?;
    let (config, compiler) = config(args, environment).await?;
    let mut announced = false;
    let joined = move |joined: &Joined| {
        if !std::mem::replace(&mut announced, true) {
            // somebody may have closed our output: then nobody reads it
            drop(std::io::Write::write_all(&mut std::io::stdout().lock(), welcome(joined).as_bytes()));
        }
        tracing::info!(worker = %joined.worker, coordinator = joined.coordinator, "joined");
        if let Some(why) = &joined.quarantined {
            tracing::warn!(why, "this worker is quarantined: it gets nothing until an admin readmits it");
        }
    };
    Ok(remote::run(config, Arc::new(compiler), drain, joined).await?)
}

fn welcome(joined: &Joined) -> String {
    format!(
        "Worker {} of {}: domain {}, class {} (portable: {})\n",
        joined.worker,
        joined.coordinator.trim_end_matches('/'),
        joined.domain,
        joined.classes.native.0.short(),
        joined.classes.portable.results.0.short()
    )
}

/// The classes of this machine and build, by the golden corpus; other ones for a worker that is to play another build.
async fn parts(args: &WorkerArgs, exe: &Path, compiler: &Compiler) -> Result<ClassParts, CliError> {
    let failed = |error: corpus::CorpusError| CliError::Serve(error.to_string());
    let parts = corpus::prove(exe, compiler).await.map_err(failed)?;
    Ok(match args.unsafe_misbehave {
        Some(Misbehaviour::Corpus { number }) => parts.as_another_build(number),
        Some(Misbehaviour::Cpu { number }) => parts.as_another_cpu(number),
        _ => parts,
    })
}

async fn config(args: &WorkerArgs, environment: &Environment) -> Result<(RemoteConfig, Compiler), CliError> {
    let exe = std::env::current_exe().map_err(CliError::Runtime)?;
    let machine = Machine::of_process();
    let slots = slots(args, environment)?;
    let memory = match args.memory {
        Some(memory) => memory,
        None => set(environment, "LOCKSTEP_MEMORY")?.unwrap_or(Size(machine.memory_bytes / 10 * 8)),
    };
    let name = args.name.clone().or_else(|| environment.get("LOCKSTEP_NAME").map(str::to_owned));
    let data = args.data.clone().or_else(|| environment.get("LOCKSTEP_DATA").map(PathBuf::from));
    let folder = Folder::open(&data.unwrap_or_else(|| environment.data_dir_of(DATA_DIR)))?;
    let compiler = CompilerConfig {
        cache_dir: folder.join("artifacts"),
        cache_bytes_max: ARTIFACTS_BYTES_MAX,
        exe: exe.clone(),
        limits: CompileLimits::default(),
        concurrency: machine.cores.max(1) as usize,
    };
    let compiler = Compiler::new(compiler).map_err(|error| CliError::Serve(error.to_string()))?;
    let coordinators = coordinators(args, environment)?;
    let parts = parts(args, &exe, &compiler).await?;
    let agent = AgentConfig {
        labels: labels(args, environment)?,
        ahead: remote::AHEAD,
        ahead_tiny: remote::AHEAD_TINY,
        about: parts.all(),
        ..AgentConfig::new(name.unwrap_or_else(hostname), exe, slots, memory.0, parts.classes())
    };
    let ca = args.ca.clone().or_else(|| environment.get("LOCKSTEP_CA").map(PathBuf::from));
    for url in coordinators.iter().filter(|url| travels_in_the_clear(url)) {
        tracing::warn!(coordinator = %url, "without TLS the token, the modules and their inputs travel in the clear");
    }
    let http = http(&coordinators, ca.as_deref())?;
    let config = RemoteConfig {
        agent,
        coordinators,
        token: args.token.clone().or_else(|| environment.get("LOCKSTEP_TOKEN").map(str::to_owned)),
        http,
        folder,
        cache_bytes_max: args.cache.unwrap_or(Size(10 << 30)).0,
        drain_within: args.drain.duration(),
        misbehaviour: args.unsafe_misbehave,
    };
    Ok((config, compiler))
}

/// A variable's value.
fn set<T: std::str::FromStr<Err: std::fmt::Display>>(
    environment: &Environment,
    name: &str,
) -> Result<Option<T>, CliError> {
    let refuse = |error| CliError::Usage(format!("{name}: {error}"));
    environment.get(name).map(|text| text.parse().map_err(refuse)).transpose()
}

fn labels(args: &WorkerArgs, environment: &Environment) -> Result<BTreeMap<String, String>, CliError> {
    if !args.labels.is_empty() {
        return Ok(args.labels.iter().cloned().collect());
    }
    let pairs =
        environment.get("LOCKSTEP_LABELS").unwrap_or_default().split(',').filter(|pair| !pair.is_empty());
    let refuse = |error: String| CliError::Usage(format!("LOCKSTEP_LABELS: {error}"));
    pairs.map(|pair| parse::pair(pair).map_err(refuse)).collect()
}

fn coordinators(args: &WorkerArgs, environment: &Environment) -> Result<Vec<reqwest::Url>, CliError> {
    let variable = environment.get("LOCKSTEP_COORDINATOR").filter(|_| args.coordinators.is_empty());
    let named = args.coordinators.iter().map(String::as_str);
    let named = named.chain(variable.into_iter().flat_map(|list| list.split(',')));
    let coordinators = named.map(|text| address(text.trim())).collect::<Result<Vec<_>, _>>()?;
    if coordinators.is_empty() {
        let why = "name a coordinator with --coordinator URL (or in LOCKSTEP_COORDINATOR)";
        return Err(CliError::Usage(why.to_owned()));
    }
    Ok(coordinators)
}

fn address(text: &str) -> Result<reqwest::Url, CliError> {
    let refuse = |why: &str| CliError::Usage(format!("`{text}` cannot be a coordinator's address: {why}"));
    let expected = "expected a URL such as http://127.0.0.1:7070";
    let mut url = reqwest::Url::parse(text).map_err(|_| refuse(expected))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(refuse(expected));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(refuse("it has a user, a query or a fragment"));
    }
    if !url.path().ends_with('/') {
        // what is joined to it comes below it
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn travels_in_the_clear(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    url.scheme() == "http" && host != "localhost" && !ip.is_ok_and(|ip| ip.is_loopback())
}

/// A client without a bound on whole answers: sessions last for ever. Everything that it does is watched for standing still.
fn http(coordinators: &[reqwest::Url], ca: Option<&Path>) -> Result<reqwest::Client, CliError> {
    let needs_tls = ca.is_some() || coordinators.iter().any(|url| url.scheme() == "https");
    let tls = if needs_tls { tls::client_config(ca) } else { tls::client_config_without_roots() }?;
    let builder = reqwest::Client::builder().no_proxy().http1_only().tls_backend_preconfigured(tls);
    builder
        .tcp_keepalive(KEEPALIVE)
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| CliError::Serve(format!("cannot prepare connections: {error}")))
}

fn hostname() -> String {
    let name = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "worker".to_owned())
}

/// Completes at the first SIGTERM or SIGINT; a second one ends the process at once.
fn drain_signal() -> Result<impl Future<Output = ()> + Send + 'static, CliError> {
    async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            // runners die with their parent; the coordinator gives their attempts to others
            std::process::exit(130);
        });
    })
}

impl From<RemoteError> for CliError {
    fn from(error: RemoteError) -> CliError {
        CliError::Serve(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(coordinators: &[&str]) -> WorkerArgs {
        WorkerArgs {
            coordinators: coordinators.iter().map(|text| (*text).to_owned()).collect(),
            token: None,
            name: None,
            slots: None,
            memory: None,
            labels: Vec::new(),
            data: None,
            cache: None,
            ca: None,
            drain: Period::seconds(30),
            log: None,
            log_format: LogFormat::Text,
            unsafe_misbehave: None,
        }
    }

    #[test]
    fn coordinators_come_from_flags_before_the_environment() {
        let environment = Environment::of([("LOCKSTEP_COORDINATOR", "http://c:1, https://d/below")]);
        let texts = |args: WorkerArgs| {
            let found = coordinators(&args, &environment).unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(args(&["http://a:1"])), ["http://a:1/"]);
        assert_eq!(texts(args(&[])), ["http://c:1/", "https://d/below/"]);
        for wrong in ["", "a:7070", "ftp://a", "http://a/?x", "http://u@a/"] {
            assert!(coordinators(&args(&[wrong]), &Environment::default()).is_err(), "{wrong}");
        }
        for (text, in_the_clear) in
            [("http://127.0.0.1:1", false), ("http://[::1]", false), ("https://a", false), ("http://a", true)]
        {
            assert_eq!(travels_in_the_clear(&address(text).unwrap()), in_the_clear, "{text}");
        }
        let error = coordinators(&args(&[]), &Environment::default()).unwrap_err();
        assert!(error.to_string().contains("--coordinator"));
    }

    #[test]
    fn labels_of_the_environment_are_read_too() {
        let environment = Environment::of([("LOCKSTEP_LABELS", "zone=b,disk=fast")]);
        let found = labels(&args(&[]), &environment).unwrap();
        assert_eq!(found, [("disk".into(), "fast".into()), ("zone".into(), "b".into())].into());
        assert!(labels(&args(&[]), &Environment::of([("LOCKSTEP_LABELS", "zone")])).is_err());
    }
}
