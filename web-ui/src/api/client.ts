// One way to ask: every failure is an ApiError with a code, a sentence and the request's name in the server's log.

import { session } from "./session.svelte";
import type {
  BulkItem,
  CacheView,
  CallbackDelivery,
  Comparison,
  Info,
  Module,
  NewToken,
  Page,
  Problem,
  Repair,
  Revision,
  Run,
  RunRequest,
  RunSummary,
  Series,
  Stats,
  Token,
  TokenRequest,
  WithdrawRequest,
  Withdrawn,
  Worker,
  WorkerDetail,
  Workspace,
} from "./types";

export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly requestId: string | null = null,
    readonly digest: string | null = null,
  ) {
    super(message);
  }
}

function isProblem(value: unknown): value is Problem {
  return typeof value === "object" && value !== null && "code" in value && "detail" in value;
}

/** The error of an answer that is no success. */
export function errorOf(status: number, body: string): ApiError {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    value = null;
  }
  if (!isProblem(value)) return new ApiError("not_lockstep", `the server answered ${status} without a reason`);
  const place = value.pointer ? `${value.pointer}: ` : "";
  return new ApiError(value.code, place + value.detail, value.request_id ?? null, value.digest ?? null);
}

/** Whatever was thrown, as an error that a view can show. */
export function asApiError(cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause;
  return new ApiError("console", cause instanceof Error ? cause.message : String(cause));
}

export function wasAborted(cause: unknown): boolean {
  return cause instanceof DOMException && cause.name === "AbortError";
}

/** Sends a request with the token; throws an ApiError unless it succeeds. A refused token signs out. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const token = session.token;
  const headers = new Headers(init.headers);
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (cause) {
    if (wasAborted(cause)) throw cause;
    throw new ApiError("unreachable", "the server does not answer; is it running?");
  }
  if (response.ok) return response;
  const error = errorOf(response.status, await response.text());
  if (response.status === 401 && session.token === token) session.refused(error);
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

function put<T>(path: string, body: unknown): Promise<T> {
  return json<T>(path, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export function query(parameters: Record<string, string | number | null | undefined>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}

export interface RunFilter {
  state?: string | null;
  module?: string | null;
  worker?: string | null;
  verdict?: string | null;
  text?: string | null;
  since?: string | null;
  until?: string | null;
  cursor?: string | null;
  limit?: number;
}

/** A receipt as it is served: a statement and the signature over it. */
export interface Envelope {
  payload: string;
}

const id = encodeURIComponent;

export const api = {
  info: () => json<Info>("/v1/info"),
  stats: () => json<Stats>("/v1/stats"),
  series: (minutes: number) => json<Series>(`/v1/stats/series${query({ minutes })}`),
  runs: (filter: RunFilter) => json<Page<RunSummary>>(`/v1/runs${query({ ...filter })}`),
  run: (run: string, revision?: number | null) => json<Run>(`/v1/runs/${id(run)}${query({ revision })}`),
  revisions: (run: string) => json<Page<Revision>>(`/v1/runs/${id(run)}/revisions`),
  receipt: (run: string, revision: number | null) => json<Envelope>(receiptPath(run, revision)),
  callbacks: (run: string) => json<Page<CallbackDelivery>>(`/v1/runs/${id(run)}/callbacks`),
  redeliver: (run: string, revision: number) =>
    post<Page<CallbackDelivery>>(`/v1/runs/${id(run)}/callbacks/redeliver${query({ revision })}`),
  submit: (request: RunRequest, key: string) => post<Run>("/v1/runs", request, { "Idempotency-Key": key }),
  cancel: (run: string) => post<Run>(`/v1/runs/${id(run)}/cancel`),
  rerun: (run: string) => post<Run>(`/v1/runs/${id(run)}/rerun`),
  cancelAll: async (ids: string[]) => (await post<Page<BulkItem>>("/v1/runs/cancel", { ids })).items,
  rerunAll: async (ids: string[]) => (await post<Page<BulkItem>>("/v1/runs/rerun", { ids })).items,
  diff: (run: string, left: number, right: number, stream: string, revision: number | null) =>
    json<Comparison>(`/v1/runs/${id(run)}/diff${query({ left, right, stream, revision })}`),
  modules: (cursor?: string | null, limit?: number) => json<Page<Module>>(`/v1/modules${query({ cursor, limit })}`),
  module: (digest: string) => json<Module>(`/v1/modules/${id(digest)}`),
  quarantineModule: (digest: string, why: string) => post<Module>(`/v1/modules/${id(digest)}/quarantine`, { why }),
  readmitModule: (digest: string) => post<Module>(`/v1/modules/${id(digest)}/readmit`),
  deleteModule: (digest: string) => send(`/v1/modules/${id(digest)}`, { method: "DELETE" }),
  verifyModule: (digest: string, verify: Run["policy"]["verify"] | null) =>
    verify === null
      ? json<Module>(`/v1/modules/${id(digest)}/verify`, { method: "DELETE" })
      : put<Module>(`/v1/modules/${id(digest)}/verify`, verify),
  workspace: (name: string) => json<Workspace>(`/v1/workspaces/${id(name)}`),
  settleWorkspace: (name: string, verify: Run["policy"]["verify"] | null) => put<Workspace>(`/v1/workspaces/${id(name)}`, { verify }),
  workers: () => json<Page<Worker>>("/v1/workers?limit=200"),
  worker: (worker: string) => json<WorkerDetail>(`/v1/workers/${id(worker)}`),
  drainWorker: (worker: string) => post<Worker>(`/v1/workers/${id(worker)}/drain`),
  quarantineWorker: (worker: string, why: string) => post<Worker>(`/v1/workers/${id(worker)}/quarantine`, { why }),
  readmitWorker: (worker: string) => post<Worker>(`/v1/workers/${id(worker)}/readmit`),
  repairs: () => json<Page<Repair>>("/v1/repairs"),
  cache: () => json<CacheView>("/v1/cache"),
  withdraw: (what: WithdrawRequest) => post<Withdrawn>("/v1/cache/withdraw", what),
  tokens: () => json<Page<Token>>("/v1/tokens"),
  createToken: (request: TokenRequest) => post<NewToken>("/v1/tokens", request),
  revokeToken: (token: number) => send(`/v1/tokens/${token}`, { method: "DELETE" }),
};

