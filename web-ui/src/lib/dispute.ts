// How votes that differ were settled, in words: the server says what happened, nothing is judged here.

import type { Arbitration, Attempt } from "../api/types";
import { count } from "./format";
import { groupLetter, type Ballot } from "./status";

/** Two attempts whose results differ, the accepted one first: what stands for a dispute. Null where all votes say the same. */
export function disputed(found: Ballot[]): { left: number; right: number } | null {
  const [left, right] = [found[0]?.attempts[0]?.number, found[1]?.attempts[0]?.number];
  return left === undefined || right === undefined ? null : { left, right };
}

function list(words: string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Whether trusted executors computed it again, and with whom they agreed. */
export function arbitrationWords(arbitration: Arbitration | null, attempts: Pick<Attempt, "number" | "worker">[], groups: ReadonlyMap<string, number>): string {
  if (arbitration === null) return "No arbiter executed it again.";
  const { executions, agreed_with, results } = arbitration;
  const letters = list(results.map((result) => groupLetter(groups.get(result) ?? 0)));
  const times = `An arbiter executed it again, ${count(executions, "time")},`;
  if (results.length > 1) return `${times} and named different results: ${letters}.`;
  const others = agreed_with.map((number) => attempts.find((attempt) => attempt.number === number)?.worker ?? `attempt ${number}`);
  return `${times} and named ${letters}: ${others.length === 0 ? "nobody else had" : `so had ${list([...new Set(others)])}`}.`;
}
