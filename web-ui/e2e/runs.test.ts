// The life of runs as somebody sees it: submitted, watched, killed, explained, filtered, canceled, run again, previewed.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Run, RunSummary, Token } from "../src/api/types";
import { Console, launch } from "./console";
import { eventually, Pool, prebuilt, startWorker } from "./pool";

let pool: Pool;
let browser: Browser;
const modules: Record<string, string> = {};

beforeAll(async () => {
  // No second attempts of slow ones: each attempt is there for a reason that a test gave.
  [pool, browser] = [await Pool.start({ workers: 4, slots: 1, settings: ["hedge_permille=0"] }), await launch()];
  for (const name of ["misbehave", "mandelbrot", "wordcount", "primes"]) {
    modules[name] = await pool.push(prebuilt(`${name}.wasm`), `${name}.wasm`);
  }
});
afterAll(async () => {
  await browser.close();
  await pool.stop();
});

/** What a test left behind would be seen by the next. */
afterEach(async () => {
  const { items } = await pool.json<{ items: RunSummary[] }>("/v1/runs?state=running");
  if (items.length > 0) await pool.post("/v1/runs/cancel", { ids: items.map((run) => run.id) });
});

const id = (address: string): string => /\/runs\/([0-9a-f-]{36})$/.exec(address)?.[1] ?? "";

/** The steps for which `misbehave work` uses so much CPU time on this machine. */
let stepsPerSecond = 0;
async function busyFor(seconds: number): Promise<string> {
  if (stepsPerSecond === 0) {
    const steps = 200_000_000;
    const run = await pool.run({ module: modules["misbehave"] ?? "", args: ["work", `${steps}`], verify: { policy: "once" }, wait_ms: 60_000 });
    stepsPerSecond = Math.round((steps / Math.max(run.attempts[0]?.cpu_ms ?? 0, 1)) * 1_000);
  }
  return String(stepsPerSecond * seconds);
}

test("a run is filled in, submitted with three voters, and watched until they agree", async () => {
  // Long enough for the page to be looked at before they end, also where the calibration was slow.
  const steps = await busyFor(4);
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go(`/submit?module=${modules["misbehave"]}`);
  await page.getByLabel("Arguments").fill(`work ${steps} 20`);
  await page.getByLabel("Environment").fill("LANG=C");
  await page.getByRole("radio", { name: "3 workers" }).check();
  await page.getByLabel("Timeout of an attempt").fill("300");
  await page.getByText("3 workers compute it; 2 equal results decide.").waitFor();
  const command = await page.getByRole("group", { name: "the command for a shell" }).innerText();
  expect(command).toContain("--quorum 3");
  expect(command).toContain(`-- work ${steps} 20`);
  await page.getByRole("button", { name: "curl" }).click();
  expect(await page.getByRole("group", { name: "the command for curl" }).innerText()).toContain('"policy": "quorum"');
  await visit.accessible("run form");
  await visit.pictures("submit");
  await page.getByRole("button", { name: "Run", exact: true }).click();

  await page.getByText(/It is running: \d of 3 votes are in/).waitFor();
  await page.getByText("live, not verified").first().waitFor();
  await visit.pictures("live");
  await page.getByText("All 3 workers agree that it exited with code 0.").waitFor({ timeout: 120_000 });
  await page.getByRole("group", { name: "standard output" }).getByText("steps, checksum").waitFor();
  expect(await page.getByText("live, not verified").count()).toBe(0);
  await visit.accessible("run");
  await visit.close();
});

