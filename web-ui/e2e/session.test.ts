// Signing in, out, and being refused.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Console, launch } from "./console";
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

test("the printed link signs in, and the token leaves the address at once", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await expect.poll(() => page.url()).toBe(`${pool.url}/`);
  expect(await page.evaluate(() => history.length)).toBeLessThanOrEqual(2);
  await page.getByRole("heading", { name: "Welcome to your pool" }).waitFor();
  // Changes come as they happen.
  await page.getByText("Live", { exact: true }).waitFor();
  await visit.accessible("home of an empty pool");
  await visit.pictures("home-empty");
  await visit.close();
});

test("the page comes compressed, named by its content, and may load nothing from elsewhere", async () => {
  const visit = await Console.open(browser, pool);
  const { page } = visit;
  const assets: { path: string; headers: Record<string, string> }[] = [];
  page.on("response", (response) => {
    const { pathname } = new URL(response.url());
    if (pathname.startsWith("/assets/")) assets.push({ path: pathname, headers: response.headers() });
  });
  const answer = await page.goto(`${pool.url}/`);
  const policy = answer?.headers()["content-security-policy"] ?? "";
  expect(policy).toMatch(/^default-src 'self'; img-src 'self' blob:;/);
  expect(policy).not.toMatch(/unsafe|data:|\*|https?:/);
  expect(answer?.headers()["etag"]).toMatch(/^"/);
  await page.getByLabel("Token").waitFor();
  expect(assets.length).toBeGreaterThanOrEqual(2);
  for (const { path, headers } of assets) {
    expect(headers["content-encoding"], path).toMatch(/^(br|gzip)$/);
    expect(headers["etag"], path).toMatch(/^"[0-9a-f]{32}-(br|gzip)"$/);
    expect(headers["cache-control"], path).toContain("immutable");
  }
  // Nothing inline runs, whoever may have put it there.
  const ran = await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.inlineRan = true";
    document.body.append(script);
    return "inlineRan" in window;
  });
  expect(ran).toBe(false);
  expect(visit.errors.splice(0).join()).toContain("Content Security Policy");
  await visit.close();
});

test("a pasted token signs in, and signing out forgets it", async () => {
  const visit = await Console.open(browser, pool);
  const { page } = visit;
  await page.goto(`${pool.url}/runs`);
  await visit.accessible("sign in");
  await visit.pictures("sign-in");
  await page.getByLabel("Token").fill(`  ${pool.token} `);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Runs", exact: true }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Runs", exact: true }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  expect(await page.evaluate(() => [localStorage.length, sessionStorage.length])).toEqual([0, 0]);
  await visit.close();
});

test("a refused token gets a page that says why and what to do", async () => {
  const visit = await Console.open(browser, pool, { expected: (text) => text.includes("401") });
  const { page } = visit;
  await page.goto(`${pool.url}/#token=lsk_wrong`);
  await page.getByRole("alert").getByText("unauthorized").waitFor();
  await page.getByText("The token may have been revoked").waitFor();
  expect(page.url()).toBe(`${pool.url}/`);
  await visit.accessible("refused");
  await visit.pictures("refused");
  await page.getByLabel("Token").fill("lsk_wrong_again");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("unauthorized").waitFor();
  await visit.close();
});

test("tokens are made, used and revoked", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: (text) => text.includes("401") });
  const { page } = visit;
  await visit.go("/settings");
  await page.getByLabel("Name").fill("laptop");
  await page.getByLabel("Allows to").selectOption("read");
  await page.getByRole("button", { name: "Make a token" }).click();
  const secret = (await page.getByRole("group", { name: "the new token" }).innerText()).trim();
  expect(secret).toMatch(/^lsk_/);
  await visit.pictures("new-token", false);
  await page.getByRole("button", { name: "I have it" }).click();
  expect(await page.getByText(secret).count()).toBe(0);

  // A token for workers says whose machines it lets in.
  await page.getByLabel("Name").fill("from ada");
  await page.getByLabel("Allows to").selectOption("worker");
  await page.getByRole("radio", { name: "somebody else's" }).check();
  await page.getByLabel("Trust domain").fill("local");
  const make = page.getByRole("button", { name: "Make a token" });
  expect(await make.isDisabled()).toBe(true);
  await page.getByLabel("Trust domain").fill("ada");
  await visit.accessible("a token for workers");
  await visit.pictures("worker-token", false);
  await make.click();
  await page.getByRole("row").filter({ hasText: "from ada" }).getByText("somebody else's machines, domain ada").waitFor();
  await page.getByRole("button", { name: "I have it" }).click();

  // It reads, and is offered nothing that it may not do.
  const reader = await Console.open(browser, pool, { expected: (text) => text.includes("401") });
  await reader.page.goto(`${pool.url}/#token=${secret}`);
  await reader.page.getByRole("link", { name: "Runs", exact: true }).click();
  await reader.page.getByRole("heading", { name: "Runs", exact: true }).waitFor();
  expect(await reader.page.getByRole("link", { name: "New run" }).count()).toBe(0);

  await page.getByRole("button", { name: "revoke laptop" }).click();
  await page.getByRole("button", { name: "Revoke it" }).click();
  await page.getByText("“laptop” was revoked.").waitFor();
  await expect.poll(() => page.getByRole("row", { name: "laptop" }).count()).toBe(0);
  await reader.page.reload();
  await reader.page.getByText("The token may have been revoked").waitFor();
  await reader.close();
  await visit.close();
});
