//! `lockstep serve`: configuration, listener, coordinator, orderly end.

use std::future::Future;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::ServeArgs;
use super::connection::{AddressFile, CertificateFile, url_of};
use super::error::CliError;
use super::telemetry;
use crate::compiler::{CompileLimits, CompilerConfig};
use crate::config::{Environment, Layers, Machine, ServeConfig};
use crate::coordinator::callbacks::CallbackConfig;
use crate::coordinator::chores::RetentionConfig;
use crate::coordinator::{self, CacheConfig, CoordinatorConfig};
use crate::tls::{self, ServerTls};

/// Starts a server and returns when it has stopped.
pub fn serve(args: &ServeArgs, environment: &Environment) -> Result<u8, CliError> {
    let layers = layers(args, environment)?;
    let unknown = layers.unknown_variables.clone();
    let listing = layers.listing()?;
    let config = layers.finish(environment, Machine::of_process())?;
    if args.check {
        print(&listing)?;
        return Ok(0);
    }
    telemetry::start(args.log.as_deref().or(environment.get("LOCKSTEP_LOG")), args.log_format)?;
    for name in unknown {
        tracing::warn!("{name} names no setting and is ignored");
    }
    super::raise_descriptor_limit();
    let listener = TcpListener::bind(config.listen)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| CliError::Serve(format!("cannot listen on {}: {error}", config.listen)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    runtime.block_on(serve_on(config, listener))?;
    Ok(0)
}

/// The three layers, in their order.
fn layers(args: &ServeArgs, environment: &Environment) -> Result<Layers, CliError> {
    let mut layers = Layers::new();
    if let Some(path) = args.config.as_deref().or(environment.get("LOCKSTEP_CONFIG").map(Path::new)) {
        layers.file(path)?;
    }
    layers.environment(environment)?;
    for (key, value) in &args.settings {
        layers.put_text(key, value, "from --set")?;
    }
    let flags = [
        ("data", text_of(args.data.as_deref())?),
        ("listen", args.listen.clone()),
        ("workers", args.workers.map(|n| n.to_string())),
        ("arbiters", args.arbiters.map(|n| n.to_string())),
        ("verify", args.verify.map(|verify| verify.to_string())),
        ("slots", args.slots.map(|n| n.to_string())),
        ("worker_memory", args.worker_memory.map(|size| size.to_string())),
        ("tls_cert", text_of(args.tls_cert.as_deref())?),
        ("tls_key", text_of(args.tls_key.as_deref())?),
        ("callback_allow", (!args.callback_allow.is_empty()).then(|| args.callback_allow.join(","))),
        ("callback_ca", text_of(args.callback_ca.as_deref())?),
        ("allow_plaintext", args.allow_plaintext.then(|| "true".to_owned())),
    ];
    for (key, value) in flags {
        if let Some(value) = value {
            layers.put_text(key, &value, &format!("from --{}", key.replace('_', "-")))?;
        }
    }
    Ok(layers)
}

/// Settings are text.
fn text_of(path: Option<&Path>) -> Result<Option<String>, CliError> {
    let Some(path) = path else { return Ok(None) };
    let not_text = || CliError::Usage(format!("`{}` must be UTF-8", path.display()));
    path.to_str().map(|text| Some(text.to_owned())).ok_or_else(not_text)
}

/// Serves until SIGTERM or SIGINT.
async fn serve_on(config: ServeConfig, listener: TcpListener) -> Result<(), CliError> {
    let shutdown = shutdown_signal()?;
    let reload = reload_signal()?;
    let tls = config.tls.as_ref().map(|(cert, key)| ServerTls::load(cert, key)).transpose()?;
    let listening = listener.local_addr().map_err(CliError::Runtime)?;
    let url = url_of(listening, tls.is_some());
    let data = config.data.clone();
    let workers = config.workers;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(CliError::Runtime)?;
    let acceptor = tls.as_ref().map(ServerTls::acceptor);
    let running = coordinator::start(coordinator_config(&config, acceptor)?, listener).await?;
    let _certificate = tls.map(|tls| keep_certificate(tls, reload, &data)).transpose()?;
    // Dropped at the end, so that a client hears at once that nobody serves here.
    let _address = AddressFile::write(&data, &url)?;
    print(&format!(
        "Lockstep serves on {url}\n  sign in  {url}/#token={}\n  data     {}\n  workers  {}\n",
        running.token,
        data.display(),
        workers_words(workers.count, workers.slots, workers.arbiters),
    ))?;
    Ok(running.serve(shutdown).await?)
}

/// Who will execute runs, in words.
fn workers_words(count: u32, slots: u32, arbiters: u32) -> String {
    let slots = if slots == 1 { "1 slot".to_owned() } else { format!("{slots} slots") };
    let workers = match count {
        0 if arbiters == 0 => {
            "none here: runs need workers of other machines (`lockstep worker --help`)".to_owned()
        }
        0 if arbiters == 1 => return "none here: 1 arbiter executes everything".to_owned(),
        0 => return format!("none here: {arbiters} arbiters execute everything"),
        1 if arbiters == 0 => {
            format!("1 with {slots}: nobody to compare with, so submit with `--once` or add workers")
        }
        1 => format!("1 with {slots}"),
        count => format!("{count} with {slots} each"),
    };
    match arbiters {
        0 => workers,
        1 => format!("{workers}; and 1 arbiter"),
        more => format!("{workers}; and {more} arbiters"),
    }
}

/// Completes at the first SIGTERM or SIGINT; a second SIGINT ends the process at once.
fn shutdown_signal() -> Result<impl Future<Output = ()> + Send + 'static, CliError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            interrupt.recv().await;
            // Everything acknowledged is in the store: the next start takes it up.
            std::process::exit(130);
        });
    })
}

