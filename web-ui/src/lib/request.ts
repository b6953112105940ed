// The run form and the request that it stands for. What is left empty is left to the server's defaults.

import type { CacheUse, InputFile, LimitsView, Module, Profile, Run, RunRequest } from "../api/types";
import { callbackProblem } from "./callback";
import { joinArguments, parseEnvironment, splitArguments } from "./format";

/** The digest of nothing: an empty standard input. */
export const EMPTY_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const MIB = 2 ** 20;

/** Defaults that the API document promises: they are not worth a line in a form or a command. */
const USUAL = { clock: "2026-01-01T00:00:00Z", seed: 0, attemptsMax: 3, timeoutSeconds: 30, priority: 0, profile: "det-1", cache: "use" } as const;

export interface Form {
  module: string;
  entry: string;
  /** Arguments of a command, as one line. */
  args: string;
  /** Arguments of a function, one for each parameter. */
  values: string[];
  env: string;
  stdin: "none" | "text" | "file" | "earlier";
  stdinText: string;
  /** Of the uploaded file, or of the earlier run's input. */
  stdinDigest: string | null;
  clock: string;
  seed: string;
  memoryMib: string;
  outputMib: string;
  fileMib: string;
  fuel: string;
  /** Empty: as the module says, or else the server. */
  verify: "" | "standard" | "high" | "once" | "quorum";
  quorum: number;
  retry: "" | "never";
  attemptsMax: string;
  labels: string;
  profile: "" | Profile;
  cache: "" | CacheUse;
  callback: string;
  timeoutSeconds: string;
  deadlineSeconds: string;
  priority: string;
  live: boolean;
}

export function emptyForm(): Form {
  return {
    module: "",
    entry: "",
    args: "",
    values: [],
    env: "",
    stdin: "none",
    stdinText: "",
    stdinDigest: null,
    clock: "",
    seed: "",
    memoryMib: "",
    outputMib: "",
    fileMib: "",
    fuel: "",
    verify: "",
    quorum: 2,
    retry: "",
    attemptsMax: "",
    labels: "",
    profile: "",
    cache: "",
    callback: "",
    timeoutSeconds: "",
    deadlineSeconds: "",
    priority: "",
    live: true,
  };
}

