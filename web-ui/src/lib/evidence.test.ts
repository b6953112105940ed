import { expect, it } from "vitest";
import { countWords, seenOnce } from "./evidence";

const seen = (number: number, kind: string, run: string | null, attempt: number | null, result: string | null = null) => ({
  number,
  at: "2026-01-01T00:00:00Z",
  kind,
  count: 1,
  run,
  attempt,
  result,
});

it("tells a dissent once, with what was voted for", () => {
  const log = [
    seen(5, "lone_dissent", "r2", 1),
    seen(4, "dissented", "r2", 1, "sha256:bb"),
    seen(3, "dissented", "r1", 2, "sha256:aa"),
    seen(2, "confirmed", "r0", 1),
    seen(1, "readmitted", null, null),
  ];
  const shown = seenOnce(log);
  expect(shown.map(({ number }) => number)).toEqual([5, 3, 2, 1]);
  expect(shown[0]).toMatchObject({ kind: "lone_dissent", result: "sha256:bb" });
  // one that was not judged, for instance of a quorum whose module is not deterministic
  expect(shown[1]).toMatchObject({ kind: "dissented", result: "sha256:aa" });
});

it("counts a dissent once", () => {
  expect(countWords({ dissented: 2, lone_dissent: 1, collusion: 1 })).toBe("1 × lone dissent, 1 × collusion");
  expect(countWords({ confirmed: 1_200, dissented: 3, lone_dissent: 1 })).toBe("1,200 × confirmed, 2 × dissented, 1 × lone dissent");
  // old entries go one by one, so there may be more judgements than dissents
  expect(countWords({ dissented: 1, lone_dissent: 2 })).toBe("2 × lone dissent");
});
