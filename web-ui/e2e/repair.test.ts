// A result that two colluders got through, and what becomes of it when one of them is caught: the page says so, at once and
// wherever the run is shown, and keeps what was wrong for whoever wants to see it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Repair, Run } from "../src/api/types";
import { Console, launch } from "./console";
import { canLie, eventually, joinOwn, Pool, prebuilt } from "./pool";

describe.runIf(canLie())("what rested on a worker that was caught", () => {
  let pool: Pool;
  let browser: Browser;
  let module: string;
  const stops: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    [pool, browser] = [await Pool.start({ workers: 0, slots: 1, words: ["--arbiters", "1"] }), await launch()];
    module = await pool.push(prebuilt("misbehave.wasm"), "misbehave.wasm");
  });
  afterAll(async () => {
    for (const stop of stops) await stop();
    await browser.close();
    await pool.stop();
  });

  async function joins(name: string, wrong?: string): Promise<string> {
    const { id, stop } = await joinOwn(pool, name, wrong);
    stops.push(stop);
    return id;
  }

  const compute = (seed: number): Promise<Run> =>
    pool.run({ module, args: ["work", "10000"], seed, verify: { policy: "quorum", n: 2 }, wait_ms: 60_000 });

  const repaired = (worker: string): Promise<Repair> =>
    eventually("everything is verified anew", async () => {
      const { items } = await pool.json<{ items: Repair[] }>("/v1/repairs");
      return items.find((repair) => repair.worker === worker && repair.state === "done");
    });

  test("a wrong result is corrected while somebody looks at it, and both revisions stay readable", async () => {
    const [liar] = [await joins("one", "collude:100"), await joins("two", "collude:100")];
    const before = await compute(1);
    expect(before).toMatchObject({ state: "succeeded", revision: 1, verdict: { kind: "agreed" } });
    const visit = await Console.signedIn(browser, pool);
    const { page } = visit;
    await visit.go(`/runs/${before.id}`);
    await page.getByText("Both workers agree that it exited with code 0.").waitFor();
    const stdout = page.getByRole("group", { name: "standard output" });
    expect(await stdout.innerText()).toContain("a conspiracy");

    await pool.post(`/v1/workers/${liar}/quarantine`, { why: "it lied" });
    // Nobody loads the page again.
    await page.getByText("This run was corrected: its first result was wrong. This is revision 2.").waitFor({ timeout: 60_000 });
    await page.getByText("What was wrong:").waitFor();
    await expect.poll(() => page.getByRole("region", { name: /This run was corrected/ }).innerText()).toContain("standard output");
    await expect.poll(async () => (await stdout.count()) === 0 || !(await stdout.innerText()).includes("a conspiracy")).toBe(true);
    const revisions = page.getByRole("table", { name: "Revisions of this run" });
    await expect.poll(() => revisions.getByRole("row").count()).toBe(3);
    // Who computed it anew is trusted, and what that weighs is shown.
    const votes = page.getByRole("table", { name: "Attempts and their votes" });
    await votes.getByText("arbiter").first().waitFor();
    await votes.getByRole("columnheader", { name: "Error" }).waitFor();
    await visit.accessible("a corrected run");
    await visit.pictures("corrected");

    await page.getByRole("link", { name: "Show revision 1" }).click();
    await page.getByText("You look at revision 1, which was wrong.").waitFor();
    expect(page.url()).toContain("revision=1");
    await stdout.getByText("a conspiracy").waitFor();
    expect(await votes.getByRole("row").count()).toBe(3);
    await visit.accessible("a revision that was wrong");
    await visit.pictures("revision-1");
    // Each revision has a receipt of its own.
    const present = await pool.json<Run>(`/v1/runs/${before.id}`);
    for (const [revision, result] of [[1, before.result], [2, present.result]] as const) {
      const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: `receipt of revision ${revision}` }).click()]);
      const path = join(pool.directory, file.suggestedFilename());
      await file.saveAs(path);
      const { payload } = JSON.parse(readFileSync(path, "utf8")) as { payload: string };
      const { predicate } = JSON.parse(Buffer.from(payload, "base64").toString()) as { predicate: { revision: number; result: string } };
      expect(predicate).toMatchObject({ revision, result });
    }
    await page.getByRole("link", { name: "Show what is right (revision 2)" }).click();
    await page.getByText("This is revision 2.").waitFor();
    expect(page.url()).not.toContain("revision");
    await page.goBack();
    await page.getByText("You look at revision 1, which was wrong.").waitFor();

    await visit.go("/runs");
    await page.getByRole("row").filter({ hasText: before.id.slice(-12) }).getByText("corrected", { exact: true }).waitFor();
    await visit.close();
    await repaired(liar);
  });

  test("what rested on a worker is listed with it, and stands on 390 pixels too", async () => {
    const visit = await Console.signedIn(browser, pool, { width: 390 });
    const { page } = visit;
    await visit.go("/workers");
    const liar = (await pool.workers()).find((worker) => worker.name === "one");
    await page.getByText(/It had voted for 1 result that won; 1 would not be there without its vote: 1 corrected\./).first().waitFor();
    await visit.accessible("workers with repairs");
    await visit.fits("workers with repairs");
    await visit.pictures("repairs");
    await visit.go(`/workers/${liar?.id}`);
    await page.getByRole("heading", { name: "What rested on it" }).waitFor();
    await page.getByText("1 corrected").waitFor();
    await visit.accessible("a worker with a repair");
    await visit.fits("a worker with a repair");
    await visit.go("/runs");
    await visit.fits("runs with a correction");
    const { items } = await pool.json<{ items: Run[] }>("/v1/runs");
    for (const path of [`/runs/${items[0]?.id}`, `/runs/${items[0]?.id}?revision=1`]) {
      await visit.go(path);
      await page.getByRole("table", { name: "Revisions of this run" }).waitFor();
      await visit.fits(path);
    }
    await visit.close();
  });

  test("what was right is confirmed, and says so", async () => {
    for (const worker of await pool.workers()) {
      if (!worker.arbiter && worker.standing === "active") await pool.post(`/v1/workers/${worker.id}/quarantine`, { why: "it lied too" });
    }
    const [suspect] = [await joins("three"), await joins("four")];
    const run = await compute(2);
    expect(run.verdict).toMatchObject({ kind: "agreed", votes: 2 });
    await pool.post(`/v1/workers/${suspect}/quarantine`, { why: "somebody thought so" });
    await repaired(suspect);
    const visit = await Console.signedIn(browser, pool, { dark: true });
    const { page } = visit;
    await visit.go(`/runs/${run.id}`);
    await page.getByText("Verified anew and confirmed").waitFor();
    await page.getByText("Trusted voters computed it again and found the same.").waitFor();
    expect(await page.getByRole("table", { name: "Revisions of this run" }).count()).toBe(0);
    await visit.accessible("a confirmed run in dark");
    await visit.pictures("confirmed");
    // A revision that there never was is the present one.
    await visit.go(`/runs/${run.id}?revision=1`);
    await page.getByText("Verified anew and confirmed").waitFor();
    await visit.close();
  });
});