/** The form that would submit this run again. */
export function formOf(run: Run, defaults: LimitsView | null = null): Form {
  const { spec, policy } = run;
  const limit = (name: "memory_bytes" | "output_bytes" | "file_bytes") =>
    spec.limits[name] === defaults?.[name] ? "" : String(spec.limits[name] / MIB);
  const unless = <T>(value: T, usual: T) => (value === usual ? "" : String(value));
  const takesText = spec.entry === "_start";
  return {
    ...emptyForm(),
    module: run.module,
    entry: takesText ? "" : spec.entry,
    args: takesText ? joinArguments(spec.args) : "",
    values: takesText ? [] : [...spec.args],
    env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`).join("\n"),
    stdin: spec.stdin === EMPTY_DIGEST ? "none" : "earlier",
    stdinDigest: spec.stdin === EMPTY_DIGEST ? null : spec.stdin,
    clock: unless(spec.clock, USUAL.clock),
    seed: unless(spec.seed, USUAL.seed),
    memoryMib: limit("memory_bytes"),
    outputMib: limit("output_bytes"),
    fileMib: limit("file_bytes"),
    fuel: spec.limits.fuel === null ? "" : String(spec.limits.fuel),
    verify: policy.verify.policy,
    quorum: policy.verify.n ?? 2,
    retry: policy.retry === "never" ? "never" : "",
    attemptsMax: unless(policy.attempts_max, USUAL.attemptsMax),
    labels: Object.entries(policy.placement.labels ?? {}).map(([name, value]) => `${name}=${value}`).join("\n"),
    profile: spec.profile === USUAL.profile ? "" : spec.profile,
    cache: (policy.cache ?? USUAL.cache) === USUAL.cache ? "" : (policy.cache ?? ""),
    callback: policy.callback?.url ?? "",
    timeoutSeconds: unless(policy.timeout_ms / 1_000, USUAL.timeoutSeconds),
    deadlineSeconds: policy.deadline_ms === null ? "" : String(policy.deadline_ms / 1_000),
    priority: unless(policy.priority, USUAL.priority),
  };
}

function scaled(text: string, factor: number): number | undefined {
  return text.trim() === "" ? undefined : Math.round(Number(text) * factor);
}

/** Without the fields that were left empty. */
function given<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;
}

export function requestOf(form: Form, files: Record<string, InputFile>): RunRequest {
  const limits = given({
    memory_bytes: scaled(form.memoryMib, MIB),
    output_bytes: scaled(form.outputMib, MIB),
    file_bytes: scaled(form.fileMib, MIB),
    fuel: scaled(form.fuel, 1),
  });
  const labels = parseEnvironment(form.labels) ?? {};
  const env = parseEnvironment(form.env) ?? {};
  const args = form.entry === "" ? splitArguments(form.args) : form.values.map((value) => value.trim());
  return given({
    module: form.module,
    entry: form.entry === "" ? undefined : form.entry,
    args: args.length === 0 ? undefined : args,
    env: Object.keys(env).length === 0 ? undefined : env,
    stdin: stdinOf(form),
    files: Object.keys(files).length === 0 ? undefined : files,
    clock: form.clock.trim() === "" ? undefined : form.clock.trim(),
    seed: scaled(form.seed, 1),
    limits: Object.keys(limits).length === 0 ? undefined : limits,
    verify: verifyOf(form),
    retry: form.retry === "" ? undefined : form.retry,
    attempts_max: scaled(form.attemptsMax, 1),
    placement: Object.keys(labels).length === 0 ? undefined : { mode: "labels" as const, labels },
    timeout_ms: scaled(form.timeoutSeconds, 1_000),
    deadline_ms: scaled(form.deadlineSeconds, 1_000),
    priority: scaled(form.priority, 1),
    profile: form.profile === "" ? undefined : form.profile,
    cache: form.cache === "" ? undefined : form.cache,
    callback: form.callback.trim() === "" ? undefined : { url: form.callback.trim() },
    live: form.live ? true : undefined,
  }) as RunRequest;
}

function verifyOf({ verify, quorum }: Form): RunRequest["verify"] | undefined {
  if (verify === "") return undefined;
  return verify === "quorum" ? { policy: verify, n: quorum } : { policy: verify };
}

function stdinOf(form: Form): RunRequest["stdin"] | undefined {
  if (form.stdin === "text") return form.stdinText === "" ? undefined : { text: form.stdinText };
  if (form.stdin === "none" || form.stdinDigest === null) return undefined;
  return { digest: form.stdinDigest };
}

export interface Callable {
  name: string;
  signature: string;
  params: string[];
}

/** The functions that a run can name beside the program itself: those whose arguments are plain numbers. */
export function callables(module: Module | null): Callable[] {
  const NUMBERS = ["i32", "i64", "f32", "f64"];
  const found: Callable[] = [];
  for (const { name, signature, function: type } of module?.analysis?.exports ?? []) {
    if (name === "_start" || name === "_initialize" || type == null) continue;
    if ([...type.params, ...type.results].every((one) => NUMBERS.includes(one))) {
      found.push({ name, signature, params: type.params });
    }
  }
  return found;
}

/** Whether the module is a program with a `_start`. */
export function isCommand(module: Module | null): boolean {
  return module?.analysis?.exports.some(({ name }) => name === "_start") ?? true;
}

/** What is wrong with the form, in words; the server checks the rest. */
export function formProblems(form: Form): string[] {
  const problems: string[] = [];
  if (parseEnvironment(form.env) === null) problems.push("Each line of the environment must be NAME=VALUE.");
  if (parseEnvironment(form.labels) === null) problems.push("Each line of the labels must be NAME=VALUE.");
  const numbers: [string, string][] = [
    ["The seed", form.seed],
    ["The memory limit", form.memoryMib],
    ["The output limit", form.outputMib],
    ["The file limit", form.fileMib],
    ["The fuel", form.fuel],
    ["The number of attempts", form.attemptsMax],
    ["The timeout", form.timeoutSeconds],
    ["The deadline", form.deadlineSeconds],
    ["The priority", form.priority],
  ];
  for (const [name, text] of numbers) {
    if (text.trim() !== "" && !Number.isFinite(Number(text))) problems.push(`${name} must be a number.`);
  }
  const wrong = callbackProblem(form.callback);
  if (wrong !== null) problems.push(wrong);
  return problems;
}
