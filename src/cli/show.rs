//! Runs and modules as text for people. Pure: from the API's types to a string.

use super::terminal::{duration, plain, size, table};
use crate::digest::Digest;
use crate::protocol::api::{
    Attempt, AttemptStateName, Module, ModuleStateName, Run, RunSummary, RunVerdict, Timestamp, Verification,
    VerifyRequest,
};
use crate::result::{FailReason, Outcome, RunState, VerdictKind};

/// How a run ended, as a sentence without its full stop; how it stands, while it is open.
pub fn ending(state: RunState, reason: Option<FailReason>, outcome: Option<&Outcome>) -> String {
    let because = |words: &str| format!("failed: {words}");
    match (state, reason) {
        (RunState::Succeeded | RunState::Failed, _) if outcome.is_some() => {
            outcome.map(|outcome| plain(&outcome.to_string())).unwrap_or_default()
        }
        (RunState::Failed, Some(FailReason::TimedOut)) => {
            because("as many attempts timed out as the policy allows")
        }
        (RunState::Failed, Some(FailReason::Crashed)) => {
            because("an attempt crashed, and the policy allows no other")
        }
        (RunState::Failed, Some(FailReason::Poisoned)) => because("it kills the runners that execute it"),
        (RunState::Failed, Some(FailReason::Lost)) => because("workers were lost or refused it too often"),
        (RunState::Failed, Some(FailReason::NoQuorum)) => because("the votes never satisfied the policy"),
        (RunState::Failed, Some(FailReason::Nondeterministic)) => {
            because("its module gives different results where it is trusted")
        }
        (RunState::Failed, Some(FailReason::Expired)) => because("its deadline passed"),
        (RunState::Failed, Some(FailReason::ModuleRefused)) => because("its module was refused"),
        (state, _) => state.name().to_owned(),
    }
}

/// What comparing the votes of a run in this state says, as a sentence without its full stop.
pub fn verdict(state: RunState, verdict: &RunVerdict) -> String {
    let votes = match verdict.votes {
        1 => "1 vote".to_owned(),
        n => format!("{n} votes"),
    };
    let words = match verdict.kind {
        VerdictKind::Pending if !state.is_final() => format!("undecided: {votes} so far"),
        VerdictKind::Pending if verdict.votes == 0 => "undecided: there was no vote".to_owned(),
        VerdictKind::Pending => format!("undecided: {votes}, too few to decide"),
        VerdictKind::Agreed => format!("agreed: {votes} for the same result"),
        VerdictKind::Vouched => "vouched: one trusted vote stood alone".to_owned(),
        VerdictKind::Unchecked => "unchecked: computed once, nothing was compared".to_owned(),
        VerdictKind::Disputed => format!("disputed: {votes}, and no result won"),
        VerdictKind::Nondeterministic => "nondeterministic: trusted executions differ".to_owned(),
    };
    if verdict.dissenters.is_empty() {
        return words;
    }
    let names: Vec<_> = verdict.dissenters.iter().map(ToString::to_string).collect();
    format!("{words}; {} voted otherwise", names.join(", "))
}

/// That a run's final was corrected, as a sentence without its full stop.
pub fn correction(run: &Run) -> Option<String> {
    let at = run.corrected_at?;
    let before = run.revision.saturating_sub(1);
    Some(format!(
        "corrected: this is revision {} since {}; revision {before} was wrong, `lockstep runs show {} --revision {before}`",
        run.revision,
        second(at),
        run.id
    ))
}

/// What came of verifying a run anew, as a phrase.
fn verified_anew(verification: &Verification) -> String {
    format!("{} at {}", verification.conclusion.name().replace('_', " "), second(verification.reverified_at))
}

fn short(digest: Option<&Digest>) -> String {
    digest.map_or_else(|| "-".to_owned(), Digest::short)
}

fn elapsed_ms(from: Timestamp, to: Timestamp) -> f64 {
    (to.0.as_microsecond() - from.0.as_microsecond()) as f64 / 1_000.0
}

pub fn second(at: Timestamp) -> String {
    format!("{:.0}", at.0)
}

/// Characters of an outcome in a table: a function may return any number of values.
const OUTCOME_CHARS_MAX: usize = 32;

/// An outcome that leaves room for the other columns.
fn outcome_cell(outcome: &Outcome) -> String {
    let words = plain(&outcome.to_string());
    if words.chars().count() <= OUTCOME_CHARS_MAX {
        return words;
    }
    words.chars().take(OUTCOME_CHARS_MAX - 1).chain(['…']).collect()
}

