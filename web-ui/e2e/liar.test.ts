// A worker that lies is seen in the votes, beside what was accepted. Needs workers on other machines: where the binary has
// none yet, this file has no tests to run.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NewToken, Run } from "../src/api/types";
import { Console, launch } from "./console";
import { canLie, eventually, joinOwn, Pool, prebuilt, startLiar } from "./pool";

describe.runIf(canLie())("with a lying worker", () => {
  let pool: Pool;
  let browser: Browser;
  let stopLiar: () => Promise<void>;

  beforeAll(async () => {
    [pool, browser] = [await Pool.start({ workers: 2, slots: 1 }), await launch()];
    const { secret } = await pool.post<NewToken>("/v1/tokens", { name: "liar", scopes: ["worker"], owned: true });
    stopLiar = startLiar(pool, secret);
    await eventually("the liar joins", async () => (await pool.workers()).filter((worker) => worker.standing === "active").length === 3);
  });
  afterAll(async () => {
    await stopLiar();
    await browser.close();
    await pool.stop();
  });

  test("the dissenter is marked, and the first differing byte is shown", async () => {
    const module = await pool.push(prebuilt("wordcount.wasm"), "wordcount.wasm");
    const run = await pool.run({ module, args: ["-n", "3"], stdin: { text: "to be or not to be\n" }, verify: { policy: "quorum", n: 3 }, wait_ms: 30_000 });
    expect(run.verdict.kind).toBe("agreed");
    expect(run.verdict.dissenters).toHaveLength(1);
    const visit = await Console.signedIn(browser, pool);
    const { page } = visit;
    await visit.go(`/runs/${run.id}`);
    await page.getByText(`2 of 3 workers agree that it exited with code 0. ${run.verdict.dissenters[0]} voted otherwise.`).waitFor();
    await page.getByText("dissented").first().waitFor();
    // What each vote says that the guest did, the dissenter's too.
    const votes = page.getByRole("table", { name: "Attempts and their votes" });
    expect(await votes.getByRole("cell", { name: "exited with code 0" }).count()).toBe(3);
    expect(run.attempts.map((attempt) => attempt.outcome)).toEqual(Array(3).fill({ kind: "exited", code: 0 }));
    // By which rule it was decided, and what that means for whoever named something else.
    const settled = page.getByRole("region", { name: "How the votes were settled" });
    await settled.getByText("No arbiter executed it for this decision.").waitFor();
    await settled.getByText(/2 equal votes decide/).waitFor();
    await settled.getByText(/alone named another result/).waitFor();
    await page.getByRole("button", { name: "Compare with what was accepted" }).click();
    await page.getByText(/The first differing byte of stdout is at offset/).waitFor();
    await visit.accessible("run with a dissent");
    await visit.pictures("dissent");
    await visit.close();
  });
});

test.runIf(canLie())("an arbiter settles what differs, and the page says with whom it agreed", async () => {
  const [pool, browser] = [await Pool.start({ workers: 2, slots: 1, words: ["--arbiters", "1"] }), await launch()];
  const { id: liar, stop } = await joinOwn(pool, "liar", "lie");
  try {
    const module = await pool.push(prebuilt("primes.wasm"), "primes.wasm");
    const arbiter = (await pool.workers()).find((worker) => worker.arbiter)?.id;
    let value = 1_000;
    const run = await eventually("the liar gets an attempt, and an arbiter settles it", async () => {
      value += 1;
      const done = await pool.run({ module, entry: "count", args: [`${value}`], verify: { policy: "standard" }, wait_ms: 60_000 });
      return done.verdict.dissenters.includes(liar) && done.attempts.some(({ worker }) => worker === arbiter) ? done : null;
    });
    const visit = await Console.signedIn(browser, pool);
    const { page } = visit;
    await visit.go(`/runs/${run.id}`);
    const settled = page.getByRole("region", { name: "How the votes were settled" });
    await settled.getByText(/^An arbiter executed it again, \d times?, and named A/).waitFor();
    // asked twice it is their trust that decides, not a weight
    const executions = run.attempts.filter(({ worker, won }) => worker === arbiter && won === true).length;
    await page.getByText(executions === 2 ? "Arbiters, who are trusted, executed it 2 times and found the same." : "The votes leave an error of").waitFor();
    await settled.getByText("Blamed", { exact: true }).waitFor();
    await settled.getByRole("link", { name: liar }).first().waitFor();
    await visit.accessible("a dispute that an arbiter settled");
    await visit.pictures("arbiter");
    expect((await pool.json<Run>(`/v1/runs/${run.id}`)).verdict.dissenters).toEqual([liar]);
    // What it did is told once, with what it voted for; since when it is suspect is a day.
    await visit.go(`/workers/${liar}`);
    const seen = page.getByRole("table", { name: "What was seen of it, newest first" });
    const ofRun = seen.getByRole("row").filter({ has: page.locator(`a[href="/runs/${run.id}"]`) });
    await ofRun.getByText("lone dissent").waitFor();
    await ofRun.getByRole("button", { name: /copy the digest/ }).waitFor();
    expect(await ofRun.count()).toBe(1);
    await page.getByText(/suspect since .*20\d\d/).waitFor();
    await visit.close();
  } finally {
    await stop();
    await browser.close();
    await pool.stop();
  }
});

