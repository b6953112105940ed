// One way to ask: every failure is an ApiError with a code, a sentence and the request's name in the server's log.

import { session } from "./session.svelte";
import type { Info, Module, Page, Problem, Run, RunRequest, RunSummary, Worker } from "./types";

export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly requestId: string | null = null,
  ) {
    super(message);
  }
}

function isProblem(value: unknown): value is Problem {
  return typeof value === "object" && value !== null && "code" in value && "detail" in value;
}

/** The error of an answer that is no success; a refused token signs out. */
export function errorOf(status: number, body: string): ApiError {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    value = null;
  }
  if (!isProblem(value)) return new ApiError("not_lockstep", `the server answered ${status} without a reason`);
  const place = value.pointer === undefined ? "" : `${value.pointer}: `;
  return new ApiError(value.code, place + value.detail, value.request_id ?? null);
}

/** Sends a request with the token; throws an ApiError unless it succeeds. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (session.token !== null) headers.set("Authorization", `Bearer ${session.token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new ApiError("unreachable", "the server does not answer; is it running?");
  }
  if (response.ok) return response;
  const error = errorOf(response.status, await response.text());
  if (response.status === 401) session.signOut("The token is not valid (any more).");
  throw error;
}

async function json<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await send(path, init)).json()) as T;
}

function post<T>(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  if (body === undefined) return json<T>(path, { method: "POST", headers });
  const typed = { ...headers, "Content-Type": "application/json" };
  return json<T>(path, { method: "POST", headers: typed, body: JSON.stringify(body) });
}

function query(parameters: Record<string, string | null | undefined>): string {
  const given = Object.entries(parameters).filter((pair): pair is [string, string] => Boolean(pair[1]));
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}

export interface RunFilter {
  state?: string | null;
  module?: string | null;
  cursor?: string | null;
}

const id = encodeURIComponent;

export const api = {
  info: () => json<Info>("/v1/info"),
  runs: (filter: RunFilter) => json<Page<RunSummary>>(`/v1/runs${query({ ...filter, limit: "50" })}`),
  run: (run: string) => json<Run>(`/v1/runs/${id(run)}`),
  submit: (request: RunRequest, key: string) => post<Run>("/v1/runs", request, { "Idempotency-Key": key }),
  cancel: (run: string) => post<Run>(`/v1/runs/${id(run)}/cancel`),
  rerun: (run: string) => post<Run>(`/v1/runs/${id(run)}/rerun`),
  modules: (cursor?: string | null) => json<Page<Module>>(`/v1/modules${query({ cursor })}`),
  module: (digest: string) => json<Module>(`/v1/modules/${id(digest)}`),
  quarantineModule: (digest: string, why: string) => post<Module>(`/v1/modules/${id(digest)}/quarantine`, { why }),
  readmitModule: (digest: string) => post<Module>(`/v1/modules/${id(digest)}/readmit`),
  deleteModule: (digest: string) => send(`/v1/modules/${id(digest)}`, { method: "DELETE" }),
  workers: () => json<Page<Worker>>("/v1/workers"),
  drainWorker: (worker: string) => post<Worker>(`/v1/workers/${id(worker)}/drain`),
  quarantineWorker: (worker: string, why: string) => post<Worker>(`/v1/workers/${id(worker)}/quarantine`, { why }),
  readmitWorker: (worker: string) => post<Worker>(`/v1/workers/${id(worker)}/readmit`),
};

/** The module with this digest, or null where the server has none. */
export async function findModule(digest: string): Promise<Module | null> {
  try {
    return await api.module(digest);
  } catch (error) {
    if (error instanceof ApiError && error.code === "not_found") return null;
    throw error;
  }
}

/** Sends a module up and reports how much has gone; fetch cannot report that, so this is an XMLHttpRequest. */
export function uploadModule(file: File, digest: string, sent: (bytes: number) => void): Promise<Module> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/v1/modules/${id(digest)}${query({ name: file.name })}`);
    if (session.token !== null) request.setRequestHeader("Authorization", `Bearer ${session.token}`);
    request.setRequestHeader("Content-Type", "application/wasm");
    request.upload.onprogress = (event) => sent(event.loaded);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as Module);
      else reject(errorOf(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiError("unreachable", "the connection broke during the upload"));
    request.send(file);
  });
}

/** Downloads with the token, which a plain link could not carry. */
export async function download(path: string, name: string): Promise<void> {
  const blob = await (await send(path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
