// Types of the API that the generated document of this branch does not have yet. Goes when it has them.

import type { components } from "./schema";

type Schemas = components["schemas"];

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

interface Classes {
  class_parts?: ClassInputs | null;
  portable_class?: string | null;
  portable_peers?: number;
}

export type Profile = "det-1" | "det-1-portable";
export type Worker = Schemas["Worker"] & Classes;

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
  };
export type RunSummary = Schemas["RunSummary"] & Answered;
export type RunRequest = Omit<Schemas["RunRequest"], "cache" | "profile"> & {
  profile?: Profile;
  cache?: CacheUse;
  callback?: CallbackRequest;
};

type Evidence = Omit<Schemas["EvidenceItem"], "run" | "attempt"> & { run: string | null; attempt: number | null };

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

export interface Workspace {
  name: string;
  verify: Schemas["VerifyRequest"] | null;
}
