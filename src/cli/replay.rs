//! `lockstep verify --replay`: the run of a receipt once more, on this machine.
//!
//! It is executed as a worker executes it: by an agent, in a jailed runner, from machine code that a compiler child makes. What
//! it leaves is thrown away; only its digest is compared.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::client::Client;
use super::error::CliError;
use crate::agent::{self, AgentConfig, AgentHandle, Input, InputSource, corpus};
use crate::class::Classes;
use crate::compiler::{CompileLimits, Compiler, CompilerConfig};
use crate::digest::{Digest, Hasher};
use crate::id::{AttemptId, Epoch, WorkspaceId};
use crate::protocol::agent::{Assignment, FromAgent, ToAgent, VoteReport};
use crate::receipt::Predicate;
use crate::result::{Outcome, ResultManifest, Trap};
use crate::spec::{Profile, RunSpec};

/// Files that are looked at in the directory of inputs.
const FILES_MAX: usize = 65_536;
/// A spec is shorter.
const SPEC_BYTES_MAX: u64 = 16 << 20;
/// How long a runner may take to start and to load the module.
const BEGIN_MS: u64 = 120_000;
/// How much longer than its attempt an agent may take: it compiles and starts first.
const AROUND: Duration = Duration::from_secs(1_800);
/// Read from a file at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What the command line gives.
pub struct Wanted<'a> {
    pub module: &'a Path,
    pub spec: Option<&'a Path>,
    pub blobs: Option<&'a Path>,
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Replayed {
    /// Whether the result is the one in the receipt.
    pub agrees: bool,
    /// What came out; `None` if the module is another one, and was not executed.
    pub result: Option<Digest>,
    /// The class of this machine and build, for the profile of the run.
    pub class: Digest,
    /// Whether that is the class of those who voted.
    pub same_class: bool,
    /// Whether only a machine of that class has to give the same result.
    pub bound_to_class: bool,
    /// In what the results differ, as far as the receipt tells.
    pub differences: Vec<String>,
}

impl Replayed {
    /// For people.
    pub fn words(&self) -> String {
        let class = match (self.same_class, self.bound_to_class) {
            (true, false) => "",
            (true, true) => "; this machine and build are of the class of those who voted",
            (false, true) => "; this machine or build is of another class, where an honest result may differ",
            (false, false) => "; this build is of another class, but the profile promises the same results",
        };
        match (self.agrees, &self.result) {
            (true, _) => format!("executed again here: the same result{class}"),
            (false, Some(result)) => {
                let what = self.differences.join(", ");
                let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
                format!("executed again here: ANOTHER result, {result}{what}{class}")
            }
            (false, None) => format!("not executed: {}", self.differences.join(", ")),
        }
    }
}

/// Executes the run of a receipt again.
pub async fn replay(
    predicate: &Predicate,
    wanted: Wanted<'_>,
    client: Option<&Client>,
) -> Result<Replayed, CliError> {
    let folder = tempfile::tempdir().map_err(CliError::Runtime)?;
    let compiler = compiler(folder.path())?;
    let exe = std::env::current_exe().map_err(CliError::Runtime)?;
    let parts = corpus::prove(&exe, &compiler).await.map_err(|error| CliError::Replay(error.to_string()))?;
    let classes = parts.classes();
    let class = classes.of(predicate.profile);
    let same_class = class.0 == predicate.class;
    let bound_to_class = match predicate.profile {
        Profile::Det1 => true,
        Profile::Det1Portable => predicate.outcome == Outcome::Trapped { trap: Trap::StackOverflow },
    };
    let module = hash(wanted.module).map_err(CliError::file("read", wanted.module))?;
    if module != predicate.module {
        let why = format!("the receipt is of another module, and `{}` is {module}", wanted.module.display());
        return Ok(Replayed {
            agrees: false,
            result: None,
            class: class.0,
            same_class,
            bound_to_class,
            differences: vec![why],
        });
    }
    let spec = spec(predicate, wanted.spec)?;
    let mut files = HashMap::from([(module, wanted.module.to_owned())]);
    gather(&spec, wanted.blobs, client, folder.path(), &mut files).await?;
    let report = execute(spec, classes, files, compiler, wanted.timeout).await?;
    let agrees = report.result == predicate.result;
    let differences = if agrees { Vec::new() } else { differences(predicate, &report.manifest) };
    let result = Some(report.result);
    Ok(Replayed { agrees, result, class: class.0, same_class, bound_to_class, differences })
}

/// The run spec: from the receipt, or from a file that must hash to the run key.
fn spec(predicate: &Predicate, path: Option<&Path>) -> Result<RunSpec, CliError> {
    if let Some(spec) = &predicate.spec {
        return Ok(spec.clone());
    }
    let Some(path) = path else {
        let why = "the run spec was too long for the receipt: give it with --spec FILE";
        return Err(CliError::Usage(why.to_owned()));
    };
    let size = std::fs::metadata(path).map_err(CliError::file("read", path))?.len();
    let text = match size <= SPEC_BYTES_MAX {
        true => std::fs::read(path).map_err(CliError::file("read", path))?,
        false => Vec::new(),
    };
    let spec: Option<RunSpec> = serde_json::from_slice(&text).ok();
    spec.filter(|spec| spec.key() == predicate.run_key).ok_or_else(|| {
        CliError::Usage(format!("`{}` is not the run spec {}", path.display(), predicate.run_key))
    })
}

