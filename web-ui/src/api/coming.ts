// Types of the API that the generated document of this branch does not have yet. Goes when it has them.

import type { components } from "./schema";

type Schemas = components["schemas"];

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

interface Answered {
  cached_from?: string | null;
  shared_with?: string | null;
}

export type Run = Omit<Schemas["Run"], "policy"> & Answered & { policy: Schemas["PolicyView"] & { cache?: Schemas["CacheUse"] } };
export type RunSummary = Schemas["RunSummary"] & Answered;

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

export type Comparison = Schemas["Comparison"] & { arbiter?: Arbitration | null; rule?: string; outvoted?: Outvoted[] };
