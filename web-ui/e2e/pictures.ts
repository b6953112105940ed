// The pictures of README.md, taken anew from pools that have seen something (`npm run pictures`). Not a test: nothing is
// claimed but that what is photographed is there.

import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Run } from "../src/api/types";
import { Console, launch, type ConsoleOptions } from "./console";
import { eventually, joinOwn, Pool, prebuilt } from "./pool";

const FOLDER = join(import.meta.dirname, "../screenshots");
const QUORUM_OF_3 = { policy: "quorum", n: 3 } as const;

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

/** What the window shows of a page, no longer than it needs to be. */
async function photograph(pool: Pool, name: string, path: string, height: number, options: ConsoleOptions, ready: (visit: Console) => Promise<void>): Promise<void> {
  const visit = await Console.signedIn(browser, pool, { width: 1180, ...options });
  await visit.page.setViewportSize({ width: options.width ?? 1180, height });
  await visit.go(path);
  await visit.page.getByText("Live", { exact: true }).first().waitFor({ state: "attached" });
  await ready(visit);
  await visit.page.screenshot({ path: join(FOLDER, `${name}.png`) });
  await visit.close();
}

test("a pool with a liar in it", async () => {
  const pool = await Pool.start({ workers: 3, slots: 2, words: ["--arbiters", "1"] });
  const stops: (() => Promise<void>)[] = [];
  try {
    const modules: Record<string, string> = {};
    for (const name of ["wordcount", "mandelbrot", "montecarlo", "primes", "misbehave"]) {
      modules[name] = await pool.push(prebuilt(`${name}.wasm`), `${name}.wasm`);
    }
    const run = (name: string, args: string[], more: object = {}) => pool.run({ module: modules[name] ?? "", args, wait_ms: 60_000, ...more });
    const drawn = await run("mandelbrot", ["480", "320", "60"], { verify: QUORUM_OF_3 });
    for (const seed of [1, 2, 3, 4, 5, 6]) await run("montecarlo", ["20000"], { seed, verify: QUORUM_OF_3 });
    const liar = await joinOwn(pool, "shed", "lie");
    stops.push(liar.stop);
    // of those that are left each is asked
    await pool.post("/v1/workers/w3/drain");
    const disputed = await run("montecarlo", ["20000"], { seed: 7, verify: QUORUM_OF_3 });
    expect(disputed.verdict.dissenters).toEqual([liar.id]);
    await pool.post("/v1/workers/w3/readmit");
    await photograph(pool, "votes", `/runs/${disputed.id}`, 860, {}, async ({ page }) => {
      await page.getByRole("region", { name: "How the votes were settled" }).waitFor();
      await page.getByRole("button", { name: "Compare with what was accepted" }).click();
      await page.getByText(/The first differing byte of stdout is at offset/).waitFor();
    });
    await photograph(pool, "picture", `/runs/${drawn.id}`, 820, {}, async ({ page }) => {
      const image = page.getByRole("img", { name: "what the run drew: mandelbrot.png" });
      await image.waitFor();
      await image.evaluate((element) => (element as HTMLImageElement).decode());
    });
    const busy = run("misbehave", ["work", "3000000000"], { verify: { policy: "quorum", n: 2 } });
    await pool.killBusyRunner();
    for (const number of [1, 2, 3]) await run("primes", [`${100_000 + number}`], { entry: "count" });
    await run("misbehave", ["panic"]);
    for (const text of ["to be or not to be\n", "the quick brown fox\n"]) await run("wordcount", ["-n", "3"], { stdin: { text } });
    await run("montecarlo", ["20000"], { seed: 8 });
    await photograph(pool, "home", "/", 640, { dark: true }, async ({ page }) => {
      await page.getByRole("link", { name: "wordcount.wasm" }).first().waitFor();
    });
    await busy.catch(() => undefined);
  } finally {
    for (const stop of stops) await stop();
    await pool.stop();
  }
});

test("a result that was wrong, and was corrected", async () => {
  const pool = await Pool.start({ workers: 0, slots: 1, words: ["--arbiters", "1"] });
  const stops: (() => Promise<void>)[] = [];
  try {
    const module = await pool.push(prebuilt("wordcount.wasm"), "wordcount.wasm");
    const liars = [await joinOwn(pool, "one", "collude:100"), await joinOwn(pool, "two", "collude:100")];
    stops.push(...liars.map(({ stop }) => stop));
    const stdin = { text: "to be or not to be\n" };
    const wrong = await pool.run({ module, args: ["-n", "2"], stdin, verify: { policy: "quorum", n: 2 }, wait_ms: 60_000 });
    await pool.post(`/v1/workers/${liars[0]?.id}/quarantine`, { why: "it lied" });
    await eventually("it is corrected", async () => (await pool.json<Run>(`/v1/runs/${wrong.id}`)).revision === 2);
    await photograph(pool, "corrected", `/runs/${wrong.id}`, 844, { width: 390 }, async ({ page }) => {
      await page.getByText("This run was corrected: its first result was wrong. This is revision 2.").waitFor();
    });
  } finally {
    for (const stop of stops) await stop();
    await pool.stop();
  }
});
