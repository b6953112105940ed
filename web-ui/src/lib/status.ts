// What the API says, in words and tones. Nothing is decided here: a state or verdict is only named.

import type { Attempt, Fault, Module, Outcome, Run, RunState, RunSummary, Verdict, Worker } from "../api/types";
import { errorOf, errorWords, oddsWords } from "./error";
import { decisionOf } from "./explain";
import { count } from "./format";

/** A tone is never the only sign: a word always stands beside it. `trust` is of what one worker vouches for. */
export type Tone = "good" | "bad" | "busy" | "warn" | "quiet" | "trust";

export function runTone(state: RunState): Tone {
  switch (state) {
    case "queued":
      return "quiet";
    case "running":
      return "busy";
    case "succeeded":
      return "good";
    case "failed":
      return "bad";
    case "canceled":
      return "warn";
  }
}

export function isFinal(state: RunState): boolean {
  return state === "succeeded" || state === "failed" || state === "canceled";
}

/** The run that computed the result of this one, and how it comes here; null if it did so itself. */
export function sourceOf(run: Pick<RunSummary, "cached_from" | "shared_with">): { run: string; how: "cached" | "shared" } | null {
  if (run.cached_from !== null) return { run: run.cached_from, how: "cached" };
  return run.shared_with === null ? null : { run: run.shared_with, how: "shared" };
}

/** What lists say of a run beside its verdict. */
export function runMarks(run: Pick<RunSummary, "revision" | "cached_from" | "shared_with">): { word: string; title: string }[] {
  const marks: { word: string; title: string }[] = [];
  if (run.revision > 1) marks.push({ word: "corrected", title: `its first result was wrong: this is revision ${run.revision}` });
  const source = sourceOf(run);
  if (source !== null) {
    const title = source.how === "cached" ? "answered from the cache" : "an equal run in flight computed it for this one too";
    marks.push({ word: source.how, title: `${title}: run ${source.run}` });
  }
  return marks;
}

/** Whether the server signs for it: only for a result, and only of a run that it keeps. */
export function hasReceipt(run: Run): boolean {
  return isFinal(run.state) && run.result !== null && run.policy.durable;
}

const TRAPS: Record<string, string> = {
  unreachable: "unreachable instruction (a panic or abort in the guest)",
  stack_overflow: "call stack exhausted",
  host_abi: "misuse of a host function",
  instantiation: "the module could not be instantiated within its limits",
};

export function outcomeWords(outcome: Outcome): string {
  switch (outcome.kind) {
    case "exited":
      return `exited with code ${outcome.code}`;
    case "returned":
      return `returned (${outcome.values.join(", ")})`;
    case "responded":
      return `responded with status ${outcome.status}`;
    case "trapped":
      return `trapped: ${TRAPS[outcome.trap] ?? outcome.trap.replaceAll("_", " ")}`;
    case "out_of_fuel":
      return "ran out of fuel";
    case "output_limit":
      return "passed its output limit";
  }
}

/** The same in a few words, where a title has the others. */
export function outcomeShort(outcome: Outcome): string {
  return outcome.kind === "trapped" ? `trapped: ${outcome.trap.replaceAll("_", " ")}` : outcomeWords(outcome);
}

export function faultWords(fault: Fault): string {
  switch (fault.kind) {
    case "crashed":
      return fault.signal == null ? `its runner died: ${fault.detail}` : `its runner was killed by signal ${fault.signal}`;
    case "timed_out":
      return "it reached its timeout and was killed";
    case "lost":
      return "its worker was lost";
    case "refused":
      return `its worker refused it: ${fault.detail}`;
    case "corrupt":
      return `its result was corrupt: ${fault.detail}`;
    case "drained":
      return "its worker drained";
  }
}

const REASONS: Record<string, string> = {
  timed_out: "as many attempts timed out as the policy allows",
  crashed: "an attempt crashed, and the policy allows no other",
  poisoned: "it kills the runners that execute it",
  lost: "workers were lost or refused it too often",
  no_quorum: "the votes never satisfied the policy",
  expired: "its deadline passed",
  module_refused: "its module was refused",
  nondeterministic: "its module gives different results where it is trusted",
};

/** How a run ended, or how it stands. */
export function ending(run: Pick<RunSummary, "state" | "reason" | "outcome">): string {
  if (run.outcome !== null && isFinal(run.state)) return outcomeWords(run.outcome);
  if (run.state === "failed" && run.reason !== null) return REASONS[run.reason] ?? run.reason;
  return run.state;
}

/** The same in a few words, for lists and beside a sentence that says more. */
export function endingShort(run: Pick<RunSummary, "state" | "reason" | "outcome">): string {
  if (run.outcome !== null && isFinal(run.state)) return outcomeShort(run.outcome);
  if (run.outcome === null && run.state === "failed" && run.reason !== null) return run.reason.replaceAll("_", " ");
  return ending(run);
}

/** What the explain log says where a run had to wait for its module. */
export const MODULE_AWAITED = "waits until its module is compiled";

