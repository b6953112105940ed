import { expect, it } from "vitest";
import type { Attempt, Run } from "../api/types";
import { judgementOf } from "./judgement";
import { ballots } from "./status";

const votes = (...said: [worker: string, result: string, won: boolean | null][]) =>
  ballots(said.map(([worker, result, won], index) => ({ id: `r.${index}`, number: index + 1, worker, result, won }) as unknown as Attempt));

const run = (...texts: string[]) =>
  ({ verdict: { kind: "agreed", votes: 2, dissenters: ["w2"] }, explain: texts.map((text) => ({ text })) }) as unknown as Run;

it("is silent where nobody differs", () => {
  expect(judgementOf(run(), votes(["w1", "a", true], ["w2", "a", true]), new Set())).toBeNull();
});

it("says whom the arbiter agreed with, and who is blamed", () => {
  const found = votes(["w1", "a", true], ["w2", "b", false], ["w9", "a", true], ["w9", "a", true]);
  const blamed = "w2 alone named another result: it loses its confirmations and is suspect";
  const judgement = judgementOf(run("an arbiter is asked: the votes differ", blamed), found, new Set(["w9"]));
  expect(judgement?.arbitration).toBe("w9, trusted, computed it again, twice, and named A; so did w1.");
  expect(judgement?.dissenters).toEqual(["w2"]);
  expect(judgement?.blame).toEqual([blamed]);
});

it("says when nobody trusted looked, stood alone, or contradicted itself", () => {
  const arbiters = new Set(["w9"]);
  expect(judgementOf(run(), votes(["w1", "a", true], ["w2", "b", false]), arbiters)?.arbitration).toContain("No trusted executor");
  expect(judgementOf(run(), votes(["w9", "a", true], ["w2", "b", false]), arbiters)?.arbitration).toBe(
    "w9, trusted, computed it again and named A; nobody else named that.",
  );
  expect(judgementOf(run(), votes(["w9", "a", null], ["w9", "b", null]), arbiters)?.arbitration).toBe(
    "w9, trusted, computed it again and named different results: A and B.",
  );
});
