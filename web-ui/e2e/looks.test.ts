// Every page, in light, dark and narrow: usable by everybody, nothing sticks out, nothing comes from elsewhere.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Console, launch } from "./console";
import { eventually, Pool, prebuilt } from "./pool";

let pool: Pool;
let browser: Browser;
const pages: Record<string, string> = {};

beforeAll(async () => {
  [pool, browser] = [await Pool.start({ workers: 3, slots: 2 }), await launch()];
  const modules: Record<string, string> = {};
  for (const name of ["hello", "wordcount", "mandelbrot", "montecarlo", "misbehave"]) {
    modules[name] = await pool.push(prebuilt(`${name}.wasm`), `${name}.wasm`);
  }
  const run = (name: string, args: string[], more: object = {}) => pool.run({ module: modules[name] ?? "", args, wait_ms: 60_000, ...more });
  await run("hello", []);
  await run("wordcount", ["-n", "3"], { stdin: { text: "to be or not to be\n" } });
  for (const seed of [1, 2, 3]) await run("montecarlo", ["100000"], { seed, verify: { policy: "quorum", n: 3 } });
  await run("misbehave", ["exit", "3"], { verify: { policy: "once" } });
  const trapped = await run("misbehave", ["panic"]);
  const late = await run("misbehave", ["loop"], { timeout_ms: 300 });
  const drawn = await run("mandelbrot", ["640", "480", "200"], { verify: { policy: "quorum", n: 3 } });
  Object.assign(pages, {
    home: "/",
    runs: "/runs",
    "runs-filtered": "/runs?state=failed&since=1h",
    "runs-none": "/runs?state=queued",
    run: `/runs/${drawn.id}`,
    "run-timeout": `/runs/${late.id}`,
    "run-trap": `/runs/${trapped.id}`,
    modules: "/modules",
    module: `/modules/${modules["montecarlo"]}`,
    submit: `/submit?module=${modules["wordcount"]}`,
    workers: "/workers",
    worker: "/workers/w1",
    settings: "/settings",
    nowhere: "/no/such/page",
  });
});
afterAll(async () => {
  await browser.close();
  await pool.stop();
});

for (const [look, options] of Object.entries({ light: {}, dark: { dark: true }, narrow: { width: 390 } })) {
  test(`every page in ${look}`, async () => {
    const visit = await Console.signedIn(browser, pool, options);
    for (const [name, path] of Object.entries(pages)) {
      await visit.go(path);
      if (name.startsWith("run-") || name === "run") await visit.page.getByRole("heading", { name: "What was run" }).waitFor();
      await visit.accessible(`${name} in ${look}`);
      await visit.fits(`${name} in ${look}`);
      await visit.picture(`${name}-${look}`);
    }
    await visit.close();
  });
}

test("what is not there is said with its code", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: (text) => text.includes("404") });
  const nothing = "01920000-0000-7000-8000-000000000001";
  for (const path of [`/runs/${nothing}`, `/modules/sha256:${"0".repeat(64)}`, "/workers/w99"]) {
    await visit.go(path);
    await visit.page.getByRole("alert").getByText("not_found").waitFor();
    await visit.accessible(path);
  }
  await visit.close();
});

test("the switch of colours is remembered", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await visit.go("/runs");
  const light = await ground();
  await page.getByRole("button", { name: /colours: system/ }).click();
  await page.getByRole("button", { name: /colours: light/ }).click();
  await page.getByRole("button", { name: /colours: dark/ }).waitFor();
  expect(await ground()).not.toBe(light);
  await page.reload();
  await page.getByRole("button", { name: /colours: dark/ }).waitFor();
  expect(await ground()).not.toBe(light);
  await visit.close();
});

test("it can be used with the keyboard alone", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/");
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Skip to the page");
  for (let presses = 0; presses < 4; presses += 1) await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.textContent?.trim())).toBe("Modules");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement ?? document.body).outlineStyle);
  expect(outline).toBe("solid");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Modules", exact: true }).waitFor();
  expect(await page.evaluate(() => document.activeElement?.tagName)).toBe("MAIN");
  await visit.close();
});

test("a pool that goes away is said, and the page recovers by itself", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: () => true });
  const { page } = visit;
  await visit.go("/runs");
  await visit.page.getByText("Live", { exact: true }).waitFor();
  await page.context().setOffline(true);
  await page.getByRole("link", { name: "Workers", exact: true }).click();
  await page.getByRole("alert").getByText("unreachable").first().waitFor();
  await page.context().setOffline(false);
  await page.getByRole("button", { name: "Try again" }).first().click();
  await page.getByRole("cell", { name: "w1 local-1" }).waitFor();
  // The stream of changes is opened again without anybody's help.
  await page.getByText("Live", { exact: true }).waitFor();
  await visit.close();
});

test("a view says that it is loading, and nothing moves for those who asked for calm", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await page.route("**/v1/workers?*", async (route) => {
    await new Promise((go) => setTimeout(go, 1_500));
    await route.continue();
  });
  await page.goto(`${pool.url}/workers`);
  await page.getByText("Loading …").waitFor();
  const moving = await page.evaluate(() => document.getAnimations().length);
  expect(moving).toBe(0);
  await page.getByRole("cell", { name: "w1 local-1" }).waitFor();
  // Relative times have the absolute one beside them.
  const title = await page.locator("tbody time").first().getAttribute("title");
  expect(title).toMatch(/20\d\d/);
  await visit.close();
});

test("without a stream of changes pages are read again every few seconds", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: (text) => text.includes("ERR_FAILED") });
  const { page } = visit;
  await page.route("**/v1/events", (route) => route.abort());
  await visit.go("/runs");
  await page.getByText("Polling", { exact: true }).waitFor();
  const { items } = await pool.json<{ items: { digest: string; name: string }[] }>("/v1/modules");
  const run = await pool.run({ module: items.find(({ name }) => name === "hello.wasm")?.digest ?? "" });
  await page.locator(`a[href="/runs/${run.id}"]`).waitFor();
  await visit.close();
});

test("the home page is there within a second, and follows what happens", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/");
  const painted = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity);
  console.info(`first paint of the home page after ${Math.round(painted)} ms`);
  expect(painted).toBeLessThan(1_000);
  const run = await pool.run({ module: (await pool.json<{ items: { digest: string; name: string }[] }>("/v1/modules")).items.find(({ name }) => name === "hello.wasm")?.digest ?? "" });
  await page.locator(`a[href="/runs/${run.id}"]`).waitFor();
  await eventually("it ends", async () => (await pool.json<{ state: string }>(`/v1/runs/${run.id}`)).state === "succeeded");
  await visit.close();
});
