//! What class this machine and build is of: found out by executing the golden corpus.
//!
//! Invariant: the answers come from where every run's results come from, an agent with its jailed runner, so they
//! cover all of it. They are kept, sealed, beside the machine code for a day: for this very program file, processor and
//! kernel of the processor's microcode, so that an upgrade or another machine answers anew. It does not know what the
//! answers are good for.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{AgentConfig, AgentHandle, Input, InputSource, start};
use crate::class::Classes;
use crate::compiler::Compiler;
use crate::digest::Digest;
use crate::id::{AttemptId, Class, Epoch, RunId, WorkspaceId};
use crate::protocol::agent::{Assignment, FromAgent, ToAgent};
use crate::result::Fault;
use crate::sandbox::corpus::{Case, cases, fold, input, strange};
use crate::sandbox::{Answers, ClassParts, SandboxError, Variant, compatibility};
use crate::spec::{Profile, canonical_json};

/// Under which name the compiler keeps the answers.
const KEPT: &str = "corpus";
/// How long all of it may take: much longer than it does on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long one case may take, in milliseconds: they take microseconds.
const CASE_MS: u64 = 30_000;
/// How often a case that met a fault is tried.
const TRIES_MAX: u32 = 3;
/// Cases that are handed out at once: what one slot takes.
const AHEAD: usize = 4;
/// Memory of the agent, in bytes: none of the cases uses much of it.
const MEMORY_BYTES: u64 = 1 << 30;
/// What the kernel says of the processors; the first of them is at the beginning.
const CPUINFO: &str = "/proc/cpuinfo";
/// What of it belongs to the processor and not to the moment.
const CPU_LINES: &[&str] = &[
    "vendor_id",
    "cpu family",
    "model",
    "stepping",
    "microcode",
    "flags",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
];

/// Why the class cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A case did not end as an answer.
    #[error("the golden corpus cannot be executed here: case `{case}` {profile}: {fault}")]
    Fault {
        /// Which.
        case: &'static str,
        /// Under which profile.
        profile: Profile,
        /// What happened.
        fault: String,
    },
    /// There is no agent.
    #[error("the golden corpus cannot be executed here: {0}")]
    Agent(String),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] SandboxError),
}

/// The classes of this machine and build, by the answers to the corpus; executed if they are not known since lately.
///
/// # Errors
///
/// See [`CorpusError`].
pub async fn prove(exe: &Path, compiler: &Compiler) -> Result<ClassParts, CorpusError> {
    let machine = machine(exe)?;
    let known = compiler.recall(KEPT, machine).and_then(|words| serde_json::from_slice(&words).ok());
    let answers = match known {
        Some(answers) => answers,
        None => {
            let began = std::time::Instant::now();
            let answers = execute(exe, compiler).await?;
            tracing::info!(took_ms = began.elapsed().as_millis() as u64, "the golden corpus was executed");
            let words = serde_json::to_vec(&answers).expect("digests have no failing impls");
            if let Err(error) = compiler.keep(KEPT, machine, &words) {
                tracing::warn!(%error, "the answers to the golden corpus could not be kept: executed again next time");
            }
            answers
        }
    };
    Ok(ClassParts::of_this_machine(&answers)?)
}

/// What the answers belong to: program, processor, engines.
fn machine(exe: &Path) -> Result<Digest, CorpusError> {
    let program = fs::metadata(exe).map_err(|error| CorpusError::Agent(error.to_string()))?;
    let program = format!(
        "{} {} {} {}.{} {}.{}",
        program.dev(),
        program.ino(),
        program.size(),
        program.mtime(),
        program.mtime_nsec(),
        program.ctime(),
        program.ctime_nsec()
    );
    let mut engines = Vec::with_capacity(Variant::ALL.len());
    for variant in Variant::ALL {
        engines.push(compatibility(variant)?);
    }
    let module = cases(Profile::Det1).first().map(|case| case.spec.module);
    Ok(Digest::of(&canonical_json(&(env!("CARGO_PKG_VERSION"), program, processor(), engines, module))))
}

