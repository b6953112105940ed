// What a guest writes, however it tries, is text.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Console, launch } from "./console";
import { HOSTILE_FILES, hostileGuest, MARK } from "./hostile";
import { Pool } from "./pool";

let pool: Pool;
let browser: Browser;

beforeAll(async () => {
  [pool, browser] = [await Pool.start({ workers: 2, slots: 1 }), await launch()];
});
afterAll(async () => {
  await browser.close();
  await pool.stop();
});

test("markup, terminal escapes and lying names are shown harmlessly", async () => {
  const markup = `<img src=x onerror="window.${MARK}=1">`;
  const module = await pool.push(await hostileGuest(), `${markup}.wasm`);
  const run = await pool.run({ module, args: [`<script>window.${MARK}=1</script>`, "\u001b[31m"], env: { "<u>NAME</u>": `${markup}\u202e` }, wait_ms: 30_000 });
  expect(run.state).toBe("succeeded");

  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go(`/runs/${run.id}`);
  for (const name of ["standard output", "standard error"]) {
    const text = await page.getByRole("group", { name }).innerText();
    expect(text).toContain(`<script>window.${MARK}=1</script>\nred <img src=x onerror="window.${MARK}=1">\nlink end`);
    expect(text).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u202e]/);
  }
  for (const path of Object.keys(HOSTILE_FILES)) {
    const stem = path.includes("\u001b") ? "␛[31m‹U+202E›gnp.exe" : path;
    await page.getByRole("button", { name: `/out/${stem}`, exact: true }).click();
    await visit.settled();
    await page.waitForTimeout(100);
  }
  await page.getByRole("button", { name: "/out/picture.svg", exact: true }).click();
  const image = page.getByRole("img", { name: "what the run drew: picture.svg" });
  await expect.poll(() => image.evaluate((element) => (element as HTMLImageElement).naturalWidth)).toBe(40);
  await page.getByRole("button", { name: "/out/data.json", exact: true }).click();
  await page.locator("details[open]").getByText("<img src=x onerror=").first().waitFor();
  await page.getByText("Spec, policy and result as JSON").click();

  await visit.go("/modules");
  await page.getByText(`${markup}.wasm`).first().waitFor();
  await visit.go("/runs");
  await visit.go(`/modules/${module}`);
  await visit.go(`/submit?from=${run.id}`);
  expect(await page.evaluate((mark) => mark in window, MARK)).toBe(false);
  expect(await page.locator("main script, main iframe, main object, main img:not([src^='blob:'])").count()).toBe(0);
  await visit.close();
});
