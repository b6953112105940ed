// What rested on workers that were taken out, and what becomes of it, in words.

import type { Repair } from "../api/types";
import { count } from "./format";
import type { Tone } from "./status";

const STATES: Record<Repair["state"], string> = {
  looking: "looking for what rested on it",
  verifying: "verifying anew",
  done: "done",
  lifted: "lifted: it had been right",
};

export function repairWord({ state }: Pick<Repair, "state">): string {
  return STATES[state];
}

export function repairTone(repair: Pick<Repair, "state" | "undecided" | "not_verifiable">): Tone {
  if (repair.state === "looking" || repair.state === "verifying") return "busy";
  if (repair.state === "lifted") return "quiet";
  return repair.undecided + repair.not_verifiable > 0 ? "warn" : "good";
}

/** How far it is: of the finals that had to be verified anew, how many are settled. */
export function repairProgress({ decisive, pending }: Pick<Repair, "decisive" | "pending">): { settled: number; all: number } {
  return { settled: Math.max(0, decisive - pending), all: decisive };
}

/** What rested on the worker, and what came of it, in one sentence. */
export function repairSentence(repair: Repair): string {
  const { finals, decisive, confirmed, corrected, undecided, not_verifiable: lost, pending, dependents } = repair;
  if (finals === 0 && decisive === 0) return "No result rested on it.";
  const voted = `It had voted for ${count(finals, "result")} that won`;
  if (decisive === 0) return repair.state === "looking" ? `${voted}; they are being looked at.` : `${voted}; each stands without its vote.`;
  const parts = [
    [confirmed, "confirmed"],
    [corrected, "corrected"],
    [undecided, "could not be told yet"],
    [lost, "not kept any more or nondeterministic"],
    [pending, "still to come"],
  ] as const;
  const found = parts.filter(([number]) => number > 0).map(([number, word]) => `${number.toLocaleString("en")} ${word}`);
  const would = decisive === 1 ? "1 would not be there without its vote" : `${decisive.toLocaleString("en")} would not be there without its vote`;
  const along = dependents === 0 ? "" : ` ${count(dependents, "run")} that had been answered with such a result ${dependents === 1 ? "was" : "were"} corrected along.`;
  return `${voted}; ${would}${found.length === 0 ? "" : `: ${found.join(", ")}`}.${along}`;
}