test.runIf(canLie())("a dispute that was verified anew says so, and who did it", async () => {
  const [pool, browser] = [await Pool.start({ workers: 2, slots: 1, words: ["--arbiters", "1"] }), await launch()];
  const { id: liar, stop } = await joinOwn(pool, "liar", "lie");
  try {
    const module = await pool.push(prebuilt("wordcount.wasm"), "wordcount.wasm");
    const arbiter = (await pool.workers()).find((worker) => worker.arbiter)?.id ?? "";
    const run = await pool.run({ module, stdin: { text: "to be or not to be\n" }, verify: { policy: "quorum", n: 3 }, wait_ms: 60_000 });
    expect(run.verdict).toMatchObject({ kind: "agreed", dissenters: [liar] });
    const winner = run.attempts.find(({ won }) => won)?.worker ?? "";
    await pool.post(`/v1/workers/${winner}/quarantine`, { why: "bad memory" });
    await eventually("it is confirmed", async () => (await pool.json<Run>(`/v1/runs/${run.id}`)).verification?.conclusion === "confirmed");
    const visit = await Console.signedIn(browser, pool);
    const { page } = visit;
    await visit.go(`/runs/${run.id}`);
    const settled = page.getByRole("region", { name: "How the votes were settled" });
    await settled.getByText("No arbiter executed it for this decision.").waitFor();
    await settled.getByText("Verified anew later").waitFor();
    expect(await settled.innerText()).toContain(`Confirmed: the arbiter ${arbiter} computed it again and found what was accepted.`);
    await page.getByText("An arbiter, who is trusted, executed it again and found the same.").waitFor();
    await visit.accessible("a dispute that was verified anew");
    await visit.pictures("dispute-confirmed");
    // Why a worker is out is seen on any screen, and so is what can be done about it.
    await page.setViewportSize({ width: 390, height: 844 });
    await visit.go("/workers");
    const why = page.getByText("bad memory").first();
    const readmit = page.getByRole("button", { name: "Readmit" }).first();
    for (const part of [why, readmit, page.getByRole("button", { name: "Quarantine" }).first(), page.getByText("peers").first()]) {
      const box = await part.boundingBox();
      expect((box?.x ?? 0) + (box?.width ?? 999)).toBeLessThanOrEqual(390);
    }
    await visit.accessible("workers on a narrow screen");
    await visit.fits("workers on a narrow screen");
    await page.setViewportSize({ width: 1280, height: 900 });
    await visit.pictures("workers-quarantined");
    await visit.close();
  } finally {
    await stop();
    await browser.close();
    await pool.stop();
  }
});

test.runIf(canLie())("the votes of a revision that was wrong are compared too", async () => {
  const [pool, browser] = [await Pool.start({ workers: 1, slots: 1, words: ["--arbiters", "1"] }), await launch()];
  const liars = [await joinOwn(pool, "one", "collude:100"), await joinOwn(pool, "two", "collude:100")];
  try {
    const module = await pool.push(prebuilt("wordcount.wasm"), "wordcount.wasm");
    const wrong = await pool.run({ module, stdin: { text: "to be or not to be\n" }, verify: { policy: "quorum", n: 3 }, wait_ms: 60_000 });
    expect(wrong.verdict).toMatchObject({ kind: "agreed", votes: 2 });
    await pool.post(`/v1/workers/${liars[0]?.id}/quarantine`, { why: "it lied" });
    await eventually("it is corrected", async () => (await pool.json<Run>(`/v1/runs/${wrong.id}`)).revision === 2);
    const visit = await Console.signedIn(browser, pool);
    const { page } = visit;
    await visit.go(`/runs/${wrong.id}?revision=1`);
    const settled = page.getByRole("region", { name: "How the votes were settled" });
    await settled.getByText("Corrected: trusted votes named another result").waitFor();
    // whoever was outvoted by liars had been right
    await settled.getByText("Blamed wrongly").waitFor();
    await page.getByRole("button", { name: "Compare with what was accepted" }).click();
    await page.getByText(/The first differing byte of stdout is at offset/).waitFor();
    await visit.accessible("votes of a revision that was wrong");
    await visit.pictures("revision-1-compared");
    await settled.getByRole("link", { name: "revision 2" }).click();
    await page.getByText("This is revision 2.").waitFor();
    await visit.pictures("revision-2");
    await visit.close();
  } finally {
    for (const { stop } of liars) await stop();
    await browser.close();
    await pool.stop();
  }
});
