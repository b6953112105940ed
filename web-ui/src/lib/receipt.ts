// What a receipt says of the votes that the run itself does not. It is read here, never checked: `lockstep verify` does that.

import { fromBase64 } from "./bytes";

/** What a vote weighed when the run was decided. */
export interface Weight {
  /** How likely it was wrong, in parts per billion. */
  errorPpb: number;
  /** Results of its worker that others had confirmed, aged. */
  confirmations: number;
  /** Votes of one fault domain count as the best of them. */
  faultDomain: number | null;
  isArbiter: boolean;
}

interface ReceiptVote {
  attempt: number;
  credibility?: string;
  confirmations_milli?: number;
  fault_domain?: number;
  arbiter?: boolean;
}

export interface Certificate {
  /** Of which run: where a result was reused, of the one that computed it. */
  run: string;
  revision: number;
  rule: { policy: string; n?: number; epsilon?: string };
  /** By the number of the attempt; empty where votes are not weighed. */
  weights: ReadonlyMap<number, Weight>;
}

/** A decimal fraction of the receipt in parts per billion, without the rounding that floating point would add. */
export function ppb(fraction: string): number | null {
  const found = /^([01])(?:\.(\d{1,9}))?$/.exec(fraction);
  if (found === null) return null;
  return Number(found[1]) * 1_000_000_000 + Number((found[2] ?? "").padEnd(9, "0"));
}

function weightOf(vote: ReceiptVote): Weight | null {
  const credibility = vote.credibility === undefined ? null : ppb(vote.credibility);
  if (credibility === null || vote.confirmations_milli === undefined) return null;
  return {
    errorPpb: 1_000_000_000 - credibility,
    confirmations: vote.confirmations_milli / 1_000,
    faultDomain: vote.fault_domain ?? null,
    isArbiter: vote.arbiter === true,
  };
}

/** What the payload of a receipt says; throws if it is none. */
export function certificateOf(payload: string): Certificate {
  const statement = JSON.parse(new TextDecoder().decode(fromBase64(payload))) as {
    predicate: { run: string; revision: number; rule: Certificate["rule"]; votes: ReceiptVote[]; dissents: ReceiptVote[] };
  };
  const { run, revision, rule, votes, dissents } = statement.predicate;
  const weights = new Map<number, Weight>();
  for (const vote of [...votes, ...dissents]) {
    const weight = weightOf(vote);
    if (weight !== null) weights.set(vote.attempt, weight);
  }
  return { run, revision, rule, weights };
}
