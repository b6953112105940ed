// The same run as commands to copy: for curl and for the command line of Lockstep.

import type { RunRequest } from "../api/types";

/** A word as a POSIX shell reads it back. */
export function shellWord(text: string): string {
  if (text !== "" && /^[A-Za-z0-9_@%+=:,./-]+$/.test(text)) return text;
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function curlCommand(origin: string, request: RunRequest): string {
  const body = JSON.stringify(request, null, 2);
  return [
    `curl -sS ${shellWord(`${origin}/v1/runs`)} \\`,
    `  -H "Authorization: Bearer $LOCKSTEP_TOKEN" \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d ${shellWord(body)}`,
  ].join("\n");
}

export interface LocalNames {
  /** Name of the local file that was chosen as standard input. */
  stdin?: string | undefined;
  /** Local name by path in the guest. */
  files: Record<string, string>;
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1) || "file";
}

/** Options of one group, in the order in which the command's help has them. */
function inputOptions(request: RunRequest, names: LocalNames): string[] {
  const options: string[] = [];
  if (request.entry) options.push(`--entry ${shellWord(request.entry)}`);
  for (const [name, value] of Object.entries(request.env ?? {})) options.push(`--env ${shellWord(`${name}=${value}`)}`);
  for (const [path, input] of Object.entries(request.files ?? {})) {
    const flag = "tree" in input ? "--dir" : "--file";
    options.push(`${flag} ${shellWord(`${path}=${names.files[path] ?? `./${baseName(path)}`}`)}`);
  }
  if (request.stdin && !("text" in request.stdin)) options.push(`--stdin ${shellWord(names.stdin ?? "./stdin")}`);
  if (request.clock) options.push(`--clock ${shellWord(request.clock)}`);
  if (request.seed) options.push(`--seed ${request.seed}`);
  return options;
}

function policyOptions(request: RunRequest): string[] {
  const options: string[] = [];
  const { limits, verify, placement } = request;
  if (limits?.memory_bytes) options.push(`--memory ${sizeWord(limits.memory_bytes)}`);
  if (limits?.fuel) options.push(`--fuel ${limits.fuel}`);
  if (limits?.output_bytes) options.push(`--output-limit ${sizeWord(limits.output_bytes)}`);
  if (limits?.file_bytes) options.push(`--file-limit ${sizeWord(limits.file_bytes)}`);
  if (verify?.policy === "once") options.push("--once");
  if (verify?.policy === "quorum") options.push(`--quorum ${verify.n ?? 2}`);
  if (request.timeout_ms) options.push(`--timeout ${periodWord(request.timeout_ms)}`);
  if (request.deadline_ms) options.push(`--deadline ${periodWord(request.deadline_ms)}`);
  if (request.retry) options.push(`--retry ${request.retry}`);
  if (request.attempts_max) options.push(`--attempts-max ${request.attempts_max}`);
  for (const [name, value] of Object.entries(placement?.labels ?? {})) {
    options.push(`--label ${shellWord(`${name}=${value}`)}`);
  }
  if (request.priority) options.push(`--priority ${request.priority}`);
  return options;
}

/** The command line takes the first digits of a digest. */
function moduleWord(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 16);
}

function sizeWord(bytes: number): string {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]] as const) {
    if (bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return `${bytes}`;
}

function periodWord(ms: number): string {
  return ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`;
}

export function cliCommand(request: RunRequest, names: LocalNames = { files: {} }): string {
  const stdin = request.stdin && "text" in request.stdin ? request.stdin.text : "";
  const words = [
    `${stdin === "" ? "" : `printf %s ${shellWord(stdin)} | `}lockstep run ${shellWord(moduleWord(request.module ?? ""))}`,
    ...inputOptions(request, names),
    ...policyOptions(request),
  ];
  const args = request.args ?? [];
  if (args.length > 0) words.push(`-- ${args.map(shellWord).join(" ")}`);
  return words.join(" \\\n  ");
}
