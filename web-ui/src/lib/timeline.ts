// Where the bars of a run's timeline begin and end. Positions are shares of the whole, from 0 to 1.

import type { Attempt, Run } from "../api/types";
import { elapsed } from "./format";
import { MODULE_AWAITED } from "./status";

export type BarKind = "queued" | "compiling" | "running" | "waiting" | "executing" | "voted" | "dissent" | "fault" | "stopped";

export interface Bar {
  kind: BarKind;
  from: number;
  to: number;
  ms: number;
}

export interface Row {
  attempt: Attempt | null;
  bars: Bar[];
}

export interface Timeline {
  ms: number;
  ticks: { at: number; ms: number }[];
  rows: Row[];
}

/** Steps of more than a minute's timeline, in seconds: those of a clock. */
const CLOCK_STEPS = [15, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400];

/** Round steps, so that there are three to six of them; fewer of more than a minute, whose words are longer. */
export function tickStep(ms: number): number {
  const clock = CLOCK_STEPS.map((seconds) => seconds * 1_000).find((step) => ms / step <= 4);
  if (ms > 60_000 && clock !== undefined) return clock;
  const size = 10 ** Math.floor(Math.log10(Math.max(ms, 0.001) / 3));
  return [1, 2, 5, 10].map((factor) => factor * size).find((step) => ms / step <= 6) ?? size * 10;
}

function kindOf(attempt: Attempt): BarKind {
  switch (attempt.state) {
    case "assigned":
      return "waiting";
    case "begun":
      return "executing";
    case "voted":
      return attempt.won === false ? "dissent" : "voted";
    case "faulted":
      return "fault";
    case "canceled":
      return "stopped";
  }
}

/** `now` is an instant as the API writes it: where bars end that have no end yet. */
export function timeline(run: Run, now: string): Timeline {
  const since = (time: string) => Math.max(0, elapsed(run.created_at, time));
  const end = run.finished_at ?? now;
  const lasts = run.attempts.map((attempt) => since(attempt.ended_at ?? attempt.started_at ?? attempt.assigned_at));
  const ms = Math.max(since(end), ...lasts, 0.001);
  const bar = (kind: BarKind, from: number, to: number): Bar => {
    const last = Math.max(from, to);
    return { kind, from: from / ms, to: last / ms, ms: last - from };
  };

  const first = run.attempts[0];
  const placed = first === undefined ? since(end) : since(first.assigned_at);
  const awaited = run.explain.find((line) => line.text === MODULE_AWAITED);
  const waits = awaited === undefined ? placed : Math.min(since(awaited.at), placed);
  const whole: Bar[] = [bar("queued", 0, waits)];
  if (awaited !== undefined) whole.push(bar("compiling", waits, placed));
  if (first !== undefined) whole.push(bar("running", placed, since(end)));

  const rows: Row[] = [{ attempt: null, bars: whole }];
  for (const attempt of run.attempts) {
    const from = since(attempt.assigned_at);
    const to = since(attempt.ended_at ?? end);
    const began = attempt.started_at === null ? null : since(attempt.started_at);
    const kind = kindOf(attempt);
    const bars = began === null ? [] : [bar("waiting", from, began)];
    bars.push(bar(kind, began ?? from, to));
    rows.push({ attempt, bars });
  }

  const step = tickStep(ms);
  const ticks = [];
  for (let at = 0; at <= ms; at += step) ticks.push({ at: at / ms, ms: at });
  return { ms, ticks, rows };
}
