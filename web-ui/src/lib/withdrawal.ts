// Which cached results are withdrawn, as a form has it.

import type { WithdrawRequest } from "../api/types";

export type WithdrawalKind = "module" | "worker" | "class" | "run" | "after" | "all";

export const WITHDRAWALS: { kind: WithdrawalKind; words: string; example: string }[] = [
  { kind: "module", words: "of a module", example: "" },
  { kind: "worker", words: "that a worker voted for", example: "w2" },
  { kind: "class", words: "of a class of workers", example: "sha256:…" },
  { kind: "run", words: "that a run computed", example: "id of the run" },
  { kind: "after", words: "computed since", example: "" },
  { kind: "all", words: "all of them", example: "" },
];

/** The request; null while it does not name what it needs. */
export function withdrawalOf(kind: WithdrawalKind, text: string): WithdrawRequest | null {
  const value = text.trim();
  if (kind === "all") return { all: true };
  if (value === "") return null;
  if (kind !== "after") return { [kind]: value };
  const time = Date.parse(value);
  return Number.isNaN(time) ? null : { after: new Date(time).toISOString() };
}
