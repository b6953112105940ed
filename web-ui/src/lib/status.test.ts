import { expect, test } from "vitest";
import type { Attempt, Verdict } from "../api/types";
import { attemptTone, attemptWords, ending, resultGroups, verdictSentence, verdictTone } from "./status";

function attempt(change: Partial<Attempt>): Attempt {
  const times = { assigned_at: "2026-01-01T00:00:00Z", started_at: null, ended_at: null };
  const rest = { id: "r.1", number: 1, worker: "w1", result: null, won: null, fault: null, cpu_ms: 0 };
  return { ...rest, ...times, state: "voted", ...change };
}

test("equal results share a number, in the order of the votes", () => {
  const attempts = ["b", null, "a", "b"].map((result) => attempt({ result }));
  expect(resultGroups(attempts)).toEqual([0, null, 1, 0]);
});

test("a dissent is worded and toned apart from a fault", () => {
  const dissent = attempt({ result: "a", won: false });
  expect([attemptWords(dissent), attemptTone(dissent)]).toEqual(["voted otherwise", "bad"]);
  const crash = attempt({ state: "faulted", fault: { kind: "crashed", signal: 9, detail: "" } });
  expect(attemptWords(crash)).toBe("its runner was killed by signal 9");
});

test("only agreement without dissent is shown as good", () => {
  const verdict = (change: Partial<Verdict>): Verdict => ({ kind: "agreed", votes: 2, dissenters: [], ...change });
  expect(verdictTone(verdict({}))).toBe("good");
  expect(verdictTone(verdict({ dissenters: ["w3"] }))).toBe("warn");
  expect(verdictTone(verdict({ kind: "unchecked" }))).toBe("quiet");
  expect(verdictSentence(verdict({ dissenters: ["w3"] }))).toBe("Agreed: 2 votes for the same result. w3 voted otherwise.");
});

test("an ending is the outcome, or why there is none", () => {
  expect(ending({ state: "failed", reason: "exit_code", outcome: { kind: "exited", code: 3 } })).toBe("exited with code 3");
  expect(ending({ state: "failed", reason: "no_quorum", outcome: null })).toBe("the votes never satisfied the policy");
  expect(ending({ state: "running", reason: null, outcome: null })).toBe("running");
});
