import { expect, test } from "vitest";
import type { Attempt, Run, Verdict } from "../api/types";
import {
  attemptTone,
  attemptWords,
  ballots,
  ending,
  endingShort,
  evidenceTone,
  evidenceWords,
  hasReceipt,
  kindWords,
  isWeighed,
  runMarks,
  runSentence,
  sourceOf,
  trustWords,
  verdictTitle,
  verdictTone,
  verdictWord,
} from "./status";

function attempt(change: Partial<Attempt>): Attempt {
  const times = { assigned_at: "2026-01-01T00:00:00Z", started_at: null, ended_at: null };
  const rest = { id: "r.1", number: 1, worker: "w1", result: null, outcome: null, won: null, fault: null, cpu_ms: 0 };
  return { ...rest, ...times, state: "voted", ...change };
}

function verdict(change: Partial<Verdict>): Verdict {
  return { kind: "agreed", votes: 2, dissenters: [], ...change };
}

function sentence(change: Partial<Run>): string {
  const run = {
    state: "succeeded",
    reason: null,
    outcome: { kind: "exited", code: 0 },
    verdict: verdict({}),
    policy: { verify: { policy: "quorum", n: 3 } },
    attempts: [],
    explain: [],
    ...change,
  };
  return runSentence(run as unknown as Run);
}

test("a queued run says what it waits for", () => {
  const at = "2026-01-01T00:00:00Z";
  expect(sentence({ state: "queued" })).toBe("It waits for a free slot.");
  expect(sentence({ state: "queued", explain: [{ at, text: "waits until its module is compiled" }] })).toBe("It waits until its module is compiled.");
});

test("equal results are on one ballot, the accepted one first", () => {
  const attempts = ["a", null, "b", "b"].map((result, at) => attempt({ result, won: result === null ? null : result === "b", number: at }));
  expect(ballots(attempts).map(({ group, result, standing, attempts }) => [group, result, standing, attempts.length])).toEqual([
    [0, "b", "accepted", 2],
    [1, "a", "dissent", 1],
  ]);
  expect(ballots([attempt({ result: "a" })])[0]?.standing).toBe("undecided");
});

test("a dissent is worded and toned apart from a fault", () => {
  const dissent = attempt({ result: "a", won: false });
  expect([attemptWords(dissent), attemptTone(dissent)]).toEqual(["dissented", "bad"]);
  const crash = attempt({ state: "faulted", fault: { kind: "crashed", signal: 9, detail: "" } });
  expect(attemptWords(crash)).toBe("its runner was killed by signal 9");
});

test("only agreement without dissent is shown as good", () => {
  expect(verdictTone(verdict({}))).toBe("good");
  expect(verdictTone(verdict({ dissenters: ["w3"] }))).toBe("warn");
  expect(verdictTone(verdict({ kind: "unchecked" }))).toBe("quiet");
});

test("one sentence says what a run is worth", () => {
  expect(sentence({ verdict: verdict({ votes: 3 }) })).toBe("All 3 workers agree that it exited with code 0.");
  expect(sentence({})).toBe("Both workers agree that it exited with code 0.");
  expect(sentence({ verdict: verdict({ dissenters: ["w3"] }) })).toBe(
    "2 of 3 workers agree that it exited with code 0. w3 voted otherwise.",
  );
  expect(sentence({ verdict: verdict({ kind: "unchecked", votes: 1 }) })).toBe(
    "It exited with code 0. Nothing was compared: one worker ran it once.",
  );
  expect(sentence({ state: "running", attempts: [attempt({}), attempt({ state: "begun" })] })).toBe(
    "It is running: 1 of 3 votes are in.",
  );
  const poisoned = { state: "failed", reason: "poisoned", outcome: null, verdict: verdict({ kind: "pending", votes: 0 }) } as const;
  expect(sentence(poisoned)).toBe("It failed without a verdict: it kills the runners that execute it.");
});

test("an arbiter that executed it twice is one worker", () => {
  const attempts = [attempt({ worker: "w9", won: true }), attempt({ worker: "w9", won: true }), attempt({ worker: "w2", won: false })];
  expect(sentence({ attempts, verdict: verdict({ dissenters: ["w2"] }) })).toBe("The arbiter w9 found twice that it exited with code 0. w2 voted otherwise.");
  expect(sentence({ attempts: [attempt({ worker: "w1", won: true }), attempt({ worker: "w2", won: true })] })).toContain("Both workers agree");
});

test("lists show a verdict with its votes", () => {
  expect(verdictWord({ state: "succeeded", verdict: verdict({ dissenters: ["w1"] }) })).toBe("2 of 3 votes agreed");
  expect(verdictWord({ state: "running", verdict: verdict({ kind: "pending", votes: 1 }) })).toBe("pending, 1 vote");
  expect(verdictWord({ state: "failed", verdict: verdict({ kind: "pending", votes: 1 }) })).toBe("no verdict");
});

