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
  /** Address of the server, where the command line would not find it by itself. */
  server?: string | undefined;
}

/** The address as the command line needs it: on the server's own machine it finds server and token by itself. */
export function serverOption(origin: string): string | undefined {
  const { hostname } = new URL(origin);
  return ["127.0.0.1", "localhost", "[::1]"].includes(hostname) ? undefined : origin;
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
  if (names.stdin !== undefined) options.push(`--stdin ${shellWord(names.stdin)}`);
  if (request.clock) options.push(`--clock ${shellWord(request.clock)}`);
  if (request.seed) options.push(`--seed ${request.seed}`);
  if (request.profile) options.push(`--profile ${request.profile}`);
  return options;
}

function policyOptions(request: RunRequest): string[] {
  const options: string[] = [];
  const { limits, verify, placement } = request;
  if (limits?.memory_bytes) options.push(`--memory ${sizeWord(limits.memory_bytes)}`);
  if (limits?.fuel) options.push(`--fuel ${limits.fuel}`);
  if (limits?.output_bytes) options.push(`--output-limit ${sizeWord(limits.output_bytes)}`);
  if (limits?.file_bytes) options.push(`--file-limit ${sizeWord(limits.file_bytes)}`);
  if (verify?.policy === "standard" || verify?.policy === "high") options.push(`--verify ${verify.policy}`);
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
  if (request.cache) options.push(`--cache ${request.cache}`);
  if (request.callback) options.push(`--callback ${shellWord(request.callback.url)}`);
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

/** What an earlier run read is on the server only: these commands fetch it first. Folders don't come back as folders. */
function fetchCommands(request: RunRequest, names: LocalNames, server: string): string[] {
  return Object.entries(request.files ?? {}).flatMap(([path, input]) => {
    if (names.files[path] !== undefined || !("digest" in input)) return [];
    return [`lockstep blobs get ${input.digest} --output ${shellWord(`./${baseName(path)}`)}${server} && \\\n`];
  });
}

/** What is piped into the command: text that was typed, or what an earlier run read. */
function pipe(request: RunRequest, names: LocalNames, server: string): string {
  const { stdin } = request;
  if (!stdin || names.stdin !== undefined) return "";
  if ("text" in stdin) return stdin.text === "" ? "" : `printf %s ${shellWord(stdin.text)} | `;
  return "digest" in stdin ? `lockstep blobs get ${stdin.digest} --output -${server} | ` : "";
}

export function cliCommand(request: RunRequest, names: LocalNames = { files: {} }): string {
  const server = names.server === undefined ? "" : ` --server ${shellWord(names.server)}`;
  const words = [
    `${pipe(request, names, server)}lockstep run ${shellWord(moduleWord(request.module ?? ""))}`,
    ...(names.server === undefined ? [] : [server.trim()]),
    ...inputOptions(request, names),
    ...policyOptions(request),
  ];
  const args = request.args ?? [];
  if (args.length > 0) words.push(`-- ${args.map(shellWord).join(" ")}`);
  return fetchCommands(request, names, server).join("") + words.join(" \\\n  ");
}

/** Folders of an earlier run that the command expects on this machine. */
export function missingFolders(request: RunRequest, names: LocalNames): string[] {
  const inputs = Object.entries(request.files ?? {});
  return inputs.filter(([path, input]) => "tree" in input && names.files[path] === undefined).map(([path]) => `./${baseName(path)}`);
}
