import { svelte } from "@sveltejs/vite-plugin-svelte";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** What the built page may load and talk to: this server only. The dev server injects styles, so it goes without. */
const POLICY = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'";

function contentSecurityPolicy(): Plugin {
  const tag = { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: POLICY } };
  return {
    name: "content-security-policy",
    apply: "build",
    transformIndexHtml: () => [{ ...tag, injectTo: "head-prepend" as const }],
  };
}

export default defineConfig({
  plugins: [svelte(), contentSecurityPolicy()],
  build: { target: "es2022", modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  // `npm run dev` beside a `lockstep serve` on this machine.
  server: { proxy: { "/v1": "http://127.0.0.1:7070" } },
  test: { include: ["src/**/*.test.ts"] },
});
