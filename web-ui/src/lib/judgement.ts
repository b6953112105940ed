// A dispute and how it was settled: who computed what again, with whom it agreed, who is blamed. Read off the run, never judged.

import type { Run } from "../api/types";
import { blameLines } from "./explain";
import { groupLetter, type Ballot } from "./status";

export interface Judgement {
  /** Whether a trusted executor computed it, and with whom it agreed. */
  arbitration: string;
  /** Whose votes were compared and lost. */
  dissenters: string[];
  /** What the server said about blame. */
  blame: string[];
}

function list(words: string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

const unique = (words: string[]): string[] => [...new Set(words)];

function arbitrationOf(found: Ballot[], arbiters: ReadonlySet<string>): string {
  const named = found.filter((ballot) => ballot.attempts.some(({ worker }) => arbiters.has(worker)));
  const who = unique(named.flatMap(({ attempts }) => attempts.map(({ worker }) => worker)).filter((worker) => arbiters.has(worker)));
  const [ballot, ...more] = named;
  if (ballot === undefined) return "No trusted executor computed it again: the votes of the others decided alone.";
  if (more.length > 0) return `${list(who)}, trusted, computed it again and named different results: ${list(named.map(({ group }) => groupLetter(group)))}.`;
  const with_ = unique(ballot.attempts.map(({ worker }) => worker).filter((worker) => !arbiters.has(worker)));
  const times = ballot.attempts.filter(({ worker }) => arbiters.has(worker)).length;
  const often = times > who.length ? `, ${times === 2 ? "twice" : `${times} times`},` : "";
  const others = with_.length === 0 ? "nobody else named that" : `so did ${list(with_)}`;
  return `${list(who)}, trusted, computed it again${often} and named ${groupLetter(ballot.group)}; ${others}.`;
}

/** How the votes of a run that differ were settled; null where they don't. */
export function judgementOf(run: Pick<Run, "explain" | "verdict">, found: Ballot[], arbiters: ReadonlySet<string>): Judgement | null {
  if (found.length < 2) return null;
  return { arbitration: arbitrationOf(found, arbiters), dissenters: run.verdict.dissenters, blame: unique(blameLines(run.explain)) };
}