test("an ending is the outcome, or why there is none", () => {
  expect(ending({ state: "failed", reason: "exit_code", outcome: { kind: "exited", code: 3 } })).toBe("exited with code 3");
  expect(ending({ state: "failed", reason: "no_quorum", outcome: null })).toBe("the votes never satisfied the policy");
  expect(ending({ state: "running", reason: null, outcome: null })).toBe("running");
  expect(endingShort({ state: "failed", reason: "timed_out", outcome: null })).toBe("timed out");
  expect(endingShort({ state: "failed", reason: "trap", outcome: { kind: "trapped", trap: "stack_overflow" } })).toBe("trapped: stack overflow");
  expect(endingShort({ state: "succeeded", reason: null, outcome: { kind: "returned", values: ["7"] } })).toBe("returned (7)");
});

test("only an ended run with a result that is kept has a receipt", () => {
  const has = (change: object) => hasReceipt({ state: "succeeded", result: "sha256:a", policy: { durable: true }, ...change } as Run);
  expect([has({}), has({ state: "failed" })]).toEqual([true, true]);
  expect([has({ state: "running" }), has({ state: "canceled", result: null }), has({ policy: { durable: false } })]).toEqual([false, false, false]);
});

test("what one worker vouches for is told apart from what was compared", () => {
  const vouched = verdict({ kind: "vouched", votes: 1 });
  expect(verdictTone(vouched)).not.toBe(verdictTone(verdict({})));
  expect(verdictWord({ state: "succeeded", verdict: vouched })).toBe("vouched");
  const by = (text: string) => sentence({ verdict: vouched, explain: [{ at: "2026-01-01T00:00:00Z", text }] });
  const rest = "vouches for it: it exited with code 0. Nothing was compared.";
  expect(by("9ab012cd is vouched for by w3 alone: 213 confirmations make an error of 0.00046, and 0.001 is allowed; …")).toBe(`One proven worker ${rest}`);
  expect(by("9ab012cd is vouched for by w5 alone, an arbiter: that leaves an error of 0.0001, and 0.001 is allowed")).toBe(`The arbiter w5 ${rest}`);
  expect(by("answered from the cache: …")).toBe(`One trusted worker ${rest}`);
  expect(verdictTitle(vouched)).toContain("one worker computed it");
  expect(verdictTitle(verdict({}))).toContain("compared");
});

test("a module says in words what it is", () => {
  expect(kindWords({ kind: "command", wasi: "preview1" })).toBe("command, WASI preview1");
  expect(kindWords({ kind: "functions", wasi: "none" })).toBe("functions, without WASI");
});

test("lists mark what was corrected and what another run computed", () => {
  const run = (change: object) => ({ revision: 1, cached_from: null, shared_with: null, ...change });
  expect(runMarks(run({}))).toEqual([]);
  expect(runMarks(run({ revision: 2, cached_from: "r1" })).map(({ word }) => word)).toEqual(["corrected", "cached"]);
  expect(sourceOf(run({ shared_with: "r2" }))).toEqual({ run: "r2", how: "shared" });
  expect(sourceOf(run({}))).toBeNull();
});

test("votes are weighed by credibility, and of every correction", () => {
  const of = (policy: string, revision: number) => isWeighed({ revision, policy: { verify: { policy } } } as unknown as Run);
  expect([of("standard", 1), of("high", 1), of("quorum", 1), of("once", 1), of("quorum", 2)]).toEqual([true, true, false, false, true]);
});

test("evidence that takes something back is good, and an operator's word is neither", () => {
  expect([evidenceTone("absolved"), evidenceTone("lone_dissent"), evidenceTone("readmitted")]).toEqual(["good", "bad", "quiet"]);
  expect(evidenceWords("absolved")).toBe("absolved: it had been right");
});

test("a worker's word is worth what its error says, in the notation of the log and as odds", () => {
  const words = (credibility: number, owned: boolean) => trustWords({ credibility, confirmations: 12.7, owned });
  expect(words(0.8, false)).toBe(
    "Its next result is assumed wrong with a probability of 0.2 (1 in 5): 12 of its results confirmed of late, a foreign machine",
  );
  expect(words(0.9999, true)).toContain("0.0001 (1 in 10,000)");
});

test("a worker that votes twice, as only an arbiter does, is one worker", () => {
  const said = (...votes: [worker: string, won: boolean][]) => votes.map(([worker, won], at) => attempt({ worker, won, result: won ? "a" : "b", number: at }));
  const votes = said(["w1", true], ["w4", false], ["w3", true], ["w3", true]);
  expect(sentence({ verdict: verdict({ votes: 3, dissenters: ["w4"] }), attempts: votes })).toBe(
    "2 of 3 workers agree that it exited with code 0. w4 voted otherwise.",
  );
  expect(sentence({ verdict: verdict({ votes: 3 }), attempts: said(["w1", true], ["w3", true], ["w3", true]) })).toMatch(/^Both workers agree/);
  expect(sentence({ verdict: verdict({ votes: 3 }) })).toMatch(/^All 3 workers agree/);
});
