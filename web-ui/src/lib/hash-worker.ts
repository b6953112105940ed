// Hashes a file away from the page, which stays smooth. One worker, one file.

import { hashFile } from "./sha256";

export type HashReply = { read: number } | { digest: string } | { failed: string };

const REPORT_MS = 50;

onmessage = async ({ data }: MessageEvent<Blob>) => {
  let reported = 0;
  try {
    const digest = await hashFile(data, (read) => {
      if (performance.now() - reported < REPORT_MS) return;
      reported = performance.now();
      postMessage({ read } satisfies HashReply);
    });
    postMessage({ digest } satisfies HashReply);
  } catch (cause) {
    postMessage({ failed: cause instanceof Error ? cause.message : "the file cannot be read" } satisfies HashReply);
  }
};
