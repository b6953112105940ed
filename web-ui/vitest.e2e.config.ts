// The real pages in a real browser against the real binary. `npm run e2e`, or `make test-e2e` which sees to what is needed.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // `npm run pictures` takes the pictures of README.md instead
    include: process.env["LOCKSTEP_PICTURES"] === undefined ? ["e2e/**/*.test.ts"] : ["e2e/pictures.ts"],
    // Each file has a pool and a browser of its own; two cores are enough for one of them.
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 60_000,
    // Bounds for a busy machine; nothing waits for them that is done.
    expect: { poll: { timeout: 20_000 } },
    reporters: ["verbose"],
  },
});