/// Finds every input: among the files of a directory by what they contain, else on the server.
async fn gather(
    spec: &RunSpec,
    blobs: Option<&Path>,
    client: Option<&Client>,
    folder: &Path,
    files: &mut HashMap<Digest, PathBuf>,
) -> Result<(), CliError> {
    let is_missing = |files: &HashMap<Digest, PathBuf>| spec.inputs().find(|it| !files.contains_key(it));
    if let Some(blobs) = blobs
        && is_missing(files).is_some()
    {
        let failed = || CliError::file("read", blobs);
        for entry in std::fs::read_dir(blobs).map_err(failed())?.take(FILES_MAX) {
            let path = entry.map_err(failed())?.path();
            if path.is_file() {
                files.insert(hash(&path).map_err(CliError::file("read", &path))?, path);
            }
        }
    }
    while let Some(digest) = is_missing(files) {
        let Some(client) = client else {
            let why = format!("the input {digest} is missing: put it into --blobs DIR, or say --fetch");
            return Err(CliError::Usage(why));
        };
        let path = folder.join(digest.hex());
        let mut file = File::create(&path).map_err(CliError::file("write", &path))?;
        let take = |piece: &[u8]| file.write_all(piece).map_err(CliError::file("write", &path));
        client.fetch(&["blobs", &digest.to_string()], "an input", digest, take).await?;
        files.insert(digest, path);
    }
    Ok(())
}

fn hash(path: &Path) -> std::io::Result<Digest> {
    use std::io::Read as _;
    let (mut file, mut hasher) = (File::open(path)?, Hasher::new());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&piece[..count]),
        }
    }
}

/// Local files by what they contain; an agent hashes them again.
struct Files(HashMap<Digest, PathBuf>);

#[async_trait]
impl InputSource for Files {
    async fn open(&self, digest: Digest) -> Result<Option<Input>, String> {
        let Some(path) = self.0.get(&digest) else { return Ok(None) };
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        Ok(Some(Input::File(file, size)))
    }
}

/// A compiler that keeps nothing beyond this folder.
fn compiler(folder: &Path) -> Result<Compiler, CliError> {
    let compiler = Compiler::new(CompilerConfig {
        cache_dir: folder.join("artifacts"),
        cache_bytes_max: u64::MAX,
        exe: std::env::current_exe().map_err(CliError::Runtime)?,
        limits: CompileLimits::default(),
        concurrency: 2,
    });
    compiler.map_err(|error| CliError::Replay(error.to_string()))
}

async fn execute(
    spec: RunSpec,
    classes: Classes,
    files: HashMap<Digest, PathBuf>,
    compiler: Compiler,
    timeout: Duration,
) -> Result<VoteReport, CliError> {
    let exe = std::env::current_exe().map_err(CliError::Runtime)?;
    let config = AgentConfig {
        begin_ms: BEGIN_MS,
        ..AgentConfig::new("replay".to_owned(), exe, 1, spec.limits.held_bytes(), classes)
    };
    let handle =
        agent::start(config, Arc::new(Files(files)), Arc::new(compiler)).map_err(CliError::Runtime)?;
    let AgentHandle { to, mut from, ended } = handle;
    let assignment = Assignment {
        attempt: AttemptId { run: crate::id::RunId(0), number: 1 },
        epoch: Epoch(0),
        mac: [0; 32],
        nonce: [0; 16],
        workspace: WorkspaceId(0),
        run_key: spec.key(),
        spec: Arc::new(spec),
        inline: Arc::default(),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        live: false,
    };
    // nobody hears it before it is there, and a channel of its own holds it until then
    drop(to.send(ToAgent::Assign(Box::new(assignment))).await);
    let answer = async {
        loop {
            match from.recv().await {
                Some(FromAgent::Voted(report)) => return Ok(*report),
                Some(FromAgent::Faulted { fault, .. }) => return Err(fault.to_string()),
                Some(FromAgent::Returned { .. }) | None => return Err("its runner gave it up".to_owned()),
                Some(_) => {}
            }
        }
    };
    let answer = tokio::time::timeout(timeout.saturating_add(AROUND), answer).await;
    drop((to, from));
    let _ = ended.await;
    let answer = answer.unwrap_or_else(|_| Err("it did not end in time".to_owned()));
    answer.map_err(CliError::Replay)
}

/// What is not as in the receipt, as far as that has the manifest.
fn differences(predicate: &Predicate, manifest: &[u8]) -> Vec<String> {
    let here: Option<ResultManifest> = serde_json::from_slice(manifest).ok();
    let (Some(here), Some(there)) = (here, &predicate.manifest) else { return Vec::new() };
    let mut found = Vec::new();
    if here.outcome != there.outcome {
        found.push(format!("outcome: {}", here.outcome));
    }
    for (name, here, there) in [("stdout", here.stdout, there.stdout), ("stderr", here.stderr, there.stderr)]
    {
        if here != there {
            found.push(name.to_owned());
        }
    }
    if here.files != there.files {
        found.push("files".to_owned());
    }
    if here.fuel_used != there.fuel_used {
        found.push("fuel".to_owned());
    }
    found
}
