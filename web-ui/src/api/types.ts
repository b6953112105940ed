// Names for the generated types. The console reads what the API says and computes no state and no verdict of its own.

import type { components } from "./schema";

type Schemas = components["schemas"];

export type Attempt = Schemas["Attempt"];
export type Explanation = Schemas["Explanation"];
export type Fault = Schemas["Fault"];
export type InputBytes = Schemas["InputBytes"];
export type InputFile = Schemas["InputFile"];
export type LimitsView = Schemas["LimitsView"];
export type LiveOutput = Schemas["LiveOutput"];
export type NewToken = Schemas["NewToken"];
export type Outcome = Schemas["Outcome"];
export type Output = Schemas["Output"];
export type OutputFile = Schemas["OutputFile"];
export type Problem = Schemas["Problem"];
export type Run = Schemas["Run"];
export type RunRequest = Schemas["RunRequest"];
export type RunState = Schemas["RunState"];
export type RunSummary = Schemas["RunSummary"];
export type Scope = Schemas["Scope"];
export type StreamName = Schemas["StreamName"];
export type Token = Schemas["Token"];
export type TokenRequest = Schemas["TokenRequest"];
export type Verdict = Schemas["RunVerdict"];
export type Worker = Schemas["Worker"];

export interface Page<T> {
  items: T[];
  next: string | null;
}

/** The analysis of a module as `src/sandbox/analysis.rs` writes it; the document leaves it open. */
export interface Analysis {
  kind: string;
  wasi: string;
  verifiable: boolean;
  notes: string[];
  name?: string | null;
  functions?: number;
  imports: { module: string; name: string; signature: string }[];
  exports: { name: string; signature: string; function?: { params: string[]; results: string[] } | null }[];
  memories?: { min: number; max: number | null }[];
  features?: string[];
  /** Of a component, once there are any: its world as text. */
  wit?: string | null;
}

export type Module = Omit<Schemas["Module"], "analysis"> & { analysis: Analysis | null };

// --- until the server's document has them ---
export interface Stats {
  at: string;
  workers: { active: number; draining: number; lost: number; quarantined: number };
  slots: { total: number; busy: number };
  queue: { queued: number; running: number };
  runs_per_second: number;
  last_hour: Tally & { since: string };
  storage: {
    runs: number;
    runs_open: number;
    modules: number;
    blobs: number;
    bytes: number;
    retention: Retention & {
      oldest_finished_at: string | null;
      would_free_runs: number;
      would_free_runs_in_a_day: number;
      would_free_bytes: number;
    };
  };
}

export interface Retention {
  age_ms: number;
  runs_max: number;
  upload_keep_ms: number;
  evidence_max: number;
  evidence_age_ms: number;
}

export interface Tally {
  submitted: number;
  finished: number;
  succeeded: number;
  failed: number;
  canceled: number;
  faults: number;
  reruns: number;
  dissents: number;
  verdicts: Record<Verdict["kind"], number>;
}

export type Bucket = Tally & { at: string };

export interface Series {
  since: string;
  bucket_ms: number;
  buckets: Bucket[];
}

export interface BulkItem {
  id: string;
  ok: boolean;
  run?: RunSummary;
  problem?: Problem;
}

export interface Side {
  attempt: number;
  worker: string;
  result: string;
  outcome: Outcome;
  digest: string | null;
  size: number;
  window: { offset: number; base64: string } | null;
}

export interface Comparison {
  run: string;
  stream: string;
  equal: boolean;
  first_difference: number | null;
  left: Side;
  right: Side;
  differing: string[];
  differing_more: boolean;
}

export interface EvidenceItem {
  number: number;
  kind: string;
  run: string;
  attempt: number;
  result: string | null;
  class: string;
  at: string;
}

export type WorkerDetail = Worker & {
  heard_ago_ms: number;
  current: { run: string; number: number; since: string; started_at: string | null; cpu_ms: number }[];
  evidence: { counts: Record<string, number>; recent: EvidenceItem[] };
};

export type Info = Schemas["Info"] & {
  server: {
    engine: string;
    class: string;
    profiles: string[];
    listen: string;
    tls: boolean;
    started_at: string;
    uptime_ms: number;
  };
  bounds: {
    module_bytes_max: number;
    blob_bytes_max: number;
    json_bytes_max: number;
    runs_max: number;
    runs_per_workspace_max: number;
    bulk_runs_max: number;
  };
  retention: Retention;
};
