// How votes that differ were settled, in words: the server says what happened, nothing is judged here.

import type { Arbitration, Attempt, Explanation, Outvoted, Verification } from "../api/types";
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

/** Who voted when it was verified anew, as the log tells it; nobody where it does not. */
export function anewVoters(explain: Pick<Explanation, "text">[]): string[] {
  const begun = explain.findLastIndex(({ text }) => text.endsWith("it is verified anew"));
  if (begun < 0) return [];
  const voters = explain.slice(begun).flatMap(({ text }) => /^(w\d+) voted for /.exec(text)?.[1] ?? []);
  return [...new Set(voters)];
}

/** What verifying the decision anew came to later; null where nobody did, or where the votes are the ones that did. */
export function anewWords(verification: Verification | null, voters: string[], arbiters: ReadonlySet<string>): string | null {
  const again = voters.length === 0 ? "" : `${list(voters.map((id) => (arbiters.has(id) ? `the arbiter ${id}` : id)))} computed it again`;
  switch (verification?.conclusion) {
    case "confirmed":
      return `Confirmed: ${again === "" ? "trusted voters computed it again" : again} and found what was accepted.`;
    case "undecided":
      return `Without a conclusion so far${again === "" ? "" : `, although ${again}`}.`;
    case "nondeterministic":
      return `Trusted executions of it differ${again === "" ? "" : `: ${again}`}.`;
    case "not_verifiable":
      return "Not possible: its module or an input is not kept any more.";
    case "corrected":
    case undefined:
      return null;
  }
}

/** What became of a vote that lost; `isRight` of one whose result stands now, after a correction. */
export function blameWords({ blamed }: Pick<Outvoted, "blamed">, isRight: boolean): string {
  if (isRight) return blamed ? "Blamed wrongly" : "Not blamed, and right";
  return blamed ? "Blamed" : "Not blamed";
}

/** Whether trusted executors computed it again for this decision, and with whom they agreed. */
export function arbitrationWords(arbitration: Arbitration | null, attempts: Pick<Attempt, "number" | "worker">[], groups: ReadonlyMap<string, number>): string {
  if (arbitration === null) return "No arbiter executed it for this decision.";
  const { executions, agreed_with, results } = arbitration;
  const letters = list(results.map((result) => groupLetter(groups.get(result) ?? 0)));
  const times = `An arbiter executed it again, ${count(executions, "time")},`;
  if (results.length > 1) return `${times} and named different results: ${letters}.`;
  const others = agreed_with.map((number) => attempts.find((attempt) => attempt.number === number)?.worker ?? `attempt ${number}`);
  return `${times} and named ${letters}: ${others.length === 0 ? "nobody else had" : `so had ${list([...new Set(others)])}`}.`;
}