/// What the kernel says of the first processor; nothing where it says nothing.
fn processor() -> Vec<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    // a large machine has megabytes of it, all alike
    let read = fs::File::open(CPUINFO).and_then(|file| file.take(16 << 10).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    let first = text.split("\n\n").next().unwrap_or_default();
    let is_kept = |line: &&str| CPU_LINES.iter().any(|name| line.starts_with(name));
    first.lines().filter(is_kept).map(str::to_owned).collect()
}

/// The inputs of the corpus, which are built in.
struct BuiltIn;

#[async_trait]
impl InputSource for BuiltIn {
    async fn open(&self, digest: Digest) -> Result<Option<Input>, String> {
        Ok(input(digest).map(|bytes| Input::Inline(Bytes::from_static(bytes))))
    }
}

/// Executes everything once.
async fn execute(exe: &Path, compiler: &Compiler) -> Result<Answers, CorpusError> {
    let nobody = Classes::alike(Class(Digest::EMPTY));
    let config = AgentConfig {
        spares: 0,
        ..AgentConfig::new("corpus".to_owned(), exe.to_owned(), 1, MEMORY_BYTES, nobody)
    };
    let agent = start(config, Arc::new(BuiltIn), Arc::new(compiler.clone()))
        .map_err(|error| CorpusError::Agent(error.to_string()))?;
    let AgentHandle { to, mut from, ended } = agent;
    // one of each in turn, so that both are compiled at once
    let mut all = Vec::new();
    for pair in cases(Profile::Det1).into_iter().zip(cases(Profile::Det1Portable)) {
        all.extend([pair.0, pair.1]);
    }
    let asking = async {
        let mut asked = Asked::new(&all);
        while !asked.is_over() {
            while let Some(assignment) = asked.next() {
                if to.send(ToAgent::Assign(Box::new(assignment))).await.is_err() {
                    return Err(gone());
                }
            }
            match from.recv().await.ok_or_else(gone)? {
                FromAgent::Voted(report) => {
                    asked.answered(report.attempt, report.result);
                    let released = ToAgent::Release(report.attempt);
                    to.send(released).await.map_err(|_| gone())?;
                }
                FromAgent::Faulted { attempt, fault, .. } => asked.failed(attempt, &fault)?,
                FromAgent::Returned { attempt, .. } => asked.again(attempt),
                _ => {}
            }
        }
        Ok(asked.answers)
    };
    let answers = tokio::time::timeout(PATIENCE, asking).await;
    drop((to, from));
    let _ = ended.await;
    let answers = answers.unwrap_or_else(|_| Err(CorpusError::Agent("it takes too long".to_owned())))?;
    Ok(folded(&all, &answers))
}

fn gone() -> CorpusError {
    CorpusError::Agent("the agent ended by itself".to_owned())
}

/// Which cases were handed out, and what came back.
struct Asked<'a> {
    all: &'a [Case],
    waiting: VecDeque<usize>,
    out: usize,
    tries: Vec<u32>,
    answers: Vec<Option<Digest>>,
}

