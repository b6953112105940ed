// The explain log for reading: which lines decide something, and what in them is a worker or a result. The words are the
// server's; nothing is added to them and none are left out, but probabilities are written as on all of the page.

import type { Explanation } from "../api/types";
import { withErrors } from "./error";

/** What kind of decision a line tells. */
export type LineKind = "verdict" | "doubt" | "fault" | "step";

export interface Piece {
  text: string;
  /** Id of a worker that the piece names. */
  worker?: string;
  /** Id of a run that it names. */
  run?: string;
  /** Whether it is the short form of a digest. */
  isDigest?: boolean;
}

const DOUBT = /\bnobody is blamed\b|alone named another|very same wrong|it is quarantined|an arbiter is asked|votes? named? .* different|verified anew|lost its confirmations|counts no more|votes differ|one more voter is asked/;
const VERDICT = /^(agreed|accepted|confirmed|corrected|failed|canceled|takes |the votes leave an error|the votes differed: arbiters)|is vouched for by/;
const FAULT = / ended(:| before it had begun:)|did not deliver|was taken from|one attempt at a time from now on|none of its voters delivers/;

export function lineKind(text: string): LineKind {
  if (VERDICT.test(text)) return "verdict";
  if (FAULT.test(text)) return "fault";
  if (DOUBT.test(text)) return "doubt";
  return "step";
}

/** Ids of runs, then workers, then short digests: words of hexadecimal letters alone are words. */
const NAMES = /\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\bw\d+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b/g;

function pieceOf(name: string): Piece {
  if (name.startsWith("w")) return { text: name, worker: name };
  return name.includes("-") ? { text: name, run: name } : { text: name, isDigest: true };
}

/** Takes a line apart: runs, workers and short digests stand out of the words around them. */
export function linePieces(text: string): Piece[] {
  const found: Piece[] = [];
  let at = 0;
  for (const match of text.matchAll(NAMES)) {
    if (match.index > at) found.push({ text: text.slice(at, match.index) });
    found.push(pieceOf(match[0]));
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push({ text: text.slice(at) });
  return found;
}

/** By which figures a run was decided, or that arbiters did. */
export type Decision = Weighed | Arbitrated;

export interface Arbitrated {
  /** How often trusted executors found it: that decides, whatever the votes weigh. */
  executions: string;
}

export interface Weighed {
  executions: null;
  /** What the votes left as the probability of a wrong result. */
  left: string;
  /** What the policy allows. */
  allowed: string;
  /** The worker that stood alone, with its confirmations; an arbiter needs none. */
  alone: { worker: string; confirmations: string | null } | null;
}

/** What the log says where an arbiter's vote was enough. */
const ARBITER_ALONE = /is vouched for by (w\d+) alone, an arbiter: that leaves an error of (.+?), and (.+?) is allowed/;

const ARBITERS_DECIDED = /^the votes differed: arbiters, who are trusted, executed it (\d+) times/;

/** What it says where an arbiter found again what a result is that was verified anew. */
const ARBITER_CONFIRMED = "confirmed by the word of an arbiter, who is trusted";

/** The last decision by weight or by arbiters, as the log tells it; null where votes were only counted. */
export function decisionOf(explain: Pick<Explanation, "text">[]): Decision | null {
  for (const line of explain.toReversed()) {
    const text = withErrors(line.text);
    const decided = ARBITERS_DECIDED.exec(text);
    if (decided !== null) return { executions: decided[1] ?? "" };
    if (text.startsWith(ARBITER_CONFIRMED)) return { executions: "1" };
    const weighed = /^the votes leave an error of (.+?), and (.+?) is allowed/.exec(text);
    if (weighed !== null) return { executions: null, left: weighed[1] ?? "", allowed: weighed[2] ?? "", alone: null };
    const arbiter = ARBITER_ALONE.exec(text);
    if (arbiter !== null) return { executions: null, left: arbiter[2] ?? "", allowed: arbiter[3] ?? "", alone: { worker: arbiter[1] ?? "", confirmations: null } };
    const alone = /is vouched for by (w\d+) alone: (\d+) confirmations make an error of (.+?), and (.+?) is allowed/.exec(text);
    if (alone !== null) {
      return { executions: null, left: alone[3] ?? "", allowed: alone[4] ?? "", alone: { worker: alone[1] ?? "", confirmations: alone[2] ?? "" } };
    }
  }
  return null;
}
