import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { hashFile, Sha256 } from "./sha256";

function reference(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

test("every length around the block size hashes as the reference does", () => {
  for (let length = 0; length <= 200; length += 1) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 37 + length) % 256);
    const hasher = new Sha256();
    hasher.update(bytes);
    expect(hasher.digest(), `length ${length}`).toBe(reference(bytes));
  }
});

test("pieces make the same digest as the whole", async () => {
  const bytes = Uint8Array.from({ length: 1_000_003 }, (_, i) => (i * i) % 251);
  const hasher = new Sha256();
  for (let at = 0; at < bytes.length; at += 4_099) hasher.update(bytes.subarray(at, at + 4_099));
  expect(hasher.digest()).toBe(reference(bytes));

  let seen = 0;
  expect(await hashFile(new Blob([bytes]), (read) => (seen = read))).toBe(reference(bytes));
  expect(seen).toBe(bytes.length);
});
