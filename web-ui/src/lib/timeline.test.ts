import { describe, expect, it } from "vitest";
import type { Attempt, Run } from "../api/types";
import { tickStep, timeline } from "./timeline";

const at = (ms: number) => new Date(Date.UTC(2026, 0, 1) + ms).toISOString();

function attempt(number: number, times: [number, number | null, number | null], rest: Partial<Attempt>): Attempt {
  const [assigned, started, ended] = times;
  return {
    id: `r.${number}`,
    number,
    worker: `w${number}`,
    state: "voted",
    result: null,
    outcome: null,
    won: null,
    fault: null,
    assigned_at: at(assigned),
    started_at: started === null ? null : at(started),
    ended_at: ended === null ? null : at(ended),
    cpu_ms: 0,
    ...rest,
  };
}

const run = (attempts: Attempt[], finished: number | null, explain: Run["explain"] = []): Run =>
  ({ created_at: at(0), finished_at: finished === null ? null : at(finished), attempts, explain }) as unknown as Run;

describe("timeline", () => {
  it("shows queueing, waiting, executing and how each attempt ended", () => {
    const killed = attempt(1, [100, 200, 500], { state: "faulted", fault: { kind: "timed_out" } });
    const rerun = attempt(2, [500, 600, 1_000], { won: true });
    const { rows, ms } = timeline(run([killed, rerun], 1_000), at(5_000));
    expect(ms).toBe(1_000);
    expect(rows.map((row) => row.bars.map((bar) => [bar.kind, bar.from, bar.to]))).toEqual([
      [["queued", 0, 0.1], ["running", 0.1, 1]],
      [["waiting", 0.1, 0.2], ["fault", 0.2, 0.5]],
      [["waiting", 0.5, 0.6], ["voted", 0.6, 1]],
    ]);
  });

  it("lets what has not ended reach until now", () => {
    const { rows } = timeline(run([attempt(1, [0, 1_000, null], { state: "begun" })], null), at(2_000));
    expect(rows[1]?.bars.map((bar) => [bar.kind, bar.from, bar.to])).toEqual([
      ["waiting", 0, 0.5],
      ["executing", 0.5, 1],
    ]);
    expect(timeline(run([], null), at(2_000)).rows[0]?.bars).toHaveLength(1);
  });

  it("shows how long it waited for its module", () => {
    const explain = [{ at: at(100), text: "waits until its module is compiled" }];
    const whole = (attempts: Attempt[], finished: number | null) =>
      timeline(run(attempts, finished, explain), at(1_000)).rows[0]?.bars.map((bar) => [bar.kind, bar.from, bar.to]);
    expect(whole([attempt(1, [500, 600, 1_000], {})], 1_000)).toEqual([["queued", 0, 0.1], ["compiling", 0.1, 0.5], ["running", 0.5, 1]]);
    expect(whole([], null)).toEqual([["queued", 0, 0.1], ["compiling", 0.1, 1]]);
  });

  it("never runs backwards when clocks differ", () => {
    const { rows } = timeline(run([attempt(1, [0, null, null], { state: "assigned" })], null), at(-500));
    for (const bar of rows.flatMap((row) => row.bars)) expect(bar.to).toBeGreaterThanOrEqual(bar.from);
  });
});

it("has three to six round ticks", () => {
  for (const ms of [0.4, 7, 10, 99, 1_000, 31_000, 61_000, 101_000, 3_600_000]) {
    const count = ms / tickStep(ms);
    expect(count, `${ms}`).toBeGreaterThanOrEqual(1.5);
    expect(count, `${ms}`).toBeLessThanOrEqual(ms > 60_000 ? 4 : 6);
  }
  // minutes are not counted in tens of seconds
  expect([61_000, 101_000, 4_000_000].map(tickStep)).toEqual([30_000, 30_000, 1_200_000]);
});
