// What became of a final that was verified anew, in words.

import type { Output, Revision, Run, Verification } from "../api/types";
import type { Tone } from "./status";

type Result = Pick<Run, "state" | "outcome" | "stdout" | "stderr" | "files" | "fuel_used">;

const JSON_OF = (value: unknown) => JSON.stringify(value);

function isSame(one: Output | null, other: Output | null): boolean {
  return one?.digest === other?.digest;
}

/** In what two revisions of a run differ. */
export function whatChanged(before: Result, after: Result): string[] {
  const found: string[] = [];
  if (before.state !== after.state || JSON_OF(before.outcome) !== JSON_OF(after.outcome)) found.push("how it ended");
  if (!isSame(before.stdout, after.stdout)) found.push("standard output");
  if (!isSame(before.stderr, after.stderr)) found.push("standard error");
  const files = new Map(before.files.map((file) => [file.path, file.digest]));
  const changed = after.files.filter((file) => files.get(file.path) !== file.digest).map((file) => file.path);
  const gone = before.files.filter((file) => !after.files.some((one) => one.path === file.path)).map((file) => file.path);
  const paths = [...changed, ...gone];
  const SHOWN_MAX = 3;
  found.push(...paths.slice(0, SHOWN_MAX));
  if (paths.length > SHOWN_MAX) found.push(`${paths.length - SHOWN_MAX} more files`);
  if (found.length === 0 && before.fuel_used !== after.fuel_used) found.push("the fuel that it used");
  return found;
}

/** When a revision was the answer: from its decision until the next one replaced it; null while it still is. */
export function stoodFor(revisions: Revision[], revision: number): { from: string | null; until: string | null } {
  const at = (number: number) => revisions.find((one) => one.revision === number)?.decided_at ?? null;
  return { from: at(revision), until: at(revision + 1) };
}

interface Said {
  tone: Tone;
  title: string;
  text: string;
}

/** Whether the votes that decided are those of a verification, and what allowed the error that they leave. */
export function decidedBy(run: Pick<Run, "revision"> & { policy: { verify: { policy: string } }; verification: Pick<Verification, "conclusion"> | null }): {
  anew: boolean;
  allowedBy: string;
} {
  // any other conclusion left the decision of before as it was
  const anew = run.verification?.conclusion === "confirmed";
  const { policy } = run.policy.verify;
  if (run.revision > 1) return { anew, allowedBy: "verified anew" };
  return { anew, allowedBy: anew && policy !== "high" ? "standard" : policy };
}

/** What verifying a final anew came to. A correction is said by its revision, so it is not here. */
export function verificationWords({ conclusion }: Verification): Said | null {
  const why = "A worker on whom this result rested is not trusted any more";
  switch (conclusion) {
    case "confirmed":
      return { tone: "good", title: "Verified anew and confirmed", text: `${why}. Trusted voters computed it again and found the same.` };
    case "undecided":
      return { tone: "warn", title: "Verified anew, without a conclusion so far", text: `${why}, and nobody could tell yet whether it is right. It is tried again once a day.` };
    case "not_verifiable":
      return { tone: "warn", title: "It cannot be verified anew", text: `${why}, and its module or an input is not kept any more.` };
    case "nondeterministic":
      return { tone: "bad", title: "Trusted executions of it differ", text: `${why}. Computed again it gave different results even where it is trusted: its module is not deterministic.` };
    case "corrected":
      return null;
  }
}