test("the printed commands do the same, pasted into a shell as they are", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  const here = join(pool.directory, "shell");
  mkdirSync(join(here, "my photos"), { recursive: true });
  writeFileSync(join(here, "it's.txt"), "a file\n");
  writeFileSync(join(here, "my photos/b.txt"), "in a folder\n");
  await visit.go(`/submit?module=${modules["misbehave"]}`);
  await page.getByLabel("Arguments").fill(`args "it's" '$HOME \\'`);
  await page.getByLabel("Environment").fill("GREETING=it's `date`");
  await page.getByRole("radio", { name: "text", exact: true }).check();
  await page.getByLabel("Text of the standard input").fill("it's 100% \\n $HOME\nto be or not to be\n");
  await page.locator("input[webkitdirectory]").setInputFiles(join(here, "my photos"));
  await page.locator("input[type=file][multiple]").setInputFiles(join(here, "it's.txt"));
  await page.getByLabel("path of ./it's.txt in the guest").fill("/data/its.txt");
  await page.getByText("Limits, clock, seed, retries").click();
  await page.getByLabel("Seed of random numbers").fill("9007199254740991");
  await page.getByLabel("Clock starts at").fill("2026-02-03T04:05:06Z");
  await page.getByLabel("Memory").fill("128");
  await page.getByLabel("Priority").fill("-3");
  await page.getByLabel("Deadline of the run").fill("90");
  await expect.poll(() => page.getByText("uploaded", { exact: true }).count()).toBe(2);
  const cli = await page.getByRole("group", { name: "the command for a shell" }).innerText();
  await page.getByRole("button", { name: "curl" }).click();
  const curl = await page.getByRole("group", { name: "the command for curl" }).innerText();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByText("Both workers agree that it").waitFor({ timeout: 60_000 });
  const run = await pool.json<Run>(`/v1/runs/${id(page.url())}`);

  const submitted = JSON.parse(pool.shell(curl, here)) as Run;
  expect(submitted.run_key).toBe(run.run_key);
  expect(submitted.policy).toEqual(run.policy);
  expect(pool.shell(cli, here)).toBe(run.stdout?.text);
  const { items } = await pool.json<{ items: RunSummary[] }>("/v1/runs?limit=1");
  const typed = await pool.json<Run>(`/v1/runs/${items[0]?.id}`);
  expect(typed.spec).toEqual(run.spec);
  expect(typed.policy).toEqual(run.policy);

  // Of an earlier run its inputs are fetched from the server.
  await visit.go(`/submit?from=${run.id}`);
  await page.getByRole("button", { name: "remove /my photos" }).click();
  const again = await page.getByRole("group", { name: "the command for a shell" }).innerText();
  expect(again).toContain("lockstep blobs get sha256:");
  const empty = join(pool.directory, "empty");
  mkdirSync(empty);
  expect(pool.shell(again, empty)).toBe(run.stdout?.text);
  await visit.close();
});

test("files and folders are uploaded by their digest and reach the guest", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go(`/submit?module=${modules["misbehave"]}`);
  await page.getByLabel("Arguments").fill("cat /photos/deep/b.txt");
  const folder = join(pool.directory, "photos");
  mkdirSync(join(folder, "deep"), { recursive: true });
  writeFileSync(join(folder, "a.txt"), "first\n");
  writeFileSync(join(folder, "deep/b.txt"), "from the folder\n");
  await page.locator("input[webkitdirectory]").setInputFiles(folder);
  await page.getByLabel("path of ./photos in the guest").waitFor();
  await page.locator("input[type=file][multiple]").setInputFiles({ name: "c.txt", mimeType: "text/plain", buffer: Buffer.from("c") });
  await page.getByLabel("path of ./c.txt in the guest").fill("/data/c.txt");
  await expect.poll(() => page.getByText("uploaded", { exact: true }).count()).toBe(2);
  await page.getByRole("radio", { name: "a file" }).check();
  await page.getByRole("group", { name: "Standard input" }).locator("input[type=file]").setInputFiles({ name: "in.txt", mimeType: "text/plain", buffer: Buffer.from("in") });
  await expect.poll(() => page.getByText("uploaded", { exact: true }).count()).toBe(3);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("group", { name: "standard output" }).getByText("from the folder").waitFor();
  const run = await pool.json<Run>(`/v1/runs/${id(page.url())}`);
  expect(Object.keys(run.spec.files).sort()).toEqual(["/data/c.txt", "/photos"]);
  await visit.close();
});