/// Attempts with their votes: one row each, equal results have equal digits.
pub fn attempts(attempts: &[Attempt]) -> String {
    let row = |attempt: &Attempt| {
        let state = match (attempt.state, attempt.won) {
            (AttemptStateName::Assigned, _) => "assigned".to_owned(),
            (AttemptStateName::Begun, _) => "executing".to_owned(),
            (AttemptStateName::Voted, Some(false)) => "voted otherwise".to_owned(),
            (AttemptStateName::Voted, _) => "voted".to_owned(),
            (AttemptStateName::Faulted, _) => attempt
                .fault
                .as_ref()
                .map_or_else(|| "faulted".to_owned(), |fault| format!("faulted: {fault}")),
            (AttemptStateName::Canceled, _) => "stopped".to_owned(),
        };
        let wall = attempt.started_at.zip(attempt.ended_at).map(|(from, to)| duration(elapsed_ms(from, to)));
        let wall = wall.unwrap_or_else(|| "-".to_owned());
        let worker = attempt.worker.to_string();
        [
            attempt.number.to_string(),
            worker,
            short(attempt.result.as_ref()),
            attempt.outcome.as_ref().map_or_else(|| "-".to_owned(), outcome_cell),
            wall,
            duration(attempt.cpu_ms),
            state,
        ]
    };
    table(
        ["#", "WORKER", "RESULT", "OUTCOME", "WALL", "CPU", "STATE"],
        &attempts.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Every decision, with its time since the submission.
pub fn explain(run: &Run) -> String {
    let line = |explanation: &crate::protocol::api::Explanation| {
        let at = elapsed_ms(run.created_at, explanation.at) / 1_000.0;
        format!("{at:+10.3} s  {}\n", plain(&explanation.text))
    };
    run.explain.iter().map(line).collect()
}

/// A run with everything that was decided about it.
pub fn run(run: &Run) -> String {
    let mut lines: Vec<(&str, String)> = vec![
        ("run", run.id.to_string()),
        ("state", run.state.name().to_owned()),
        ("ending", ending(run.state, run.reason, run.outcome.as_ref())),
        ("verdict", verdict(run.state, &run.verdict)),
        ("module", run.module.to_string()),
        ("entry", format!("{} {}", run.spec.entry, plain(&run.spec.args.join(" "))).trim_end().to_owned()),
        ("run key", run.run_key.to_string()),
        ("result", run.result.map_or_else(|| "-".to_owned(), |digest| digest.to_string())),
        ("submitted", second(run.created_at)),
    ];
    if !run.state.is_final() {
        lines.retain(|(name, _)| *name != "ending");
    }
    if let Some(at) = run.finished_at {
        lines.push(("took", duration(elapsed_ms(run.created_at, at))));
    }
    if let Some(corrected) = correction(run) {
        lines.push(("revision", corrected));
    }
    if let Some(verification) = &run.verification {
        lines.push(("anew", verified_anew(verification)));
    }
    if let Some(fuel) = run.fuel_used {
        lines.push(("fuel used", fuel.to_string()));
    }
    if let Some(callback) = &run.policy.callback {
        lines.push(("callback", plain(&callback.url)));
    }
    if let Some(first) = run.rerun_of {
        lines.push(("repeats", first.to_string()));
    }
    if let Some(from) = run.cached_from {
        lines.push(("cached", format!("computed by {from}")));
    }
    if let Some(with) = run.shared_with {
        lines.push(("shared", format!("attempts of {with}")));
    }
    for (name, output) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        if let Some(output) = output.as_ref().filter(|output| output.size > 0) {
            lines.push((name, format!("{}, {}", size(output.size), output.digest)));
        }
    }
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    if !run.files.is_empty() {
        text += &format!("\n{}", files(run));
    }
    if !run.attempts.is_empty() {
        text += &format!("\n{}", attempts(&run.attempts));
    }
    if !run.explain.is_empty() {
        text += &format!("\n{}", explain(run));
    }
    text
}

/// The files that the guest left.
pub fn files(run: &Run) -> String {
    let row = |file: &crate::protocol::api::OutputFile| {
        [file.path.clone(), size(file.size), file.digest.to_string()]
    };
    table(["FILE", "SIZE", "DIGEST"], &run.files.iter().map(row).collect::<Vec<_>>())
}

/// A list of runs.
pub fn runs(runs: &[RunSummary]) -> String {
    let row = |run: &RunSummary| {
        let took =
            run.finished_at.map_or_else(|| "-".to_owned(), |at| duration(elapsed_ms(run.created_at, at)));
        [
            run.id.to_string(),
            run.state.name().to_owned(),
            ending(run.state, run.reason, run.outcome.as_ref()),
            run.verdict.kind.name().to_owned(),
            run.module.short(),
            run.attempt_count.to_string(),
            took,
            second(run.created_at),
        ]
    };
    let headers = ["RUN", "STATE", "ENDING", "VERDICT", "MODULE", "ATTEMPTS", "TOOK", "SUBMITTED"];
    table(headers, &runs.iter().map(row).collect::<Vec<_>>())
}

fn analysis_text<'a>(module: &'a Module, field: &str) -> Option<&'a str> {
    module.analysis.as_ref()?.get(field)?.as_str()
}

