import { expect, it } from "vitest";
import { errorOf, errorWords, oddsWords, withErrors } from "./error";

it("writes every probability as a decimal fraction with two digits", () => {
  expect([200_000_000, 50_000_000, 12_345_678, 6_500_000, 1_000_000, 980_000, 100_000, 1_000, 25, 1].map(errorWords)).toEqual([
    "0.2",
    "0.05",
    "0.013",
    "0.0065",
    "0.001",
    "0.00098",
    "0.0001",
    "0.000001",
    "0.000000025",
    "0.000000001",
  ]);
  // never less than it is
  expect([999_001, 1_000_001, 416_320].map(errorWords)).toEqual(["0.001", "0.0011", "0.00042"]);
  expect([0, 1_000_000_000, 999_999_999].map(errorWords)).toEqual(["0", "1", "1"]);
});

it("says the same as odds", () => {
  expect([oddsWords(1_000_000), oddsWords(200_000_000), oddsWords(0)]).toEqual(["1 in 1,000", "1 in 5", "none"]);
});

it("takes the error from a credibility without what floating point adds", () => {
  expect([0.9999, 0.98, 0.8, 0.9935].map(errorOf).map(errorWords)).toEqual(["0.0001", "0.02", "0.2", "0.0065"]);
});

it("puts both notations of older logs into the one of the page", () => {
  expect(withErrors("the votes leave an error of 2.5e-4, and 1.0e-3 is allowed")).toBe("the votes leave an error of 0.00025, and 0.001 is allowed");
  expect(withErrors("one more voter is asked: the error would be 2.00 %, and 1.0e-6 is allowed")).toBe(
    "one more voter is asked: the error would be 0.02, and 0.000001 is allowed",
  );
  for (const [log, ppb] of [["20.00 %", 200_000_000], ["1.20 %", 12_000_000], ["9.8e-4", 980_000], ["2.5e-8", 25], ["100.00 %", 1_000_000_000]] as const) {
    expect(withErrors(log)).toBe(errorWords(ppb));
  }
  const other = "the lottery, which asks a second voter 6.10 times in a hundred, drew none; 303b12e4 took 0.1 ms on w3";
  expect(withErrors(other)).toBe(other);
});
