// Names for the generated types. The console reads what the API says and computes no state and no verdict of its own.

import type { components } from "./schema";

type Schemas = components["schemas"];

export type Arbitration = Schemas["Arbitration"];
export type Attempt = Schemas["Attempt"];
export type BulkItem = Schemas["BulkItem"];
export type CacheUse = Schemas["CacheUse"];
export type CacheView = Schemas["CacheView"];
export type CallbackDelivery = Schemas["CallbackDelivery"];
export type ClassInputs = Schemas["ClassInputs"];
export type Comparison = Schemas["Comparison"];
export type Explanation = Schemas["Explanation"];
export type Fault = Schemas["Fault"];
export type Info = Schemas["Info"];
export type InputBytes = Schemas["InputBytes"];
export type InputFile = Schemas["InputFile"];
export type LimitsView = Schemas["LimitsView"];
export type LiveOutput = Schemas["LiveOutput"];
export type NewToken = Schemas["NewToken"];
export type Outcome = Schemas["Outcome"];
export type Output = Schemas["Output"];
export type Outvoted = Schemas["Outvoted"];
export type OutputFile = Schemas["OutputFile"];
export type Profile = Schemas["Profile"];
export type Problem = Schemas["Problem"];
export type Repair = Schemas["Repair"];
export type Revision = Schemas["Revision"];
export type Run = Schemas["Run"];
export type RunRequest = Schemas["RunRequest"];
export type RunState = Schemas["RunState"];
export type RunSummary = Schemas["RunSummary"];
export type Scope = Schemas["Scope"];
export type Series = Schemas["Series"];
export type Side = Schemas["Side"];
export type Stats = Schemas["PoolStats"];
export type StreamName = Schemas["StreamName"];
export type Token = Schemas["Token"];
export type TokenRequest = Schemas["TokenRequest"];
export type Verdict = Schemas["RunVerdict"];
export type WithdrawRequest = Schemas["WithdrawRequest"];
export type Withdrawn = Schemas["Withdrawn"];
export type Verification = Schemas["Verification"];
export type Worker = Schemas["Worker"];
export type WorkerDetail = Schemas["WorkerDetail"];
export type Workspace = Schemas["Workspace"];

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
