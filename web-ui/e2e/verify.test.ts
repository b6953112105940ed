// What a result is worth, as the page shows it: agreed or vouched for, by which figures; answered from the cache or shared;
// told to a callback; a module that is not deterministic.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CacheView, Module, Run } from "../src/api/types";
import { Console, launch } from "./console";
import { eventually, Pool, prebuilt } from "./pool";

let pool: Pool;
let browser: Browser;
const modules: Record<string, string> = {};

beforeAll(async () => {
  [pool, browser] = [await Pool.start({ workers: 3, slots: 2, cache: true, words: ["--callback-allow", "loopback"] }), await launch()];
  for (const name of ["primes", "misbehave", "hello"]) modules[name] = await pool.push(prebuilt(`${name}.wasm`), `${name}.wasm`);
});
afterAll(async () => {
  await browser.close();
  await pool.stop();
});

const primes = (value: number, more: object = {}) =>
  pool.run({ module: modules["primes"] ?? "", entry: "count", args: [`${value}`], verify: { policy: "standard" }, cache: "off", wait_ms: 60_000, ...more });

test("what one proven worker vouches for is told apart from what was compared", async () => {
  // Newcomers are compared; once they have proven themselves most results stand alone.
  let [agreed, vouched]: (Run | undefined)[] = [];
  for (let value = 100; value < 400 && (agreed === undefined || vouched === undefined); value += 1) {
    const run = await primes(value);
    if (run.verdict.kind === "agreed") agreed ??= run;
    if (run.verdict.kind === "vouched") vouched ??= run;
  }
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go(`/runs/${vouched?.id}`);
  await page.getByText(/^One proven worker vouches for it: it returned \(\d+\)\. Nothing was compared\.$/).waitFor();
  await page.getByText(/confirmations of/).waitFor();
  await page.getByText(/is allowed \(standard\)/).waitFor();
  expect(await page.getByText("vouched", { exact: true }).first().locator("xpath=ancestor::*[@title]").first().getAttribute("title")).toContain("one worker computed it");
  const votes = page.getByRole("table", { name: "Attempts and their votes" });
  await expect.poll(() => votes.getByRole("row").nth(1).innerText()).toMatch(/\b0\.0\d+\b/);
  await visit.accessible("a vouched run");
  await visit.pictures("vouched");
  await visit.go(`/runs/${agreed?.id}`);
  await page.getByText(/agree that it returned/).waitFor();
  await page.getByText(/The votes leave an error of/).waitFor();
  await visit.pictures("agreed-standard");
  await visit.go("/runs?verdict=vouched");
  await page.getByRole("row").nth(1).getByText("vouched").waitFor();
  await visit.go("/");
  await page.getByRole("link", { name: /vouched for/ }).waitFor();
  await visit.accessible("home with vouched runs");
  await visit.close();
});

test("a result of the cache names the run that computed it, and is withdrawn in the settings", async () => {
  const first = await primes(5_000, { cache: "use", verify: { policy: "quorum", n: 2 } });
  const again = await primes(5_000, { cache: "use", verify: { policy: "quorum", n: 2 } });
  expect(again).toMatchObject({ cached: true, cached_from: first.id, result: first.result });
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await eventually("the answer is written", async () => (await pool.fetch(`/v1/runs/${again.id}`)).ok);
  await visit.go(`/runs/${again.id}`);
  await page.getByText("Nothing was executed for this run.").waitFor();
  // The votes are those of the run that computed it.
  await expect.poll(() => page.getByRole("table", { name: "Attempts and their votes" }).getByRole("row").count()).toBe(3);
  await visit.accessible("a cached run");
  await visit.pictures("cached");
  await page.getByRole("link", { name: first.id.slice(-12) }).first().click();
  await expect.poll(() => page.url()).toContain(first.id);
  await visit.go("/runs");
  await page.getByRole("row").filter({ hasText: again.id.slice(-12) }).getByText("cached", { exact: true }).waitFor();

  await visit.go("/settings");
  await page.getByText(/1 run of \d+ that asked/).waitFor();
  await page.getByLabel("Withdraw results").selectOption("module");
  const withdraw = page.getByRole("button", { name: "Withdraw", exact: true });
  expect(await withdraw.isDisabled()).toBe(true);
  await page.getByLabel("module whose results are withdrawn").selectOption({ label: "primes.wasm" });
  await withdraw.click();
  await page.getByRole("button", { name: "Withdraw them" }).click();
  await page.getByText(/\d+ results? withdrawn\./).waitFor();
  expect((await pool.json<CacheView>("/v1/cache")).entries).toBe(0);
  await visit.accessible("settings with a cache");
  await visit.close();
  expect((await primes(5_000, { cache: "use", verify: { policy: "quorum", n: 2 } })).cached).toBe(false);
});

