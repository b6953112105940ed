import { expect, it } from "vitest";
import type { Attempt, Verification } from "../api/types";
import { anewVoters, anewWords, arbitrationWords, blameWords, disputed } from "./dispute";
import { ballots } from "./status";

const votes = (...said: [worker: string, result: string, won: boolean | null][]) =>
  said.map(([worker, result, won], index) => ({ id: `r.${index}`, number: index + 1, worker, result, won }) as unknown as Attempt);

const attempts = votes(["w2", "b", false], ["w1", "a", true], ["w9", "a", true], ["w9", "a", true]);
const groups = new Map(ballots(attempts).map(({ result, group }) => [result, group]));

it("takes one attempt of each of two results, the accepted one first", () => {
  expect(disputed(ballots(attempts))).toEqual({ left: 2, right: 1 });
  expect(disputed(ballots(votes(["w1", "a", true], ["w2", "a", true])))).toBeNull();
  expect(disputed([])).toBeNull();
});

it("says whom the arbiter agreed with", () => {
  const words = (arbitration: Parameters<typeof arbitrationWords>[0]) => arbitrationWords(arbitration, attempts, groups);
  expect(words({ executions: 2, agreed_with: [2], results: ["a"] })).toBe("An arbiter executed it again, 2 times, and named A: so had w1.");
  expect(words({ executions: 1, agreed_with: [], results: ["b"] })).toBe("An arbiter executed it again, 1 time, and named B: nobody else had.");
  expect(words({ executions: 2, agreed_with: [], results: ["a", "b"] })).toBe("An arbiter executed it again, 2 times, and named different results: A and B.");
  expect(words(null)).toBe("No arbiter executed it for this decision.");
});

it("tells whose vote lost although it was right", () => {
  const words = (blamed: boolean, isRight: boolean) => blameWords({ blamed }, isRight);
  expect([words(true, false), words(false, false), words(true, true), words(false, true)]).toEqual([
    "Blamed",
    "Not blamed",
    "Blamed wrongly",
    "Not blamed, and right",
  ]);
});

// The log of a final that a quorum decided and an arbiter confirmed later.
const LOG = [
  "w6 voted for 303b12e4 after 0.1 ms of CPU time (attempt 1)",
  "303b12e4 (revision 1) rested on a worker that is not trusted any more: it is verified anew",
  "attempt 4 goes to w3, drawn by lot; voter 1 of 3",
  "w3 voted for 303b12e4 after 0.0 ms of CPU time (attempt 4)",
  "confirmed: revision 1 stays as it is",
].map((text) => ({ text }));

it("finds in the log who voted when it was verified anew", () => {
  expect(anewVoters(LOG)).toEqual(["w3"]);
  expect(anewVoters(LOG.slice(0, 1))).toEqual([]);
});

it("says what verifying it anew came to, but of a correction nothing: its votes are the ones that are shown", () => {
  const words = (conclusion: Verification["conclusion"], voters: string[] = []) =>
    anewWords({ reverified_at: "2026-01-01T00:00:00Z", conclusion }, voters, new Set(["w3"]));
  expect(words("confirmed", ["w3"])).toBe("Confirmed: the arbiter w3 computed it again and found what was accepted.");
  expect(words("confirmed", ["w1", "w2"])).toBe("Confirmed: w1 and w2 computed it again and found what was accepted.");
  expect(words("confirmed")).toBe("Confirmed: trusted voters computed it again and found what was accepted.");
  expect(words("undecided", ["w1"])).toBe("Without a conclusion so far, although w1 computed it again.");
  expect(words("nondeterministic")).toBe("Trusted executions of it differ.");
  expect(words("not_verifiable")).toContain("not kept any more");
  expect([words("corrected"), anewWords(null, ["w3"], new Set())]).toEqual([null, null]);
});
