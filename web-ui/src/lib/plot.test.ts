import { expect, it } from "vitest";
import { heights, percent, plotWords, stacks } from "./plot";

it("draws bars relative to the largest and keeps small ones visible", () => {
  expect(heights([0, 1, 100])).toEqual([0, 0.08, 1]);
  expect(heights([0, 0])).toEqual([0, 0]);
});

it("stacks two series, none of which makes the other look larger", () => {
  expect(stacks([1, 0, 0], [1, 4, 0])).toEqual([
    { lower: 0.25, whole: 0.5 },
    { lower: 0, whole: 1 },
    { lower: 0, whole: 0 },
  ]);
});

it("says in words what it draws", () => {
  expect(plotWords("faults", [0, 2, 1], 60)).toBe("faults: 3 in the last 60 minutes, at most 2 in one minute");
  expect(plotWords("faults", [0, 0], 60)).toBe("faults: none in the last 60 minutes");
});

it("rounds shares honestly", () => {
  expect(percent(9_999, 10_000)).toBe("99.9 %");
  expect(percent(10_000, 10_000)).toBe("100 %");
  expect(percent(1, 100_000)).toBe("0.1 %");
  expect(percent(0, 0)).toBe("–");
});
