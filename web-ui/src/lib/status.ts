// What the API says, in words and tones. Nothing is decided here: a state or verdict is only named.

import type { Attempt, Fault, Module, Outcome, RunState, RunSummary, Verdict, Worker } from "../api/types";

/** A tone is never the only sign: a word always stands beside it. */
export type Tone = "good" | "bad" | "busy" | "warn" | "quiet";

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

export function faultWords(fault: Fault): string {
  switch (fault.kind) {
    case "crashed":
      return fault.signal === null ? `its runner died: ${fault.detail}` : `its runner was killed by signal ${fault.signal}`;
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
};

/** How a run ended, or how it stands. */
export function ending(run: Pick<RunSummary, "state" | "reason" | "outcome">): string {
  if (run.outcome !== null && isFinal(run.state)) return outcomeWords(run.outcome);
  if (run.state === "failed" && run.reason !== null) return REASONS[run.reason] ?? run.reason;
  return run.state;
}

/** What comparing the votes says, as a sentence. */
export function verdictSentence(verdict: Verdict): string {
  const votes = verdict.votes === 1 ? "1 vote" : `${verdict.votes} votes`;
  const others = verdict.dissenters.length === 0 ? "" : ` ${verdict.dissenters.join(", ")} voted otherwise.`;
  switch (verdict.kind) {
    case "pending":
      return `Not decided yet: ${votes} so far.`;
    case "agreed":
      return `Agreed: ${votes} for the same result.${others}`;
    case "vouched":
      return "Vouched for: one trusted vote stood alone.";
    case "unchecked":
      return "Unchecked: computed once, nothing was compared.";
    case "disputed":
      return `Disputed: ${votes}, and no result won.${others}`;
    case "nondeterministic":
      return "Nondeterministic: trusted executions differ, and nobody is blamed.";
  }
}

export function verdictTone(verdict: Verdict): Tone {
  switch (verdict.kind) {
    case "agreed":
    case "vouched":
      return verdict.dissenters.length === 0 ? "good" : "warn";
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
      return attempt.won === false ? "voted otherwise" : "voted";
    case "faulted":
      return attempt.fault === null ? "faulted" : faultWords(attempt.fault);
    case "canceled":
      return "stopped, nobody needed it";
  }
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

/** For each attempt the number of its result among the different results, in the order of the votes: equal digests get
 * equal numbers, and hence one colour. */
export function resultGroups(attempts: Attempt[]): (number | null)[] {
  const seen: string[] = [];
  return attempts.map(({ result }) => {
    if (result === null) return null;
    if (!seen.includes(result)) seen.push(result);
    return seen.indexOf(result);
  });
}

export function moduleWord(module: Module): string {
  return module.quarantined === null ? module.state : "quarantined";
}

export function moduleTone(module: Module): Tone {
  if (module.quarantined !== null || module.state === "refused") return "bad";
  return module.state === "ready" ? "good" : "busy";
}

export function workerTone(worker: Worker): Tone {
  switch (worker.standing) {
    case "active":
      return "good";
    case "draining":
      return "warn";
    case "lost":
    case "quarantined":
      return "bad";
  }
}
