import { expect, it } from "vitest";
import { isStranded, partsOf, peerSentence, peersOf } from "./classes";

it("says whether there is anybody to compare with", () => {
  expect(peersOf(0)).toEqual({ word: "no peer", isAlone: true });
  expect(peersOf(2)).toEqual({ word: "2 peers", isAlone: false });
  expect(peerSentence(0)).toContain("nothing to be compared with");
  expect(peerSentence(1)).toContain("1 other active worker");
});

it("warns only of a worker that no profile can compare", () => {
  expect(isStranded({ standing: "active", peers: 0, portable_peers: 0 })).toBe(true);
  expect(isStranded({ standing: "active", peers: 0, portable_peers: 3 })).toBe(false);
  expect(isStranded({ standing: "gone", peers: 0, portable_peers: 0 })).toBe(false);
});

it("takes a class apart, without what a portable one does not depend on", () => {
  const portable = { build: "0.1.0", engine: "48.0.8", policy: "det-1-portable.0", corpus: "sha256:ab" };
  expect(partsOf(portable).map(({ name }) => name)).toEqual(["Build", "Engine", "Switches", "Golden corpus"]);
  const native = { ...portable, target: "x86_64-unknown-linux-gnu", cpu: ["has_sse3", "has_avx2"], engines: [] };
  expect(partsOf(native).find(({ name }) => name === "CPU features")?.value).toBe("sse3 avx2");
});