/** Every module, for choosing and searching: page after page, up to a bound. */
export async function allModules(): Promise<{ items: Module[]; more: boolean }> {
  const PAGES_MAX = 10;
  const items: Module[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const { items: found, next }: Page<Module> = await api.modules(cursor, 200);
    items.push(...found);
    if (next === null) return { items, more: false };
    cursor = next;
  }
  return { items, more: true };
}

async function exists(path: string, signal: AbortSignal, method: "GET" | "HEAD"): Promise<boolean> {
  try {
    await send(path, { method, signal });
    return true;
  } catch (error) {
    if (error instanceof ApiError && (error.code === "not_found" || method === "HEAD")) return false;
    throw error;
  }
}

/** What kind of upload it is decides where it goes; both are named by the digest of their bytes. */
export type UploadTarget = "modules" | "blobs";

/** Whether the server has the bytes already. */
export function isStored(target: UploadTarget, digest: string, signal: AbortSignal): Promise<boolean> {
  return exists(`/v1/${target}/${id(digest)}`, signal, target === "blobs" ? "HEAD" : "GET");
}

/** Sends bytes up and reports how much has gone; fetch cannot report that, so this is an XMLHttpRequest. */
export function upload(
  target: UploadTarget,
  digest: string,
  body: Blob,
  name: string | null,
  sent: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/v1/${target}/${id(digest)}${target === "modules" ? query({ name }) : ""}`);
    if (session.token !== null) request.setRequestHeader("Authorization", `Bearer ${session.token}`);
    request.setRequestHeader("Content-Type", target === "modules" ? "application/wasm" : "application/octet-stream");
    request.upload.onprogress = (event) => sent(event.loaded);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve();
      else reject(errorOf(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiError("unreachable", "the connection broke during the upload"));
    request.onabort = () => reject(new DOMException("canceled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

/** Some bytes of what is at `path`, and how many there are in all. */
export async function range(path: string, from: number, count: number): Promise<{ bytes: Uint8Array; total: number }> {
  const response = await send(path, { headers: { Range: `bytes=${from}-${from + count - 1}` } });
  const bytes = new Uint8Array(await response.arrayBuffer());
  const total = Number(/\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1] ?? bytes.length);
  return { bytes, total };
}

/** Address of a file that a run left; `path` is its path in the guest, `/out/…`. No revision is the present one. */
export function filePath(run: string, path: string, revision: number | null = null): string {
  return `/v1/runs/${id(run)}/files${path.split("/").map(encodeURIComponent).join("/")}${query({ revision })}`;
}

/** Address of one of the two streams that a run wrote. */
export function streamPath(run: string, stream: "stdout" | "stderr", revision: number | null = null): string {
  return `/v1/runs/${id(run)}/${stream}${query({ revision })}`;
}

/** Address of the signed certificate of a run's result. */
export function receiptPath(run: string, revision: number | null = null): string {
  return `/v1/runs/${id(run)}/receipt${query({ revision })}`;
}

/** Downloads with the token, which a plain link could not carry. */
export async function download(path: string, name: string): Promise<void> {
  const blob = await (await send(path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser reads the address after this turn.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
