// Files on their way to the server: hashed in a web worker, skipped when the server has them, sent with progress. They go
// on while the view changes.

import { ApiError, asApiError, isStored, upload, wasAborted, type UploadTarget } from "../api/client";
import { hash } from "./hash";
import { knownModules } from "./modules.svelte";

export type Phase = "waiting" | "hashing" | "asking" | "sending" | "retrying" | "stored" | "known" | "failed" | "canceled";

/** How often a dropped connection is tried again before somebody has to press a button. */
const TRIES_MAX = 3;
const AT_ONCE_MAX = 2;

export class Upload {
  phase = $state<Phase>("waiting");
  done = $state(0);
  digest = $state<string | null>(null);
  error = $state.raw<ApiError | null>(null);
  #controller = new AbortController();

  constructor(
    readonly target: UploadTarget,
    readonly name: string,
    readonly body: Blob,
  ) {}

  get isActive(): boolean {
    return !["stored", "known", "failed", "canceled"].includes(this.phase);
  }

  get isThere(): boolean {
    return this.phase === "stored" || this.phase === "known";
  }

  cancel(): void {
    if (!this.isActive) return;
    this.phase = "canceled";
    this.#controller.abort();
  }

  /** Brings the bytes up; never throws, how it went is in `phase` and `error`. */
  async start(): Promise<void> {
    this.#controller = new AbortController();
    this.error = null;
    try {
      await this.#bringUp(this.#controller.signal);
    } catch (cause) {
      if (wasAborted(cause)) this.phase = "canceled";
      else [this.phase, this.error] = ["failed", asApiError(cause)];
    }
  }

  /** A module that is not on a complete list is not there: that needs no question. */
  async #isStored(digest: string, signal: AbortSignal): Promise<boolean> {
    const list = knownModules.resource.data;
    if (this.target === "modules" && list?.more === false && knownModules.get(digest) === null) return false;
    return await isStored(this.target, digest, signal);
  }

  async #bringUp(signal: AbortSignal): Promise<void> {
    const progress = (bytes: number) => (this.done = bytes);
    if (this.digest === null) {
      this.phase = "hashing";
      this.digest = await hash(this.body, progress, signal);
    }
    for (let tries = 1; ; tries += 1) {
      try {
        this.phase = "asking";
        this.done = 0;
        if (await this.#isStored(this.digest, signal)) {
          this.phase = "known";
          return;
        }
        this.phase = "sending";
        await upload(this.target, this.digest, this.body, this.name, progress, signal);
        this.phase = "stored";
        return;
      } catch (cause) {
        if (!(cause instanceof ApiError) || cause.code !== "unreachable" || tries >= TRIES_MAX) throw cause;
        this.phase = "retrying";
        await new Promise((resolve) => setTimeout(resolve, 1_000 * tries));
        signal.throwIfAborted();
      }
    }
  }
}

/** Starts uploads, a few at a time, in their order. */
export async function startAll(uploads: Upload[], ended: (upload: Upload) => void): Promise<void> {
  const left = [...uploads];
  const lane = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      // It may have been canceled while it waited.
      if (next.phase === "waiting") await next.start();
      ended(next);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE_MAX }, lane));
}

class ModuleUploads {
  list = $state.raw<Upload[]>([]);
  /** Grows with each module that arrived, so that lists know to read again. */
  arrived = $state(0);

  add(files: File[]): void {
    const uploads = files.map((file) => new Upload("modules", file.name, file));
    this.list = [...uploads, ...this.list].slice(0, 200);
    void startAll(uploads, (upload) => this.#ended(upload));
  }

  retry(upload: Upload): void {
    void upload.start().then(() => this.#ended(upload));
  }

  clear(): void {
    this.list = this.list.filter((upload) => upload.isActive);
  }

  #ended(upload: Upload): void {
    if (upload.isThere) this.arrived += 1;
  }
}

export const moduleUploads = new ModuleUploads();
