// A pool of the real binary over a temporary directory, and what tests do to it beside the browser.

import { spawn, type ChildProcess } from "node:child_process";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Run, RunRequest, Worker } from "../src/api/types";

const ROOT = resolve(import.meta.dirname, "../..");
export const BINARY = resolve(process.env["LOCKSTEP_BIN"] ?? join(ROOT, "target/debug/lockstep"));
const START_MS = 30_000;

/** Asks until the answer is something; fails with the last error after a bound. */
export async function eventually<T>(what: string, ask: () => Promise<T | null | undefined | false>, ms = 30_000): Promise<T> {
  const end = Date.now() + ms;
  let last: unknown = "it was never so";
  while (Date.now() < end) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (cause) {
      last = cause;
    }
    await new Promise((go) => setTimeout(go, 50));
  }
  throw new Error(`${what}: ${String(last)}`);
}

/** No process outlives a test run that is stopped halfway. */
function endWithUs(child: ChildProcess): void {
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  child.once("exit", () => process.off("exit", end));
}

export interface PoolOptions {
  workers?: number;
  slots?: number;
  settings?: string[];
  /** More words of the command line. */
  words?: string[];
  /** Whether verified results answer equal runs; not unless a test asks for it. */
  cache?: boolean;
}

export class Pool {
  private constructor(
    readonly url: string,
    readonly token: string,
    readonly directory: string,
    private readonly process: ChildProcess,
    private readonly output: () => string,
  ) {}

  static async start(options: PoolOptions = {}): Promise<Pool> {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: build it (cargo build) or set LOCKSTEP_BIN`);
    const directory = mkdtempSync(join(tmpdir(), "lockstep-e2e-"));
    const { workers = 3, slots = 2, settings = [], words: more = [], cache = false } = options;
    const words = ["serve", "--data", directory, "--listen", "127.0.0.1:0", "--workers", `${workers}`, "--slots", `${slots}`];
    const child = spawn(BINARY, [...words, ...more, ...settings.flatMap((setting) => ["--set", setting])], {
      stdio: ["ignore", "pipe", "pipe"],
      // equal runs are submitted to see them executed
      env: { PATH: process.env["PATH"], HOME: directory, ...(cache ? {} : { LOCKSTEP_CACHE_ENTRIES: "0" }) },
    });
    endWithUs(child);
    let output = "";
    const read = (piece: Buffer) => (output = (output + piece.toString()).slice(-200_000));
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    const link = await eventually("the pool prints its link", async () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}:\n${output}`);
      return /(https?:\/\/\S+)\/#token=(\S+)/.exec(output);
    }, START_MS);
    return new Pool(link[1] ?? "", link[2] ?? "", directory, child, () => output);
  }

  async stop(): Promise<void> {
    const ended = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGKILL");
    await ended;
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  /** What it logged, for a failed test. */
  get log(): string {
    return this.output();
  }

  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return await fetch(this.url + path, { ...init, headers: { Authorization: `Bearer ${this.token}`, ...init.headers } });
  }

  async json<T>(path: string, init?: RequestInit): Promise<T> {
    const answer = await this.fetch(path, init);
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  post<T>(path: string, body?: unknown): Promise<T> {
    const given = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    return this.json<T>(path, { method: "POST", ...given });
  }

  /** Uploads a module and waits until it can be run; its digest. */
  async push(bytes: Uint8Array, name: string): Promise<string> {
    const { digest } = await this.json<{ digest: string }>(`/v1/modules?name=${encodeURIComponent(name)}`, { method: "POST", body: bytes as BodyInit });
    await eventually("the module is ready", async () => (await this.json<{ state: string }>(`/v1/modules/${digest}`)).state === "ready");
    return digest;
  }

  run(request: RunRequest): Promise<Run> {
    return this.post<Run>("/v1/runs", request);
  }

  /** Runs a line of shell in a folder, as somebody on the server's machine would; what it prints. */
  shell(line: string, folder: string): string {
    const env = { PATH: `${dirname(BINARY)}:${process.env["PATH"]}`, HOME: folder, LOCKSTEP_DATA: this.directory, LOCKSTEP_TOKEN: this.token };
    return execFileSync("sh", ["-c", line], { cwd: folder, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 60_000 });
  }

  workers(): Promise<Worker[]> {
    return this.json<{ items: Worker[] }>("/v1/workers").then((page) => page.items);
  }

  /** Processes that were started by the pool (its runners among them), with the CPU time that each has used, in ticks. */
  children(): { pid: number; ticks: number }[] {
    return descendantsOf(this.process.pid ?? 0);
  }

  /** Kills the runner that works hardest, as the kernel would under memory pressure. */
  async killBusyRunner(): Promise<number> {
    return await eventually("a runner is busy", async () => {
      const before = new Map(this.children().map(({ pid, ticks }) => [pid, ticks]));
      await new Promise((go) => setTimeout(go, 300));
      const busy = this.children().filter(({ pid, ticks }) => ticks > (before.get(pid) ?? ticks));
      const hardest = busy.sort((a, b) => b.ticks - (before.get(b.pid) ?? 0) - (a.ticks - (before.get(a.pid) ?? 0)))[0];
      if (hardest === undefined) return null;
      process.kill(hardest.pid, "SIGKILL");
      return hardest.pid;
    });
  }
}

