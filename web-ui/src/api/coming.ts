// Types of the API that the generated document of this branch does not have yet. Goes when it has them.

import type { components } from "./schema";

type Schemas = components["schemas"];

export interface Verification {
  reverified_at: string;
  conclusion: "confirmed" | "corrected" | "undecided" | "nondeterministic" | "not_verifiable";
}

export interface Revision {
  revision: number;
  state: Schemas["RunState"];
  reason: Schemas["FailReason"] | null;
  outcome: Schemas["Outcome"] | null;
  verdict: Schemas["RunVerdict"];
  result: string | null;
  decided_at: string | null;
  verification: Verification | null;
}

export interface Repair {
  worker: string;
  since: string;
  why: string;
  state: "looking" | "verifying" | "done" | "lifted";
  finals: number;
  found: number;
  decisive: number;
  pending: number;
  confirmed: number;
  corrected: number;
  undecided: number;
  not_verifiable: number;
}

export interface Correction {
  id: string;
  revision: number;
}

export interface CallbackRequest {
  url: string;
}

export interface CallbackDelivery {
  id: string;
  event: "run.final" | "run.corrected";
  revision: number;
  url: string;
  state: "pending" | "delivered" | "given_up";
  tries: number;
  created_at: string;
  last_at: string | null;
  last_status: number | null;
  last_error: string | null;
  next_at: string | null;
}

export interface CacheView {
  entries: number;
  bytes: number;
  hits: number;
  misses: number;
  withdrawn: number;
  entries_max: number;
  bytes_max: number;
  age_ms: number;
}

export interface WithdrawRequest {
  all?: boolean;
  run?: string;
  worker?: string;
  class?: string;
  module?: string;
  after?: string;
  before?: string;
}

export interface Withdrawn {
  withdrawn: number;
}

export interface ClassInputs {
  build: string;
  engine: string;
  policy: string;
  corpus: string;
  target?: string;
  cpu?: string[];
  engines?: string[];
}

export type CacheUse = "use" | "refresh" | "off";

interface Answered {
  cached_from?: string | null;
  shared_with?: string | null;
}

type Policy = Schemas["PolicyView"] & { cache?: CacheUse; callback?: CallbackRequest | null };

export type Run = Omit<Schemas["Run"], "policy" | "spec"> &
  Answered & {
    policy: Policy;
    spec: Omit<Schemas["SpecView"], "profile"> & { profile: Profile };
    corrected_at?: string | null;
    verification?: Verification | null;
  };
export type RunSummary = Schemas["RunSummary"] & Answered;
export type Profile = "det-1" | "det-1-portable";
export type RunRequest = Omit<Schemas["RunRequest"], "cache" | "profile"> & {
  cache?: CacheUse;
  callback?: CallbackRequest;
  profile?: Profile;
};

interface Classes {
  class_parts?: ClassInputs | null;
  portable_class?: string | null;
  portable_peers?: number;
}

type Evidence = Omit<Schemas["EvidenceItem"], "run" | "attempt"> & { run: string | null; attempt: number | null };

export type Worker = Schemas["Worker"] & Classes;
export type WorkerDetail = Schemas["WorkerDetail"] & Classes & { evidence: { counts: Record<string, number>; recent: Evidence[] } };
export type Module = Schemas["Module"] & { nondeterministic?: { run: string; at: string } | null };

export interface Arbitration {
  executions: number;
  agreed_with: number[];
  results: string[];
}

export interface Outvoted {
  attempt: number;
  worker: string;
  result: string;
  blamed: boolean;
  why: string;
}

export type Comparison = Schemas["Comparison"] & { arbitration?: Arbitration | null; rule?: string; outvoted?: Outvoted[] };