impl<'a> Asked<'a> {
    fn new(all: &'a [Case]) -> Asked<'a> {
        let (tries, answers) = (vec![0; all.len()], vec![None; all.len()]);
        Asked { all, waiting: (0..all.len()).collect(), out: 0, tries, answers }
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.out == 0
    }

    /// The next assignment, unless enough are out. An attempt's run is the case, its number the try.
    fn next(&mut self) -> Option<Assignment> {
        if self.out >= AHEAD {
            return None;
        }
        let at = self.waiting.pop_front()?;
        self.out += 1;
        self.tries[at] += 1;
        let spec = self.all[at].spec.clone();
        Some(Assignment {
            attempt: AttemptId { run: RunId(at as u128), number: self.tries[at] },
            epoch: Epoch(0),
            mac: [0; 32],
            nonce: [0; 16],
            workspace: WorkspaceId(0),
            run_key: spec.key(),
            spec: Arc::new(spec),
            inline: Arc::default(),
            timeout_ms: CASE_MS,
            live: false,
        })
    }

    fn answered(&mut self, attempt: AttemptId, result: Digest) {
        self.answers[attempt.run.0 as usize] = Some(result);
        self.out -= 1;
    }

    fn again(&mut self, attempt: AttemptId) {
        self.waiting.push_back(attempt.run.0 as usize);
        self.out -= 1;
    }

    fn failed(&mut self, attempt: AttemptId, fault: &Fault) -> Result<(), CorpusError> {
        let case = &self.all[attempt.run.0 as usize];
        tracing::warn!(case = case.name, profile = %case.spec.profile, %fault, "a case of the golden corpus met a fault");
        if attempt.number >= TRIES_MAX {
            let (case, profile) = (case.name, case.spec.profile);
            return Err(CorpusError::Fault { case, profile, fault: fault.to_string() });
        }
        self.again(attempt);
        Ok(())
    }
}

/// The answers by what they are about.
fn folded(all: &[Case], answers: &[Option<Digest>]) -> Answers {
    let of = |is_wanted: &dyn Fn(&Case) -> bool| -> Vec<(&'static str, Digest)> {
        let wanted = all.iter().zip(answers).filter(|(case, _)| is_wanted(case));
        wanted.filter_map(|(case, answer)| Some((case.name, (*answer)?))).collect()
    };
    let is = |case: &Case, profile, is_stack| case.spec.profile == profile && case.is_stack == is_stack;
    let portable = of(&|case| is(case, Profile::Det1Portable, false));
    let wrong = strange(&portable);
    if !wrong.is_empty() {
        tracing::warn!(
            cases = ?wrong,
            "THIS MACHINE COMPUTES OTHERWISE than this build should everywhere: its class has no peers, its results are not to \
             be trusted"
        );
    }
    Answers {
        native: fold(&of(&|case| case.spec.profile == Profile::Det1)),
        portable: fold(&portable),
        stack: fold(&of(&|case| is(case, Profile::Det1Portable, true))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_folded_where_it_belongs() {
        let mut all = cases(Profile::Det1);
        all.extend(cases(Profile::Det1Portable));
        let right: Vec<_> = all.iter().map(|case| Some(case.spec.key())).collect();
        let changed = |at: usize| {
            let mut answers = right.clone();
            answers[at] = Some(Digest::EMPTY);
            let (before, after) = (folded(&all, &right), folded(&all, &answers));
            (before.native != after.native, before.portable != after.portable, before.stack != after.stack)
        };
        for (at, case) in all.iter().enumerate() {
            let expected = match (case.spec.profile, case.is_stack) {
                (Profile::Det1, _) => (true, false, false),
                (Profile::Det1Portable, false) => (false, true, false),
                (Profile::Det1Portable, true) => (false, false, true),
            };
            assert_eq!(changed(at), expected, "{}", case.name);
        }
    }

    #[test]
    fn a_case_is_tried_again_and_given_up() {
        let all = cases(Profile::Det1);
        let mut asked = Asked::new(&all);
        let out: Vec<_> = std::iter::from_fn(|| asked.next()).map(|it| it.attempt).collect();
        assert_eq!(out.len(), AHEAD);
        asked.failed(out[0], &Fault::Lost).unwrap();
        let last = AttemptId { number: TRIES_MAX, ..out[1] };
        let error = asked.failed(last, &Fault::Lost).unwrap_err();
        assert!(error.to_string().contains(all[1].name), "{error}");
        asked.again(out[2]);
        asked.answered(out[3], Digest::EMPTY);
        assert!(!asked.is_over());
        assert_eq!(asked.answers[3], Some(Digest::EMPTY));
    }

    #[test]
    fn the_processor_is_known_without_its_moment() {
        let lines = processor();
        assert!(!lines.iter().any(|line| line.contains("MHz")), "{lines:?}");
        assert_eq!(lines, processor());
    }
}