test("an equal run in flight is shared, and says with whom", async () => {
  const request = { module: modules["misbehave"] ?? "", args: ["work", "400000000"], verify: { policy: "quorum" as const, n: 2 }, timeout_ms: 120_000 };
  const first = await pool.run(request);
  const other = await pool.run(request);
  const visit = await Console.signedIn(browser, pool);
  await visit.go(`/runs/${other.id}`);
  await visit.page.getByText("its attempts gave the result of both").waitFor({ timeout: 120_000 });
  expect(await pool.json<Run>(`/v1/runs/${other.id}`)).toMatchObject({ state: "succeeded", shared_with: first.id });
  await visit.accessible("a shared run");
  await visit.close();
});

test("profile, cache and callback are chosen in the form, and the callback is delivered and delivered again", async () => {
  let status = 500;
  const bodies: { type: string; data: { id: string } }[] = [];
  const receiver: Server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece: Buffer) => (body += piece.toString()));
    request.on("end", () => {
      bodies.push(JSON.parse(body) as (typeof bodies)[number]);
      response.writeHead(status).end();
    });
  });
  await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
  try {
    const address = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
    const visit = await Console.signedIn(browser, pool);
    const { page } = visit;
    await visit.go(`/submit?module=${modules["hello"]}`);
    await page.getByRole("radio", { name: /as usual \(standard\)/ }).waitFor();
    await page.getByLabel("Profile").selectOption("det-1-portable");
    await page.getByLabel("An earlier result").selectOption("refresh");
    await page.getByText("Limits, clock, seed, retries").click();
    await page.getByLabel("Tell when it ends").fill("nowhere");
    await page.getByText("The callback must be a URL").waitFor();
    await page.getByLabel("Tell when it ends").fill(address);
    const command = await page.getByRole("group", { name: "the command for a shell" }).innerText();
    for (const option of ["--profile det-1-portable", "--cache refresh", `--callback ${address}`]) expect(command).toContain(option);
    await visit.accessible("the form with a callback");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    const deliveries = page.getByRole("table", { name: "Deliveries of the callback" });
    await deliveries.getByText("pending").waitFor();
    await deliveries.getByText(/tr(y|ies): .*500/).waitFor();
    await visit.accessible("a run with a callback");
    await visit.pictures("callback");
    status = 204;
    await page.getByRole("button", { name: "Redeliver revision 1" }).click();
    await deliveries.getByText("delivered").waitFor();
    const run = await pool.json<Run>(`/v1/runs/${/runs\/([0-9a-f-]+)/.exec(page.url())?.[1]}`);
    expect(run.spec.profile).toBe("det-1-portable");
    expect(run.policy).toMatchObject({ cache: "refresh", callback: { url: address } });
    expect(bodies.at(-1)).toMatchObject({ type: "run.final", data: { id: run.id } });
    await visit.close();
  } finally {
    receiver.close();
  }
});

test("workers show what their class is made of, and who else is in it", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/workers");
  await page.getByText("No worker was taken out").waitFor();
  await expect.poll(() => page.getByText("2 peers").count()).toBe(3);
  await visit.go("/workers/w1");
  await page.getByText("shared with 2 other active workers").first().waitFor();
  await page.getByText("what it is made of").click();
  await page.getByText("Golden corpus").waitFor();
  await page.getByText("under det-1-portable").waitFor();
  await visit.accessible("a worker's class");
  await visit.pictures("class");
  await visit.close();
});

test("a module that is not deterministic says which run showed it, until somebody clears it", async () => {
  const digest = modules["hello"] ?? "";
  const { items } = await pool.json<{ items: Run[] }>(`/v1/runs?module=${digest}`);
  const run = items[0]?.id ?? "";
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  // What makes a module so takes trusted workers that differ: the answer is the server's, with this one field filled in.
  let isLabelled = true;
  await page.route(`**/v1/modules/${encodeURIComponent(digest)}`, async (route) => {
    const module = (await (await route.fetch()).json()) as Module;
    await route.fulfill({ json: { ...module, nondeterministic: isLabelled ? { run, at: "2026-01-01T00:00:00Z" } : null } });
  });
  await page.route(`**/v1/modules/${encodeURIComponent(digest)}/readmit`, async (route) => {
    isLabelled = false;
    await route.continue();
  });
  await visit.go(`/modules/${digest}`);
  await page.getByText("Not deterministic: trusted executions of it gave different results.").waitFor();
  expect(await page.getByRole("region", { name: /Not deterministic/ }).getByRole("link").getAttribute("href")).toBe(`/runs/${run}`);
  await visit.accessible("a module that is not deterministic");
  await visit.pictures("nondeterministic");
  await page.getByRole("button", { name: "Clear the label" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Clear the label" }).click();
  await expect.poll(() => page.getByText("Not deterministic").count()).toBe(0);
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await visit.close();
});
