import { expect, it } from "vitest";
import type { Revision, Run } from "../api/types";
import { decidedBy, stoodFor, verificationWords, whatChanged } from "./revision";

const output = (digest: string) => ({ digest, size: 1 });
const run = (change: Partial<Run> = {}): Run =>
  ({
    state: "succeeded",
    outcome: { kind: "exited", code: 0 },
    stdout: output("sha256:a"),
    stderr: output("sha256:b"),
    files: [],
    fuel_used: null,
    ...change,
  }) as unknown as Run;

it("says in what two revisions differ", () => {
  expect(whatChanged(run(), run())).toEqual([]);
  expect(whatChanged(run(), run({ stdout: output("sha256:c") }))).toEqual(["standard output"]);
  const trapped = run({ state: "failed", outcome: { kind: "trapped", trap: "unreachable" }, stderr: output("sha256:d") });
  expect(whatChanged(run(), trapped)).toEqual(["how it ended", "standard error"]);
  expect(whatChanged(run({ fuel_used: 1 }), run({ fuel_used: 2 }))).toEqual(["the fuel that it used"]);
});

it("names files that changed, came and went, and counts many", () => {
  const file = (path: string, digest: string) => ({ path, digest, size: 1 });
  const before = run({ files: [file("/out/a", "1"), file("/out/b", "2")] });
  const after = run({ files: [file("/out/a", "9"), file("/out/c", "3")] });
  expect(whatChanged(before, after)).toEqual(["/out/a", "/out/c", "/out/b"]);
  const many = run({ files: Array.from({ length: 9 }, (_, index) => file(`/out/${index}`, "4")) });
  expect(whatChanged(run(), many).at(-1)).toBe("6 more files");
});

it("tells how long a revision was the answer", () => {
  const revisions = [
    { revision: 1, decided_at: "2026-01-01T00:00:00Z" },
    { revision: 2, decided_at: "2026-01-02T00:00:00Z" },
  ] as Revision[];
  expect(stoodFor(revisions, 1)).toEqual({ from: "2026-01-01T00:00:00Z", until: "2026-01-02T00:00:00Z" });
  expect(stoodFor(revisions, 2).until).toBeNull();
});

it("has words for every conclusion but a correction, which its revision says", () => {
  const of = (conclusion: "confirmed" | "undecided" | "not_verifiable" | "nondeterministic" | "corrected") =>
    verificationWords({ reverified_at: "2026-01-01T00:00:00Z", conclusion });
  expect(of("confirmed")?.tone).toBe("good");
  expect(of("undecided")?.tone).toBe("warn");
  expect(of("nondeterministic")?.tone).toBe("bad");
  expect(of("corrected")).toBeNull();
});

it("ascribes a decision to a verification only where that decided", () => {
  const by = (policy: string, conclusion: string | null, revision = 1) =>
    decidedBy({ revision, policy: { verify: { policy } }, verification: conclusion === null ? null : { conclusion } } as Parameters<typeof decidedBy>[0]);
  expect(by("high", null)).toEqual({ anew: false, allowedBy: "high" });
  for (const conclusion of ["undecided", "not_verifiable", "nondeterministic"]) expect(by("high", conclusion)).toEqual({ anew: false, allowedBy: "high" });
  expect(by("quorum", "confirmed")).toEqual({ anew: true, allowedBy: "standard" });
  expect(by("high", "confirmed")).toEqual({ anew: true, allowedBy: "high" });
  expect(by("quorum", null, 2)).toEqual({ anew: false, allowedBy: "verified anew" });
  expect(by("standard", "undecided", 2)).toEqual({ anew: false, allowedBy: "verified anew" });
});