fn module_state(module: &Module) -> String {
    match module.state {
        _ if module.quarantined.is_some() => "quarantined",
        _ if module.nondeterministic.is_some() => "nondeterministic",
        ModuleStateName::Analysed => "analysed",
        ModuleStateName::Compiling => "compiling",
        ModuleStateName::Ready => "ready",
        ModuleStateName::Refused => "refused",
    }
    .to_owned()
}

/// Whether results of a module can be compared, as a phrase.
pub fn verifiable(module: &Module) -> &'static str {
    let verifiable = module.analysis.as_ref().and_then(|analysis| analysis.get("verifiable")?.as_bool());
    match verifiable {
        Some(true) => "verifiable",
        Some(false) => "not verifiable",
        None => "not analysed",
    }
}

/// What the analysis wants a user to know.
pub fn module_notes(module: &Module) -> Vec<String> {
    let notes = module.analysis.as_ref().and_then(|analysis| analysis.get("notes")?.as_array());
    notes.into_iter().flatten().filter_map(|note| note.as_str().map(plain)).collect()
}

/// A policy of verification in words.
pub fn verify_words(verify: &VerifyRequest) -> String {
    let n = verify.n.map(|n| format!(" of {n}")).unwrap_or_default();
    format!("{}{n}", verify.policy.name())
}

/// A list of modules.
pub fn modules(modules: &[Module]) -> String {
    let row = |module: &Module| {
        [
            module.digest.short(),
            module.name.clone().unwrap_or_else(|| "-".to_owned()),
            module_state(module),
            analysis_text(module, "kind").unwrap_or("-").to_owned(),
            verifiable(module).to_owned(),
            size(module.size),
            second(module.created_at),
        ]
    };
    let headers = ["DIGEST", "NAME", "STATE", "KIND", "RESULTS", "SIZE", "UPLOADED"];
    table(headers, &modules.iter().map(row).collect::<Vec<_>>())
}

/// A module with its analysis.
pub fn module(module: &Module) -> String {
    let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), plain);
    let lines = [
        ("module", module.digest.to_string()),
        ("name", or_dash(module.name.as_deref())),
        ("state", module_state(module)),
        ("size", format!("{} ({} bytes)", size(module.size), module.size)),
        ("uploaded", second(module.created_at)),
        ("kind", or_dash(analysis_text(module, "kind"))),
        ("wasi", or_dash(analysis_text(module, "wasi"))),
        ("results", verifiable(module).to_owned()),
    ];
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    let mut add = |name: &str, value: &str| text += &format!("{name:<10} {}\n", plain(value));
    if let Some(refusal) = &module.refusal {
        add("refused", &format!("{} ({})", refusal.text, refusal.code));
    }
    if let Some(why) = &module.quarantined {
        add("quarantine", why);
    }
    if let Some(found) = &module.nondeterministic {
        let at = second(found.at);
        add(
            "differs",
            &format!("where it is trusted, as run {} showed on {at}: nobody is blamed for it", found.run),
        );
    }
    if let Some(verify) = &module.verify {
        add("verified", &verify_words(verify));
    }
    for note in module_notes(module) {
        add("note", &note);
    }
    for (title, list) in [("imports", "IMPORT"), ("exports", "EXPORT")] {
        let items = module.analysis.as_ref().and_then(|analysis| analysis.get(title)?.as_array());
        let rows: Vec<_> = items.into_iter().flatten().map(named_item).collect();
        if !rows.is_empty() {
            text += &format!("\n{}", table([list, "TYPE"], &rows));
        }
    }
    text
}