test("functions are called with their numbers, and a run can be run again, changed", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go(`/submit?module=${modules["primes"]}`);
  await page.getByLabel("Entry").selectOption("count");
  await page.getByLabel("Argument 1").fill("1000");
  await page.getByRole("radio", { name: "2 workers" }).check();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByText("Both workers agree that it returned (168).").waitFor();
  await page.getByRole("link", { name: "Run again, changed" }).click();
  await expect.poll(() => page.getByLabel("Argument 1").inputValue()).toBe("1000");
  await page.getByLabel("Argument 1").fill("100");
  await page.getByRole("radio", { name: "one, unchecked" }).check();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByText("It returned (25). Nothing was compared: one worker ran it once.").waitFor();
  const first = id(page.url());
  await page.getByRole("button", { name: "Run again", exact: true }).click();
  await page.getByText("repeats").waitFor();
  expect(id(page.url())).not.toBe(first);
  await visit.close();
});

test("what the server refuses is said with its code and request", async () => {
  const visit = await Console.signedIn(browser, pool, { expected: (text) => text.includes("409") || text.includes("422") });
  const { page } = visit;
  await visit.go(`/submit?module=${modules["primes"]}`);
  await page.getByLabel("Entry").selectOption("count");
  await page.getByLabel("Argument 1").fill("many");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("alert").getByText("bad_entry").waitFor();
  expect(await page.getByRole("alert").innerText()).toMatch(/request [0-9a-f-]{36}/);
  await visit.close();
});

test("a killed runner is seen, and the rerun is explained in words", async () => {
  const steps = await busyFor(8);
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  const run = await pool.run({ module: modules["misbehave"] ?? "", args: ["work", steps], verify: { policy: "quorum", n: 2 }, timeout_ms: 300_000 });
  await visit.go(`/runs/${run.id}`);
  await page.getByText(/It is running: \d of 2 votes are in/).waitFor();
  await pool.killBusyRunner();
  await page.getByText("its runner was killed by signal 9").first().waitFor();
  await page.getByText(/the rerun avoids w\d/).waitFor();
  await page.getByText("Both workers agree that it exited with code 0.").waitFor({ timeout: 120_000 });
  expect(await page.getByRole("table", { name: "Attempts and their votes" }).getByRole("row").count()).toBe(4);
  await visit.accessible("run with a fault");
  await visit.pictures("killed");
  await visit.close();
});

test("the mandelbrot picture is shown", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go(`/submit?module=${modules["mandelbrot"]}`);
  await page.getByLabel("Arguments").fill("640 480 1000");
  await page.getByRole("radio", { name: "3 workers" }).check();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const image = page.getByRole("img", { name: "what the run drew: mandelbrot.png" });
  await image.waitFor({ timeout: 60_000 });
  await expect.poll(() => image.evaluate((element) => (element as HTMLImageElement).naturalWidth)).toBe(640);
  expect(await image.getAttribute("src")).toMatch(/^blob:/);
  await visit.picture("mandelbrot");
  await page.getByRole("button", { name: "Show its bytes" }).click();
  await page.getByText("89 50 4e 47 0d 0a 1a 0a").waitFor();
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "download /out/mandelbrot.png" }).click()]);
  expect(file.suggestedFilename()).toBe("mandelbrot.png");
  const stored = await pool.fetch(`/v1/runs/${id(page.url())}/files/out/mandelbrot.png`);
  expect(readFileSync(await file.path())).toEqual(Buffer.from(await stored.arrayBuffer()));
  await visit.close();
});

