import { expect, it } from "vitest";
import { decisionOf, lineKind, linePieces } from "./explain";

// Lines as `crates/core/src/explain/words.rs` writes them.
const WEIGHED = "the votes leave an error of 0.00025, and 0.001 is allowed";
const ARBITRATED = "the votes differed: arbiters, who are trusted, executed it 2 times and named 9ab012cd each time, and that decides, whatever the votes weigh";
const VOUCHED =
  "9ab012cd is vouched for by w3 alone: 213 confirmations make an error of 0.00046, and 0.001 is allowed; the lottery, which asks a second voter 6.10 times in a hundred, drew none";

it("finds the figures of the last decision by weight", () => {
  const lines = (...texts: string[]) => texts.map((text) => ({ text }));
  expect(decisionOf(lines("attempt 1 goes to w1, drawn by lot", WEIGHED, "accepted: it exited with code 0"))).toEqual({
    executions: null,
    left: "0.00025",
    allowed: "0.001",
    alone: null,
  });
  expect(decisionOf(lines(VOUCHED))).toEqual({ executions: null, left: "0.00046", allowed: "0.001", alone: { worker: "w3", confirmations: "213" } });
  const confirmed = "confirmed by the word of an arbiter, who is trusted: it executed it and named 9ab012cd as before, whatever the votes weigh";
  expect(decisionOf(lines(WEIGHED, confirmed))).toEqual({ executions: "1" });
  const arbiter = "9ab012cd is vouched for by w5 alone, an arbiter: that leaves an error of 0.0001, and 0.001 is allowed";
  expect(lineKind(arbiter)).toBe("verdict");
  expect(decisionOf(lines(arbiter))).toEqual({ executions: null, left: "0.0001", allowed: "0.001", alone: { worker: "w5", confirmations: null } });
  // as coordinators of before wrote it
  expect(decisionOf(lines("the votes leave an error of 1.20 %, and 1.0e-3 is allowed"))).toMatchObject({ left: "0.012", allowed: "0.001" });
  expect(decisionOf(lines("one more voter is asked: the error would be 0.02, and 0.001 is allowed", ARBITRATED))).toEqual({ executions: "2" });
  expect(decisionOf(lines("agreed: all 2 votes named 9ab012cd"))).toBeNull();
});

it("takes workers and results out of a line and loses no word", () => {
  const pieces = linePieces("agreed: 2 votes named 9ab012cd, w3, w12 did not");
  expect(pieces.map(({ text }) => text).join("")).toBe("agreed: 2 votes named 9ab012cd, w3, w12 did not");
  expect(pieces.filter(({ worker }) => worker !== undefined).map(({ worker }) => worker)).toEqual(["w3", "w12"]);
  expect(pieces.filter(({ isDigest }) => isDigest).map(({ text }) => text)).toEqual(["9ab012cd"]);
  const run = "01a2290d-cb5b-72be-ab53-e83f87b8b07b";
  expect(linePieces(`answered from the cache: run ${run} computed it`).filter((piece) => piece.run !== undefined)).toEqual([{ text: run, run }]);
  // a word of hexadecimal letters is a word
  expect(linePieces("defaced")).toEqual([{ text: "defaced" }]);
});

it("tells verdicts, faults and doubts from steps", () => {
  expect([WEIGHED, VOUCHED, ARBITRATED, "corrected: this is revision 2", "failed (no quorum): …"].map(lineKind)).toEqual(Array(5).fill("verdict"));
  expect(lineKind("attempt 2 on w1 ended: runner killed by signal 9")).toBe("fault");
  expect(lineKind("the rerun avoids w1; it waits up to 5000 ms for another worker")).toBe("step");
  expect(lineKind("an arbiter is asked: the votes differ")).toBe("doubt");
  expect(lineKind("w2 alone named another result: it loses its confirmations and is suspect")).toBe("doubt");
  expect(lineKind("attempt 1 goes to w1, drawn by lot")).toBe("step");
});
