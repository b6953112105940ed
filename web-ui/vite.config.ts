import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [svelte()],
  // The server's policy allows nothing inline.
  build: { target: "es2022", modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  // `npm run dev` beside a `lockstep serve` on this machine.
  server: { proxy: { "/v1": process.env["LOCKSTEP_SERVER"] ?? "http://127.0.0.1:7070" } },
  test: { include: ["src/**/*.test.ts"] },
});
