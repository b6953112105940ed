// What was seen of a worker, for reading: a dissent is told once, although the log has what was voted for and what it was held
// to be in two entries.

import { evidenceWords } from "./status";

interface Seen {
  number: number;
  at: string;
  kind: string;
  count: number;
  run: string | null;
  attempt: number | null;
  result: string | null;
}

const JUDGED = ["lone_dissent", "collusion"];

/** The newest entries, those of one vote as one: how it was judged, with what it was for. */
export function seenOnce<T extends Seen>(recent: T[]): T[] {
  const vote = ({ run, attempt }: Seen) => `${run} ${attempt}`;
  const judged = new Set(recent.filter(({ kind }) => JUDGED.includes(kind)).map(vote));
  const results = new Map(recent.filter(({ kind }) => kind === "dissented").map((seen) => [vote(seen), seen.result]));
  return recent
    .filter((seen) => seen.kind !== "dissented" || !judged.has(vote(seen)))
    .map((seen) => (JUDGED.includes(seen.kind) ? { ...seen, result: seen.result ?? results.get(vote(seen)) ?? null } : seen));
}

/** How much of each kind there is, in words; dissents that were judged are counted as that. */
export function countWords(counts: Record<string, number>): string {
  const judged = JUDGED.reduce((total, kind) => total + (counts[kind] ?? 0), 0);
  return Object.entries(counts)
    .map(([kind, number]) => [kind, kind === "dissented" ? number - judged : number] as const)
    .filter(([, number]) => number > 0)
    .map(([kind, number]) => `${number.toLocaleString("en")} × ${evidenceWords(kind)}`)
    .join(", ");
}
