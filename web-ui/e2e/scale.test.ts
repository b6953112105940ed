// Much: many runs in the list, a large output. The page asks for pieces and stays quick.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Console, launch } from "./console";
import { Pool, prebuilt } from "./pool";

const RUNS = Number(process.env["LOCKSTEP_E2E_RUNS"] ?? 1_000);
const OUTPUT_BYTES = 50_000_000;
let pool: Pool;
let browser: Browser;

beforeAll(async () => {
  [pool, browser] = [await Pool.start({ workers: 2, slots: 2 }), await launch()];
});
afterAll(async () => {
  await browser.close();
  await pool.stop();
});

test(`a list of ${RUNS} runs is paged and quick`, async () => {
  const module = await pool.push(prebuilt("hello.wasm"), "hello.wasm");
  let left = RUNS;
  const lane = async () => {
    while (left-- > 0) await pool.run({ module, verify: { policy: "once" }, wait_ms: 30_000, durable: true });
  };
  await Promise.all(Array.from({ length: 32 }, lane));

  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/runs");
  const rows = page.getByRole("row");
  await expect.poll(() => rows.count()).toBe(51);
  const firstId = () => rows.nth(1).getByRole("link").first().innerText();
  const newest = await firstId();
  const began = Date.now();
  for (let turn = 0; turn < 10; turn += 1) {
    const before = await firstId();
    await page.getByRole("button", { name: "Older" }).click();
    await expect.poll(firstId, { interval: 10 }).not.toBe(before);
    expect(await rows.count()).toBe(51);
  }
  const perPage = (Date.now() - began) / 10;
  console.info(`a page of ${RUNS} runs takes ${Math.round(perPage)} ms`);
  expect(perPage).toBeLessThan(1_000);
  await page.goBack();
  await page.getByRole("button", { name: "Newer" }).click();
  await visit.go("/runs");
  await expect.poll(firstId).toBe(newest);
  await visit.close();
}, 240_000);

test("an output of 50 MB is fetched in ranges", async () => {
  const module = await pool.push(prebuilt("misbehave.wasm"), "misbehave.wasm");
  const run = await pool.run({
    module,
    args: ["flood", `${OUTPUT_BYTES}`],
    limits: { output_bytes: 64 * 2 ** 20 },
    verify: { policy: "once" },
    timeout_ms: 120_000,
    wait_ms: 120_000,
  });
  expect(run.stdout?.size).toBe(OUTPUT_BYTES);
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  let received = 0;
  const ranges: string[] = [];
  page.on("response", async (response) => {
    if (!response.url().endsWith("/stdout")) return;
    ranges.push(response.request().headers()["range"] ?? "none");
    received += Number(response.headers()["content-length"] ?? 0);
  });
  await visit.go(`/runs/${run.id}`);
  await page.getByRole("group", { name: "standard output" }).waitFor();
  const began = Date.now();
  await page.getByRole("button", { name: "End", exact: true }).click();
  await page.getByText("to 47.7 MiB").waitFor();
  expect(Date.now() - began).toBeLessThan(2_000);
  await expect.poll(() => ranges.length).toBe(2);
  expect(ranges).not.toContain("none");
  expect(received).toBeLessThan(200_000);
  await visit.close();
}, 240_000);
