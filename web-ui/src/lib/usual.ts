// How a run is verified that asks for nothing: its module's word goes first, then its workspace's, then the server's.

import type { Run } from "../api/types";

export type Verify = Run["policy"]["verify"];

export interface Usual {
  verify: Verify;
  /** Whose word it is. */
  says: "its module" | "its workspace" | "this server";
}

export function usualOf(module: Verify | null | undefined, workspace: Verify | null | undefined, server: Verify | null | undefined): Usual | null {
  if (module != null) return { verify: module, says: "its module" };
  if (workspace != null) return { verify: workspace, says: "its workspace" };
  return server == null ? null : { verify: server, says: "this server" };
}

/** Policies that can be settled for many runs, as a list has them. */
export const SETTLED: { name: string; words: string; verify: Verify }[] = [
  { name: "standard", words: "standard: an error of at most 0.001", verify: { policy: "standard" } },
  { name: "high", words: "high: an error of at most 0.000001", verify: { policy: "high" } },
  { name: "quorum:2", words: "quorum of 2", verify: { policy: "quorum", n: 2 } },
  { name: "quorum:3", words: "quorum of 3", verify: { policy: "quorum", n: 3 } },
  { name: "quorum:5", words: "quorum of 5", verify: { policy: "quorum", n: 5 } },
  { name: "once", words: "once, unchecked", verify: { policy: "once" } },
];

/** The name of a policy, as the command line writes it; empty for none. */
export function policyName(verify: Verify | null | undefined): string {
  if (verify == null) return "";
  return verify.policy === "quorum" ? `quorum:${verify.n ?? 2}` : verify.policy;
}