/// Leaves the certificate for clients on this machine, and follows its files from now on.
fn keep_certificate(
    tls: ServerTls,
    reload: mpsc::Receiver<()>,
    data: &Path,
) -> Result<CertificateFile, CliError> {
    let left = CertificateFile::write(data, &tls.certificate())?;
    let data = data.to_owned();
    // ends with the process
    tokio::spawn(async move {
        let leave = |tls: &ServerTls| {
            if let Err(error) = CertificateFile::write(&data, &tls.certificate()).map(CertificateFile::keep) {
                tracing::warn!(%error, "clients on this machine cannot see the new certificate");
            }
        };
        tls.watch(reload, leave).await;
    });
    Ok(left)
}

/// Hears SIGHUP. Taken also where nothing is reloaded, because by default it ends the process.
fn reload_signal() -> Result<mpsc::Receiver<()>, CliError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(CliError::Runtime)?;
    let (asked, reload) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // a full channel holds the same wish already; a closed one says that there is nothing to reload
            let _ = asked.try_send(());
        }
    });
    Ok(reload)
}

fn print(text: &str) -> Result<(), CliError> {
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()).map_err(CliError::Output)
}

/// What the configuration says, in the coordinator's words.
fn coordinator_config(
    config: &ServeConfig,
    tls: Option<tls::Acceptor>,
) -> Result<CoordinatorConfig, CliError> {
    let exe = std::env::current_exe().map_err(CliError::Runtime)?;
    let compiler = CompilerConfig {
        cache_dir: config.data.join("cache"),
        cache_bytes_max: config.compiler.cache_bytes_max,
        exe: exe.clone(),
        limits: CompileLimits {
            module_bytes_max: config.limits.module_bytes_max,
            cpu_s: config.compiler.timeout_ms.div_ceil(1_000),
            address_space_bytes: config.compiler.memory_bytes,
            // a machine that is busy with other things must not look like a guilty module
            wall_ms: config.compiler.timeout_ms.saturating_mul(10),
            ..CompileLimits::default()
        },
        concurrency: config.threads.max(1),
    };
    Ok(CoordinatorConfig {
        classes: None,
        data: config.data.clone(),
        exe,
        workers: config.workers.count,
        arbiters: config.workers.arbiters,
        verify_default: config.verify,
        slots: config.workers.slots,
        worker_memory_bytes: config.workers.memory_bytes,
        heartbeat_ms: config.workers.heartbeat_ms,
        worker_outputs_bytes_max: config.workers.outputs_bytes_max,
        spare_runners: config.workers.spare_runners,
        parked_runners: config.workers.parked_runners,
        begin_ms: config.workers.begin_ms,
        core: config.core.clone(),
        retention: RetentionConfig {
            age_ms: config.retention.age_ms,
            runs_max: config.retention.runs_max,
            evidence_max: config.retention.evidence_max,
            evidence_age_ms: config.retention.evidence_age_ms,
        },
        cache: CacheConfig {
            entries_max: config.retention.cache_entries_max,
            bytes_max: usize::try_from(config.retention.cache_bytes_max).unwrap_or(usize::MAX),
            age_ms: config.retention.cache_age_ms,
        },
        upload_keep_ms: config.retention.upload_keep_ms,
        compiler,
        module_bytes_max: config.limits.module_bytes_max,
        blob_bytes_max: config.limits.blob_bytes_max,
        connections_max: config.limits.connections_max,
        admission_wait: Duration::from_millis(config.limits.admission_wait_ms),
        http_drain: Duration::from_millis(config.limits.http_drain_ms),
        tls,
        callbacks: CallbackConfig { allow: config.callback_allow.clone(), ca: config.callback_ca.clone() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_are_told_in_words() {
        assert_eq!(workers_words(3, 1, 0), "3 with 1 slot each");
        assert_eq!(workers_words(2, 8, 2), "2 with 8 slots each; and 2 arbiters");
        assert_eq!(
            workers_words(1, 2, 1),
            "1 with 2 slots; and 1 arbiter",
            "which is somebody to compare with"
        );
        assert_eq!(workers_words(0, 2, 1), "none here: 1 arbiter executes everything");
        assert_eq!(workers_words(0, 2, 2), "none here: 2 arbiters execute everything");
        assert!(workers_words(1, 2, 0).starts_with("1 with 2 slots: nobody to compare with"));
        assert!(workers_words(0, 4, 0).starts_with("none here"), "slots of nobody are not mentioned");
    }
}
