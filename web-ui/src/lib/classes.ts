// Equivalence classes of workers, in words: what a class is made of, and whether anybody else is in it.

import type { ClassInputs, Worker } from "../api/types";
import { count } from "./format";

export interface Peers {
  word: string;
  /** Whether nothing can be compared. */
  isAlone: boolean;
}

/** How many others there are to compare with under a profile. */
export function peersOf(peers: number): Peers {
  return peers === 0 ? { word: "no peer", isAlone: true } : { word: count(peers, "peer"), isAlone: false };
}

/** The same in a sentence. */
export function peerSentence(peers: number): string {
  return peers === 0
    ? "no other active worker has it, so its votes have nothing to be compared with"
    : `shared with ${count(peers, "other active worker")}; only votes of one class are compared`;
}

/** Whether somebody should look: an active worker whose votes nobody can compare, under any profile. */
export function isStranded({ standing, peers, portable_peers: portable = 0 }: Pick<Worker, "standing" | "peers" | "portable_peers">): boolean {
  return standing === "active" && peers === 0 && portable === 0;
}

/** What a class is made of, part by part. */
export function partsOf(inputs: ClassInputs): { name: string; value: string; isDigest: boolean }[] {
  const part = (name: string, value: string | undefined, isDigest = false) => (value === undefined ? [] : [{ name, value, isDigest }]);
  return [
    ...part("Build", inputs.build),
    ...part("Engine", inputs.engine),
    ...part("Switches", inputs.policy),
    ...part("Target", inputs.target),
    ...part("CPU features", inputs.cpu?.map((flag) => flag.replace(/^has_/, "")).join(" ")),
    ...part("Golden corpus", inputs.corpus, true),
  ];
}
