// Prints what a first visit costs, compressed, and fails when the bundle outgrows its bound.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

const BYTES_MAX = 120 * 1000;
const dist = new URL("../dist", import.meta.url).pathname;

/** Size of every file of the bundle: as it is, with gzip and with brotli. */
export function sizes() {
  return readdirSync(dist, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => {
      const bytes = readFileSync(path);
      const gzip = gzipSync(bytes, { level: 9 }).length;
      return { path: path.slice(dist.length + 1), plain: bytes.length, gzip, brotli: brotliCompressSync(bytes).length };
    });
}

if (process.argv.includes("--print")) {
  const all = sizes();
  const kb = (bytes) => `${(bytes / 1000).toFixed(1)} kB`.padStart(10);
  for (const one of all) console.log(`${kb(one.plain)}${kb(one.gzip)} gzip${kb(one.brotli)} br  ${one.path}`);
  const sum = (key) => all.reduce((total, one) => total + one[key], 0);
  console.log(`${kb(sum("plain"))}${kb(sum("gzip"))} gzip${kb(sum("brotli"))} br  the whole bundle, of ${kb(BYTES_MAX).trim()} at most`);
  if (sum("gzip") > BYTES_MAX) {
    console.error("the bundle is too large: look at what was added last");
    process.exit(1);
  }
}