function descendantsOf(ancestor: number): { pid: number; ticks: number }[] {
  const all: { pid: number; parent: number; ticks: number }[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // Fields after the name in parentheses: state, parent, …, user time, system time.
      const fields = readFileSync(`/proc/${name}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
      all.push({ pid: Number(name), parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
    } catch {
      // It ended while we looked.
    }
  }
  const below = (parent: number): typeof all =>
    all.filter((one) => one.parent === parent).flatMap((one) => [one, ...below(one.pid)]);
  return below(ancestor);
}

export function prebuilt(name: string): Uint8Array {
  return readFileSync(join(ROOT, "guest-examples/prebuilt", name));
}

export function prebuiltPath(name: string): string {
  return join(ROOT, "guest-examples/prebuilt", name);
}

/** Whether the binary's workers can be told to lie. */
export function canLie(): boolean {
  try {
    return execFileSync(BINARY, ["worker", "--help"], { encoding: "utf8" }).includes("--unsafe-misbehave");
  } catch {
    return false;
  }
}

/** A worker on "another machine" that lies; ends with the returned function. */
export function startLiar(pool: Pool, token: string): () => Promise<void> {
  return startWorker(`lockstep worker --coordinator ${pool.url} --token ${token} --slots 2 --unsafe-misbehave lie`);
}

/** A worker of the operator's own, which may do wrong; its id, and how to end it. */
export async function joinOwn(pool: Pool, name: string, wrong?: string): Promise<{ id: string; stop: () => Promise<void> }> {
  const request = { name, scopes: ["worker"], owned: true, domain: "local" };
  const { secret } = await pool.post<{ secret: string }>("/v1/tokens", request);
  const misbehave = wrong === undefined ? "" : ` --unsafe-misbehave ${wrong}`;
  const stop = startWorker(`lockstep worker --coordinator ${pool.url} --token ${secret} --name ${name} --slots 2${misbehave}`);
  const joined = await eventually(`${name} joins`, async () => (await pool.workers()).find((one) => one.name === name && one.standing === "active"));
  return { id: joined.id, stop };
}

/** A worker on "another machine" by a line of shell; ends with the returned function. */
export function startWorker(line: string): () => Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "lockstep-e2e-worker-"));
  const path = `${dirname(BINARY)}:${process.env["PATH"]}`;
  const child = spawn("sh", ["-c", `exec ${line}`], {
    stdio: "ignore",
    env: { PATH: path, HOME: directory, XDG_DATA_HOME: directory, LOCKSTEP_DATA: directory },
  });
  endWithUs(child);
  return async () => {
    const ended = new Promise((done) => (child.exitCode === null ? child.once("exit", done) : done(null)));
    child.kill("SIGKILL");
    await ended;
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  };
}
