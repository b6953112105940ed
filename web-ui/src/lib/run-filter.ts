// Filters of the list of runs, as the address has them.

import type { RunFilter } from "../api/client";

export const FILTERS = ["state", "verdict", "module", "worker", "text", "since", "until"] as const;
export type FilterName = (typeof FILTERS)[number];

/** Periods that `since` may name instead of an instant. */
export const PERIODS: Record<string, { words: string; ms: number }> = {
  "15m": { words: "last 15 minutes", ms: 15 * 60_000 },
  "1h": { words: "last hour", ms: 3_600_000 },
  "24h": { words: "last 24 hours", ms: 24 * 3_600_000 },
  "7d": { words: "last 7 days", ms: 7 * 24 * 3_600_000 },
};

/** An instant of the address: a period before `now`, or a local time as `datetime-local` writes it. */
function instant(text: string, now: number): string | null {
  const period = PERIODS[text];
  const time = period === undefined ? Date.parse(text) : now - period.ms;
  return Number.isNaN(time) ? null : new Date(time).toISOString();
}

/** What the API is asked for. */
export function runFilter(query: URLSearchParams, now: number): RunFilter {
  const get = (name: string) => query.get(name) ?? "";
  return {
    state: get("state"),
    verdict: get("verdict"),
    module: get("module"),
    worker: get("worker"),
    text: get("text").trim(),
    since: get("since") === "" ? null : instant(get("since"), now),
    until: get("until") === "" ? null : instant(get("until"), now),
    cursor: get("cursor"),
    limit: 50,
  };
}

/** A time as `datetime-local` has it: here, to the minute. */
export function localTime(at: number): string {
  const local = new Date(at - new Date(at).getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

/** Whether the address names instants instead of a period. */
export function isOwnPeriod(query: URLSearchParams): boolean {
  const since = query.get("since") ?? "";
  return (since !== "" && PERIODS[since] === undefined) || (query.get("until") ?? "") !== "";
}

export function isFiltered(query: URLSearchParams): boolean {
  return FILTERS.some((name) => (query.get(name) ?? "") !== "");
}