/** What comparing the votes says, and hence what this run is worth: the sentence on top of its page. */
export function runSentence(run: Pick<Run, "state" | "reason" | "outcome" | "verdict" | "policy" | "attempts" | "explain">): string {
  const { verdict } = run;
  if (run.state === "queued") return run.explain.at(-1)?.text === MODULE_AWAITED ? `It ${MODULE_AWAITED}.` : "It waits for a free slot.";
  if (run.state === "running") return runningSentence(run);
  if (run.state === "canceled") return "It was canceled before it was decided.";
  const did = run.outcome === null ? null : outcomeWords(run.outcome);
  const others = verdict.dissenters.length === 0 ? "" : ` ${list(verdict.dissenters)} voted otherwise.`;
  switch (verdict.kind) {
    case "agreed":
      return `${agreement(verdict, run.attempts)}${did === null ? "" : ` that it ${did}`}.${others}`;
    case "vouched":
      return `${voucher(run)} vouches for it${did === null ? "" : `: it ${did}`}. Nothing was compared.${others}`;
    case "unchecked":
      return did === null ? "It ended unchecked: nothing was compared." : `It ${did}. Nothing was compared: one worker ran it once.`;
    case "disputed":
      return `No result won: ${count(verdict.votes + verdict.dissenters.length, "vote")} disagree.${others}`;
    case "nondeterministic":
      return "Trusted executions of it differ: it is not deterministic, and nobody is blamed.";
    case "pending":
      return `It failed without a verdict: ${REASONS[run.reason ?? ""] ?? ending(run)}.`;
  }
}

/** Who stood alone: an arbiter is trusted without having proven itself. The log of an answer from the cache does not say. */
function voucher({ explain }: Pick<Run, "explain">): string {
  const decision = decisionOf(explain);
  const alone = decision === null || decision.executions !== null ? null : decision.alone;
  if (alone === null) return "One trusted worker";
  return alone.confirmations === null ? `The arbiter ${alone.worker}` : "One proven worker";
}

function agreement(verdict: Verdict, attempts: Attempt[]): string {
  const winners = new Set(attempts.filter(({ won }) => won === true).map(({ worker }) => worker));
  // only an arbiter votes twice
  if (winners.size === 1 && verdict.votes > 1) return `The arbiter ${[...winners].join("")} found ${verdict.votes === 2 ? "twice" : `${verdict.votes} times`}`;
  // the attempts of an answer from the cache are another run's
  const agree = winners.size === 0 ? verdict.votes : winners.size;
  if (verdict.dissenters.length === 0) return agree === 2 ? "Both workers agree" : `All ${agree} workers agree`;
  return `${agree} of ${agree + verdict.dissenters.length} workers ${agree === 1 ? "says" : "agree"}`;
}

function runningSentence(run: Pick<Run, "verdict" | "policy" | "attempts">): string {
  const votes = run.attempts.filter((attempt) => attempt.state === "voted").length;
  if (run.policy.verify.policy === "once") return "It is running; nothing will be compared.";
  // how many it takes is seen when they are in
  if (run.policy.verify.policy !== "quorum") return `It is running: ${votes === 1 ? "1 vote is" : `${votes} votes are`} in.`;
  return `It is running: ${votes} of ${run.policy.verify.n ?? 2} votes are in.`;
}