test("the receipt of a result is downloaded, and the command beside it accepts it", async () => {
  const run = await pool.run({ module: modules["primes"] ?? "", entry: "count", args: ["500"], verify: { policy: "quorum", n: 3 }, wait_ms: 60_000 });
  const fleeting = await pool.run({ module: modules["primes"] ?? "", entry: "count", args: ["500"], durable: false, verify: { policy: "quorum", n: 2 }, wait_ms: 60_000 });
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go(`/runs/${run.id}`);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Receipt", exact: true }).click()]);
  expect(download.suggestedFilename()).toBe(`${run.id}.receipt.json`);
  const here = join(pool.directory, "receipts");
  mkdirSync(here);
  await download.saveAs(join(here, download.suggestedFilename()));
  expect(JSON.parse(readFileSync(join(here, download.suggestedFilename()), "utf8"))).toHaveProperty("payloadType", "application/vnd.in-toto+json");
  pool.shell("lockstep keys --json > keys.json", here);
  const command = (await page.getByRole("group", { name: "the command that checks the receipt" }).innerText()).trim();
  const report = JSON.parse(pool.shell(`${command} --json`, here)) as { valid: boolean; trust: string; run: string; result: string; votes: unknown[] };
  expect(report).toMatchObject({ valid: true, trust: "trusted", run: run.id, result: run.result });
  expect(report.votes).toHaveLength(3);

  // What is only in memory is not signed for.
  await visit.go(`/runs/${fleeting.id}`);
  await page.getByText("agree that it returned (95)").waitFor();
  expect(await page.getByRole("button", { name: "Receipt", exact: true }).count()).toBe(0);
  await visit.close();
});

test("runs are filtered in the address, canceled and run again, several at once", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  const looping = { module: modules["misbehave"] ?? "", args: ["loop"], verify: { policy: "once" as const }, timeout_ms: 600_000 };
  const runs = await Promise.all([pool.run(looping), pool.run(looping), pool.run(looping)]);
  await visit.go("/runs");
  await page.getByLabel("State").selectOption("running");
  await expect.poll(() => page.url()).toContain("state=running");
  await expect.poll(() => page.getByRole("row").count()).toBe(4);
  await visit.accessible("runs");
  await page.getByRole("checkbox", { name: "choose all runs of this page" }).check();
  await page.getByRole("group", { name: "Chosen runs" }).getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Cancel them" }).click();
  await page.getByText("3 runs canceled.").waitFor();
  await page.getByText("No run matches").waitFor();
  for (const run of runs) expect((await pool.json<Run>(`/v1/runs/${run.id}`)).state).toBe("canceled");

  await page.getByLabel("State").selectOption("succeeded");
  await page.getByLabel("Module").selectOption({ label: "primes.wasm" });
  await expect
    .poll(async () => {
      const names = await page.locator("tbody tr td a[href^='/modules/']").allInnerTexts();
      return names.length > 0 && names.every((name) => name === "primes.wasm");
    })
    .toBe(true);
  // The address is the view: opened anew it shows the same.
  const rows = await page.getByRole("row").count();
  await page.reload();
  await expect.poll(() => page.getByRole("row").count()).toBe(rows);
  await page.getByRole("checkbox", { name: /^choose run/ }).first().check();
  await page.getByRole("group", { name: "Chosen runs" }).getByRole("button", { name: "Run again" }).click();
  await page.getByText("1 run submitted again.").waitFor();
  await expect.poll(() => page.getByRole("row").count()).toBe(rows + 1);

  await page.getByLabel("Worker").selectOption("w1");
  await expect.poll(() => page.url()).toContain("worker=w1");
  await page.getByRole("button", { name: "Clear filters" }).click();
  await expect.poll(() => page.url()).toBe(`${pool.url}/runs`);
  const wanted = runs[1]?.id ?? "";
  await page.getByPlaceholder("Id, digest or words").fill(wanted);
  await expect.poll(() => page.url()).toContain(`text=${wanted}`);
  await expect.poll(() => page.getByRole("row").count()).toBe(2);
  await page.getByLabel("Submitted").selectOption("own");
  await page.getByLabel("until").fill("2026-01-01T00:00");
  await page.getByText("No run matches").waitFor();
  expect(page.url()).toContain("until=2026-01-01T00");
  await page.getByRole("button", { name: "Clear filters" }).click();
  await expect.poll(() => page.url()).toBe(`${pool.url}/runs`);
  await visit.close();
});

