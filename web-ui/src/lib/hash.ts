// SHA-256 of a file in a web worker.

import type { HashReply } from "./hash-worker";

/** The digest as the API writes it; rejects when the file cannot be read or `signal` is aborted. */
export function hash(file: Blob, read: (bytes: number) => void, signal: AbortSignal): Promise<string> {
  const worker = new Worker(new URL("./hash-worker.ts", import.meta.url), { type: "module" });
  return new Promise<string>((resolve, reject) => {
    signal.addEventListener("abort", () => reject(new DOMException("canceled", "AbortError")), { once: true });
    worker.onerror = () => reject(new Error("the file cannot be hashed in this browser"));
    worker.onmessage = ({ data }: MessageEvent<HashReply>) => {
      if ("read" in data) read(data.read);
      else if ("digest" in data) resolve(data.digest);
      else reject(new Error(data.failed));
    };
    worker.postMessage(file);
  }).finally(() => worker.terminate());
}