fn named_item(item: &serde_json::Value) -> [String; 2] {
    let text =
        |field: &str| item.get(field).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let name = match text("module") {
        module if module.is_empty() => text("name"),
        module => format!("{module}.{}", text("name")),
    };
    [name, text("signature")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;
    use crate::id::WorkerId;
    use crate::result::{Fault, Trap};

    #[test]
    fn an_ending_names_what_the_guest_did_or_what_was_exhausted() {
        assert_eq!(ending(RunState::Running, None, None), "running");
        assert_eq!(
            ending(RunState::Succeeded, None, Some(&Outcome::Exited { code: 0 })),
            "exited with code 0"
        );
        let trap = Outcome::Trapped { trap: Trap::StackOverflow };
        let text = ending(RunState::Failed, Some(FailReason::Trap), Some(&trap));
        assert_eq!(text, "trapped: call stack exhausted");
        let text = ending(RunState::Failed, Some(FailReason::NoQuorum), None);
        assert_eq!(text, "failed: the votes never satisfied the policy");
    }

    #[test]
    fn a_verdict_names_the_dissenters() {
        let agreed = RunVerdict { kind: VerdictKind::Agreed, votes: 2, dissenters: vec![WorkerId(3)] };
        assert_eq!(
            verdict(RunState::Succeeded, &agreed),
            "agreed: 2 votes for the same result; w3 voted otherwise"
        );
    }

    #[test]
    fn a_run_shows_its_votes_and_every_decision() {
        let mut sample = sample::run();
        sample.attempts[0].fault = Some(Fault::TimedOut);
        sample.attempts[0].state = AttemptStateName::Faulted;
        (sample.attempts[0].result, sample.attempts[0].outcome) = (None, None);
        let text = run(&sample);
        for part in [
            "ending     exited with code 0",
            "verdict    agreed: 2 votes for the same result",
            "1  w1      -         -                   1.5 ms  1.2 ms  faulted: it reached its timeout and was killed",
            "2  w2      2cf24dba  exited with code 0  1.5 ms  1.2 ms  voted",
            "    +0.002 s  two equal votes",
        ] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
    }

    #[test]
    fn a_run_that_was_corrected_says_so_and_where_the_wrong_one_is() {
        let mut sample = sample::run();
        assert!(correction(&sample).is_none() && !run(&sample).contains("revision"));
        sample.revision = 2;
        sample.corrected_at = Some("2026-01-02T00:00:00Z".parse().unwrap());
        sample.verification = serde_json::from_value(
            serde_json::json!({"reverified_at": "2026-01-03T00:00:00Z", "conclusion": "confirmed"}),
        )
        .unwrap();
        let text = run(&sample);
        for part in [
            "corrected: this is revision 2 since 2026-01-02T00:00:00Z; revision 1 was wrong",
            "anew       confirmed at 2026-01-03T00:00:00Z",
        ] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
    }

    #[test]
    fn a_dissenters_outcome_stands_beside_its_vote_and_a_long_one_is_cut() {
        let mut sample = sample::run();
        sample.attempts[0].won = Some(false);
        sample.attempts[0].outcome = Some(Outcome::Returned { values: vec!["12345".to_owned(); 9] });
        let text = attempts(&sample.attempts);
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[1].contains("  returned (12345, 12345, 12345, …  1.5 ms"), "{text}");
        assert!(rows[1].ends_with("voted otherwise"), "{text}");
        assert!(rows[2].contains("  exited with code 0                1.5 ms"), "{text}");
    }

    #[test]
    fn words_of_a_guest_cannot_control_the_terminal() {
        let mut sample = sample::run();
        sample.spec.args = vec!["\x1b[2Jx".into()];
        sample.explain[0].text = "a\nb\x1b]0;t\x07".into();
        assert!(!run(&sample).contains('\x1b'));
    }

    #[test]
    fn a_module_shows_its_analysis() {
        let text = module(&sample::module());
        for part in
            ["kind       command", "results    verifiable", "wasi_snapshot_preview1.fd_write  (i32) -> (i32)"]
        {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        assert!(modules(&[sample::module()]).contains("app.wasm  ready  command  verifiable  1.0 KiB"));
    }
}
