// Modules: upload with progress, skip, cancel, retry; search, quarantine, delete.

import { readFileSync } from "node:fs";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Console, launch } from "./console";
import { Pool, prebuilt, prebuiltPath } from "./pool";

let pool: Pool;
let browser: Browser;

beforeAll(async () => {
  [pool, browser] = [await Pool.start({ workers: 2, slots: 1 }), await launch()];
});
afterAll(async () => {
  await browser.close();
  await pool.stop();
});

const FILES = "input[type=file][accept]";

/** The module with a custom section, which changes its digest and its size but not what it does. */
function padded(name: string, bytes: number): Buffer {
  const length: number[] = [];
  for (let left = bytes + 2; ; left >>>= 7) {
    length.push(left > 127 ? (left & 127) | 128 : left);
    if (left <= 127) break;
  }
  return Buffer.concat([prebuilt(name), Buffer.from([0, ...length, 1, 0x70]), Buffer.alloc(bytes, 1)]);
}

/** Makes the connection slow, and quick again; −1 is without a bound. */
async function connection(visit: Console): Promise<(bytesPerSecond: number) => Promise<void>> {
  const session = await visit.context.newCDPSession(visit.page);
  await session.send("Network.enable");
  const rest = { offline: false, latency: 0, downloadThroughput: -1 };
  return async (uploadThroughput) => {
    await session.send("Network.emulateNetworkConditions", { ...rest, uploadThroughput });
  };
}

test("several modules are uploaded at once, and what the server has is not sent again", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/modules");
  await page.getByText("No modules yet").waitFor();
  await page.locator(FILES).setInputFiles(["wordcount.wasm", "mandelbrot.wasm", "primes.wasm"].map(prebuiltPath));
  await expect.poll(() => page.getByRole("group", { name: "Uploads" }).getByText("uploaded").count()).toBe(3);
  await page.getByRole("cell", { name: "wordcount.wasm", exact: true }).waitFor();
  await page.locator(FILES).setInputFiles(prebuiltPath("primes.wasm"));
  await page.getByText("already there, not sent again").waitFor();

  await page.keyboard.press("/");
  await page.keyboard.type("mandel");
  await expect.poll(() => page.getByRole("row").count()).toBe(2);
  expect(page.url()).toContain("text=mandel");
  await visit.accessible("modules");
  await visit.close();
});

test("modules are dropped onto the page", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/modules");
  const bytes = Array.from(prebuilt("hello.wasm"));
  const transfer = await page.evaluateHandle((content) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(content)], "dropped.wasm", { type: "application/wasm" }));
    return data;
  }, bytes);
  const zone = page.getByRole("group", { name: "Upload modules" });
  await zone.dispatchEvent("dragenter", { dataTransfer: transfer });
  await zone.dispatchEvent("dragover", { dataTransfer: transfer });
  await zone.dispatchEvent("drop", { dataTransfer: transfer });
  await page.getByRole("group", { name: "Uploads" }).getByText("uploaded").waitFor();
  await page.getByRole("link", { name: "dropped.wasm" }).first().waitFor();
  await visit.close();
});

test("an upload shows its progress, can be canceled, and tried again", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/modules");
  const upTo = await connection(visit);
  await upTo(300_000);
  const file = { name: "large.wasm", mimeType: "application/wasm", buffer: padded("hello.wasm", 1_500_000) };
  await page.locator(FILES).setInputFiles(file);
  const bar = page.getByRole("progressbar", { name: "uploading: large.wasm" });
  await bar.waitFor();
  const value = () => bar.evaluate((element) => (element as HTMLProgressElement).value);
  await expect.poll(value, { timeout: 15_000 }).toBeGreaterThan(0);
  await visit.pictures("upload", false);
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("canceled", { exact: true }).waitFor();
  await upTo(-1);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("group", { name: "Uploads" }).getByText("uploaded").waitFor();
  await visit.close();
});

test("a dropped connection is tried again by itself", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: (text) => text.includes("ERR_") });
  const { page } = visit;
  await visit.go("/modules");
  let dropped = 0;
  await page.route("**/v1/modules/sha256*", async (route) => {
    if (route.request().method() === "PUT" && (dropped += 1) === 1) await route.abort("connectionreset");
    else await route.continue();
  });
  await page.locator(FILES).setInputFiles({ name: "again.wasm", mimeType: "application/wasm", buffer: padded("hello.wasm", 100) });
  await page.getByRole("group", { name: "Uploads" }).getByText("uploaded").waitFor();
  expect(dropped).toBe(2);
  await visit.close();
});

test("what is no module is refused with a reason", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: (text) => text.includes("422") });
  const { page } = visit;
  await visit.go("/modules");
  await page.locator(FILES).setInputFiles({ name: "text.wasm", mimeType: "application/wasm", buffer: Buffer.from("(module)") });
  await page.getByRole("group", { name: "Uploads" }).getByText("module_refused").waitFor();
  await visit.close();
});

test("the page of a module explains it, and its operator can take it out of service and delete it", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: (text) => text.includes("404") });
  const { page } = visit;
  await visit.go("/modules");
  await page.getByRole("link", { name: "wordcount.wasm", exact: true }).first().click();
  await page.getByText("Every machine computes the same bytes").waitFor();
  await page.getByRole("cell", { name: "_start" }).waitFor();
  await visit.accessible("module");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
  expect(readFileSync(await download.path())).toEqual(Buffer.from(prebuilt("wordcount.wasm")));

  await page.getByRole("button", { name: "Quarantine" }).click();
  await page.getByLabel("Why?").fill("it counts wrongly");
  await visit.accessible("question");
  await visit.pictures("question", false);
  await page.getByRole("button", { name: "Quarantine it" }).click();
  await page.getByText("it counts wrongly").waitFor();
  expect(await page.getByRole("link", { name: "Run it" }).count()).toBe(0);
  await page.getByRole("button", { name: "Readmit" }).click();
  await page.getByRole("link", { name: "Run it" }).waitFor();

  await page.getByRole("button", { name: "Delete" }).click();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByText("The module was deleted.").waitFor();
  await expect.poll(() => page.getByRole("cell", { name: "wordcount.wasm", exact: true }).count()).toBe(0);
  await visit.close();
});
