import { expect, it } from "vitest";
import type { Attempt } from "../api/types";
import { arbitrationWords, disputed } from "./dispute";
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
  expect(words(null)).toBe("No arbiter executed it again.");
});
