import { expect, test } from "vitest";
import { ago, bytes, duration, elapsed, parseEnvironment, shortDigest, splitArguments, joinArguments, count, day, longPeriod } from "./format";

test("sizes and durations are short", () => {
  expect([bytes(512), bytes(1536), bytes(5 * 2 ** 30)]).toEqual(["512 B", "1.5 KiB", "5.0 GiB"]);
  expect([duration(0.42), duration(830.4), duration(12_440), duration(200_000)]).toEqual([
    "0.4 ms",
    "830 ms",
    "12.4 s",
    "3 min 20 s",
  ]);
});

test("long periods have their largest unit", () => {
  expect([longPeriod(30 * 86_400_000), longPeriod(3_600_000), longPeriod(90_000), longPeriod(500_000)]).toEqual([
    "30 days",
    "1 hour",
    "90 seconds",
    "8 minutes",
  ]);
});

test("elapsed time keeps microseconds", () => {
  expect(elapsed("2026-01-01T00:00:00.000500Z", "2026-01-01T00:00:00.002000Z")).toBeCloseTo(1.5);
  expect(elapsed("2026-01-01T00:00:59Z", "2026-01-01T00:01:00.25Z")).toBeCloseTo(1250);
});

test("relative times count to and from now", () => {
  const now = Date.parse("2026-01-02T00:00:00Z");
  expect(ago("2026-01-01T23:59:59Z", now)).toBe("now");
  expect(ago("2026-01-01T23:59:30Z", now)).toBe("30 s ago");
  expect(ago("2026-01-01T21:00:00Z", now)).toBe("3 h ago");
  expect(ago("2026-01-02T00:00:03Z", now)).toBe("now");
  expect(ago("2026-01-03T00:00:00Z", now)).toBe("in 1 d");
});

test("a digest is shortened to eight digits", () => {
  expect(shortDigest("sha256:2cf24dba5fb0a30e")).toBe("2cf24dba");
});

test("arguments split like in a shell", () => {
  expect(splitArguments("  -n 3 'a b' \"c \\\" d\" e\\ f '' x\"y\"z ")).toEqual(["-n", "3", "a b", 'c " d', "e f", "", "xyz"]);
  expect(splitArguments("   ")).toEqual([]);
});

test("an environment is made of NAME=VALUE lines", () => {
  expect(parseEnvironment("A=b=c\n\nB=\n")).toEqual({ A: "b=c", B: "" });
  expect(parseEnvironment("A")).toBeNull();
  expect(parseEnvironment("=x")).toBeNull();
});

test("arguments survive being written as one line", () => {
  for (const args of [["-n", "3"], ["two words", 'a"b', "c\\d", ""], ["it's"]]) {
    expect(splitArguments(joinArguments(args))).toEqual(args);
  }
});

test("counts have their noun", () => {
  expect([count(1, "run"), count(2_000, "run"), count(0, "vote")]).toEqual(["1 run", "2,000 runs", "0 votes"]);
});

test("a day is the one of the server's calendar, wherever the reader is", () => {
  expect(day("2026-11-29T00:00:00Z")).toMatch(/29/);
});
