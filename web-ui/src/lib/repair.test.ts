import { expect, it } from "vitest";
import type { Repair } from "../api/types";
import { repairProgress, repairSentence, repairTone } from "./repair";

const repair = (change: Partial<Repair>): Repair => ({
  worker: "w2",
  since: "2026-01-01T00:00:00Z",
  why: "it lied",
  state: "done",
  finals: 10,
  found: 10,
  decisive: 4,
  pending: 0,
  confirmed: 3,
  corrected: 1,
  dependents: 0,
  undecided: 0,
  not_verifiable: 0,
  ...change,
});

it("says what rested on a worker and what came of it", () => {
  expect(repairSentence(repair({}))).toBe("It had voted for 10 results that won; 4 would not be there without its vote: 3 confirmed, 1 corrected.");
  expect(repairSentence(repair({ pending: 2, confirmed: 2, corrected: 0, state: "verifying" }))).toContain("2 confirmed, 2 still to come");
  expect(repairSentence(repair({ decisive: 0, confirmed: 0, corrected: 0 }))).toBe("It had voted for 10 results that won; each stands without its vote.");
  expect(repairSentence(repair({ dependents: 1 }))).toContain("1 corrected. 1 run that had been answered with such a result was corrected along.");
  expect(repairSentence(repair({ dependents: 2000 }))).toContain("2,000 runs that had been answered with such a result were corrected along.");
  expect(repairSentence(repair({ finals: 0, decisive: 0 }))).toBe("No result rested on it.");
});

it("counts what is settled", () => {
  expect(repairProgress({ decisive: 4, pending: 1 })).toEqual({ settled: 3, all: 4 });
});

it("is good only when everything could be told", () => {
  expect(repairTone(repair({}))).toBe("good");
  expect(repairTone(repair({ undecided: 1 }))).toBe("warn");
  expect(repairTone(repair({ state: "verifying" }))).toBe("busy");
});
