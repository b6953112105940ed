// The public API as the console uses it. Names and meanings are those of `src/protocol/api`; the console reads what is
// here and computes no state and no verdict of its own.

export type RunState = "queued" | "running" | "succeeded" | "failed" | "canceled";

export type FailReason =
  | "exit_code"
  | "trap"
  | "out_of_fuel"
  | "output_limit"
  | "timed_out"
  | "crashed"
  | "poisoned"
  | "lost"
  | "no_quorum"
  | "expired"
  | "module_refused";

export type Outcome =
  | { kind: "exited"; code: number }
  | { kind: "returned"; values: string[] }
  | { kind: "responded"; status: number }
  | { kind: "trapped"; trap: string }
  | { kind: "out_of_fuel" }
  | { kind: "output_limit" };

export type Fault =
  | { kind: "crashed"; signal: number | null; detail: string }
  | { kind: "timed_out" }
  | { kind: "lost" }
  | { kind: "refused"; detail: string }
  | { kind: "corrupt"; detail: string }
  | { kind: "drained" };

export type VerdictKind = "pending" | "agreed" | "vouched" | "unchecked" | "disputed" | "nondeterministic";

export interface Verdict {
  kind: VerdictKind;
  votes: number;
  dissenters: string[];
}

/** Bytes that a run gave out: inline when they are few, always by digest. */
export interface Output {
  digest: string;
  size: number;
  text?: string;
  base64?: string;
}

export interface OutputFile {
  path: string;
  digest: string;
  size: number;
}

export type AttemptState = "assigned" | "begun" | "voted" | "faulted" | "canceled";

export interface Attempt {
  id: string;
  number: number;
  worker: string;
  state: AttemptState;
  result: string | null;
  won: boolean | null;
  fault: Fault | null;
  assigned_at: string;
  started_at: string | null;
  ended_at: string | null;
  cpu_ms: number;
}

export interface Explanation {
  at: string;
  text: string;
}

export interface Limits {
  memory_bytes: number;
  output_bytes: number;
  file_bytes: number;
  file_count: number;
  fuel: number | null;
}

export interface Verify {
  policy: "once" | "quorum" | "standard" | "high";
  n?: number;
}

export interface RunSummary {
  id: string;
  state: RunState;
  reason: FailReason | null;
  module: string;
  entry: string;
  run_key: string;
  revision: number;
  outcome: Outcome | null;
  verdict: Verdict;
  result: string | null;
  cached: boolean;
  attempt_count: number;
  rerun_of: string | null;
  created_at: string;
  finished_at: string | null;
}

export interface Run extends Omit<RunSummary, "attempt_count" | "entry"> {
  stdout: Output | null;
  stderr: Output | null;
  files: OutputFile[];
  fuel_used: number | null;
  attempts: Attempt[];
  explain: Explanation[];
  spec: {
    entry: string;
    args: string[];
    env: Record<string, string>;
    stdin: string;
    files: Record<string, unknown>;
    profile: string;
    clock: string;
    seed: number;
    limits: Limits;
  };
  policy: {
    verify: Verify;
    retry: "reassign" | "never";
    attempts_max: number;
    timeout_ms: number;
    deadline_ms: number | null;
    priority: number;
    durable: boolean;
  };
}

/** What a run is submitted with; everything but the module has a default. */
export interface RunRequest {
  module: string;
  entry?: string;
  args?: string[];
  env?: Record<string, string>;
  stdin?: { text: string };
  verify?: Verify;
  timeout_ms?: number;
}

export type ModuleState = "analysed" | "compiling" | "ready" | "refused";

export interface ModuleItem {
  name: string;
  signature: string;
  module?: string;
}

export interface Analysis {
  kind: string;
  wasi: string;
  verifiable: boolean;
  notes: string[];
  functions?: number;
  imports: ModuleItem[];
  exports: (ModuleItem & { function?: { params: string[]; results: string[] } | null })[];
  memories?: { min: number; max: number | null }[];
  features?: string[];
}

export interface Module {
  digest: string;
  size: number;
  name: string | null;
  state: ModuleState;
  analysis: Analysis | null;
  refusal: { code: string; text: string } | null;
  quarantined: string | null;
  created_at: string;
}

export interface Worker {
  id: string;
  name: string;
  standing: "active" | "draining" | "lost" | "quarantined";
  why: string | null;
  domain: string;
  class: string;
  labels: Record<string, string>;
  slots: number;
  credits: number;
  holds: string[];
  memory_bytes: number;
  memory_leased_bytes: number;
  votes: number;
  dissents: number;
  faults: number;
  created_at: string;
  heard_at: string;
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

export interface Info {
  version: string;
  workspace: string;
  scopes: string[];
}

/** Problem details (RFC 9457). */
export interface Problem {
  title: string;
  status: number;
  code: string;
  detail: string;
  pointer?: string;
  request_id?: string;
}