function list(words: string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** A verdict in one or two words, for lists. */
export function verdictWord({ state, verdict }: Pick<RunSummary, "state" | "verdict">): string {
  const votes = verdict.votes + verdict.dissenters.length;
  switch (verdict.kind) {
    case "agreed":
      return `${verdict.votes} of ${votes} votes agreed`;
    case "pending":
      if (isFinal(state)) return "no verdict";
      return votes === 0 ? "pending" : `pending, ${count(votes, "vote")}`;
    default:
      return verdict.kind;
  }
}

/** What a verdict is worth, for a title. */
export function verdictTitle({ kind }: Pick<Verdict, "kind">): string {
  switch (kind) {
    case "agreed":
      return "agreed: several workers computed it, and their results were compared";
    case "vouched":
      return "vouched: one worker computed it whose word alone keeps the error within the bound, because it has proven itself so often, or is an arbiter; the lottery of spot checks passed this run by";
    case "unchecked":
      return "unchecked: one worker computed it, and nothing speaks for its result but its word";
    case "disputed":
      return "disputed: workers computed different results, and none of them won";
    case "nondeterministic":
      return "nondeterministic: executions that are trusted gave different results, so the module is at fault and no worker";
    case "pending":
      return "pending: it is not decided";
  }
}

export function verdictTone(verdict: Verdict): Tone {
  switch (verdict.kind) {
    case "agreed":
      return verdict.dissenters.length === 0 ? "good" : "warn";
    case "vouched":
      return "trust";
    case "pending":
    case "unchecked":
      return "quiet";
    case "disputed":
    case "nondeterministic":
      return "bad";
  }
}

export function attemptWords(attempt: Attempt): string {
  switch (attempt.state) {
    case "assigned":
      return "handed out";
    case "begun":
      return "executing";
    case "voted":
      return attempt.won === false ? "dissented" : attempt.won === true ? "voted, accepted" : "voted";
    case "faulted":
      return attempt.fault === null ? "faulted" : faultWords(attempt.fault);
    case "canceled":
      return "stopped, nobody needed it";
  }
}

/** The same in a word or two. */
export function attemptShort(attempt: Attempt): string {
  if (attempt.state === "canceled") return "stopped";
  if (attempt.state !== "faulted" || attempt.fault === null) return attemptWords(attempt);
  const { fault } = attempt;
  if (fault.kind === "crashed") return fault.signal == null ? "crashed" : `killed, signal ${fault.signal}`;
  return fault.kind.replaceAll("_", " ");
}

export function attemptTone(attempt: Attempt): Tone {
  switch (attempt.state) {
    case "assigned":
      return "quiet";
    case "begun":
      return "busy";
    case "voted":
      return attempt.won === false ? "bad" : "good";
    case "faulted":
      return "bad";
    case "canceled":
      return "quiet";
  }
}

export interface Ballot {
  /** Its place among the different results, what was accepted first: the letter, shape and colour of its digest. */
  group: number;
  result: string;
  attempts: Attempt[];
  standing: "accepted" | "dissent" | "undecided";
}

/** The votes by what they say: equal digests on one ballot, the accepted one first, the others in the order of the votes. */
export function ballots(attempts: Attempt[]): Ballot[] {
  const found = new Map<string, Ballot>();
  for (const attempt of attempts) {
    if (attempt.result === null) continue;
    const ballot = found.get(attempt.result) ?? { group: 0, result: attempt.result, attempts: [], standing: "undecided" };
    ballot.attempts.push(attempt);
    if (attempt.won !== null) ballot.standing = attempt.won ? "accepted" : "dissent";
    found.set(attempt.result, ballot);
  }
  const isAccepted = (ballot: Ballot) => Number(ballot.standing === "accepted");
  return [...found.values()]
    .sort((a, b) => isAccepted(b) - isAccepted(a))
    .map((ballot, group) => ({ ...ballot, group }));
}

/** `A`, `B`, … for the results of a run. */
export function groupLetter(group: number): string {
  return String.fromCharCode(65 + (group % 26));
}

export function moduleWord(module: Module): string {
  return module.quarantined === null ? module.state : "quarantined";
}

/** Whether trusted executions of it gave different results. */
export function isNondeterministic(module: Pick<Module, "nondeterministic">): boolean {
  return module.nondeterministic !== null;
}

export function moduleTone(module: Module): Tone {
  if (module.quarantined !== null || module.state === "refused") return "bad";
  return module.state === "ready" ? "good" : "busy";
}

export function verifyWords(verify: Run["policy"]["verify"]): string {
  return verify.policy === "quorum" ? `quorum of ${verify.n ?? 2}` : verify.policy;
}

/** Whether votes are weighed by what their workers have shown before, instead of being counted. */
export function isWeighed(run: Pick<Run, "policy" | "revision">): boolean {
  const { policy } = run.policy.verify;
  // what is verified anew is decided by `standard` in any case
  return policy === "standard" || policy === "high" || run.revision > 1;
}

export function workerTone(standing: Worker["standing"]): Tone {
  switch (standing) {
    case "active":
      return "good";
    case "draining":
    case "suspect":
      return "warn";
    case "gone":
      return "quiet";
    case "lost":
    case "quarantined":
      return "bad";
  }
}

/** Whether runs of it are taken. */
export function canRun(module: Module): boolean {
  return module.state !== "refused" && module.quarantined === null;
}

/** Whether its results can be compared, in words for somebody who hears of it for the first time. */
export function verifiableWords(analysis: NonNullable<Module["analysis"]>): string {
  if (!analysis.verifiable) return "Its results cannot be compared between machines.";
  return "Every machine computes the same bytes from the same input, so its results can be compared.";
}

/** What a module is: `command, WASI preview1`, `functions, without WASI`. */
export function kindWords({ kind, wasi }: Pick<NonNullable<Module["analysis"]>, "kind" | "wasi">): string {
  return `${kind}, ${wasi === "none" ? "without WASI" : `WASI ${wasi}`}`;
}

const EVIDENCE: Record<string, string> = {
  crashed: "runner crashed",
  absolved: "absolved: it had been right",
  readmitted: "readmitted by an operator",
};

/** A kind of evidence about a worker, in words. */
export function evidenceWords(kind: string): string {
  return EVIDENCE[kind] ?? kind.replaceAll("_", " ");
}

export function evidenceTone(kind: string): Tone {
  if (kind.startsWith("confirmed") || kind === "absolved") return "good";
  if (kind === "readmitted") return "quiet";
  return kind === "dissented" || kind === "lone_dissent" || kind === "collusion" ? "bad" : "warn";
}

/** How far a worker's word is believed, with what that comes from. */
export function trustWords(worker: Pick<Worker, "credibility" | "confirmations" | "owned">): string {
  const error = errorOf(worker.credibility);
  const by = `${Math.floor(worker.confirmations).toLocaleString("en")} of its results confirmed of late`;
  return `Its next result is assumed wrong with a probability of ${errorWords(error)} (${oddsWords(error)}): ${by}, ${worker.owned ? "the operator's own machine" : "a foreign machine"}`;
}