test("one run is canceled on its page", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  const run = await pool.run({ module: modules["misbehave"] ?? "", args: ["loop"], timeout_ms: 600_000 });
  await visit.go(`/runs/${run.id}`);
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await page.getByRole("button", { name: "Cancel the run" }).click();
  await page.getByText("It was canceled before it was decided.").waitFor();
  expect(await page.getByRole("button", { name: "Cancel", exact: true }).count()).toBe(0);
  expect(await page.getByRole("button", { name: "Receipt", exact: true }).count()).toBe(0);
  await visit.close();
});

test("workers are drained and readmitted after a question", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/workers/w4");
  await page.getByRole("button", { name: "Drain" }).click();
  await page.getByRole("button", { name: "Drain it" }).click();
  await page.getByText("draining", { exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Readmit" }).click();
  await page.getByRole("button", { name: "Readmit it" }).click();
  await page.getByText("active", { exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Quarantine" }).click();
  await page.getByLabel("Why?").fill("it hums");
  await page.getByRole("button", { name: "Quarantine it" }).click();
  await page.getByText("it hums").first().waitFor();
  await page.getByRole("button", { name: "Readmit" }).click();
  await page.getByRole("button", { name: "Readmit it" }).click();
  await eventually("it works again", async () => (await pool.workers()).every((worker) => worker.standing === "active"));
  await visit.accessible("worker");
  await visit.close();
});

test("a machine joins by the command that the page shows", async () => {
  const visit = await Console.signedIn(browser, pool);
  const { page } = visit;
  await visit.go("/workers");
  const make = page.getByRole("button", { name: "Make a token for it" });
  expect(await page.getByRole("radio", { name: "my own machines" }).isChecked()).toBe(true);
  await page.getByRole("radio", { name: "somebody else's" }).check();
  // strangers belong to somebody
  expect(await make.isDisabled()).toBe(true);
  await page.getByLabel("Trust domain").fill("attic");
  await visit.accessible("the choice whose machines they are");
  await visit.pictures("whose");
  await make.click();
  await page.getByText("somebody else's machines, domain attic").waitFor();
  const command = page.getByRole("group", { name: "the command that adds a worker" });
  await expect.poll(() => command.innerText()).toContain("--token lsk_");
  const stop = startWorker(await command.innerText());
  try {
    await page.getByRole("row").filter({ hasText: "attic" }).getByText("active").waitFor();
    expect((await pool.workers()).find(({ domain }) => domain === "attic")).toMatchObject({ owned: false, arbiter: false });
    await visit.accessible("workers with one from elsewhere");
    await page.getByRole("button", { name: "Make another one" }).click();
    await page.getByRole("radio", { name: "an arbiter of my own" }).check();
    await make.click();
    await page.getByText("It lets in an arbiter and nothing else").waitFor();
    await page.getByRole("button", { name: "Make another one" }).click();
    await page.getByRole("radio", { name: "my own machines" }).check();
    await page.getByLabel("Trust domain").fill("rack-2");
    await make.click();
    await page.getByText("own machines, domain rack-2").waitFor();
    const { items } = await pool.json<{ items: Token[] }>("/v1/tokens");
    expect(items.filter(({ scopes }) => scopes.includes("worker")).map(({ domain, owned, arbiter }) => ({ domain, owned, arbiter }))).toEqual(
      expect.arrayContaining([
        { domain: "attic", owned: false, arbiter: false },
        { domain: "local", owned: true, arbiter: true },
        { domain: "rack-2", owned: true, arbiter: false },
      ]),
    );
  } finally {
    await stop();
  }
  await visit.close();
});
