// The console in Chromium, watched: errors on its console, requests that leave its origin, pages that are hard to use.

import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { expect, onTestFailed } from "vitest";
import type { Pool } from "./pool";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = process.env["LOCKSTEP_SCREENSHOTS"];
/** A folder with a page (`npm run build`) that is tested instead of the one in the binary, which then need not be built anew. */
const PAGE = process.env["LOCKSTEP_PAGE"];

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", args: FLAGS });
}

export interface ConsoleOptions {
  dark?: boolean;
  width?: number;
  /** Messages that a test provokes on purpose. */
  expected?: (text: string, address: string) => boolean;
}

export class Console {
  readonly errors: string[] = [];
  readonly strangers: string[] = [];

  private constructor(
    readonly page: Page,
    readonly context: BrowserContext,
    private readonly pool: Pool,
  ) {}

  /** A fresh profile that is not signed in. */
  static async open(browser: Browser, pool: Pool, options: ConsoleOptions = {}): Promise<Console> {
    const { dark = false, width = 1280, expected = () => false } = options;
    const context = await browser.newContext({
      viewport: { width, height: width < 600 ? 844 : 900 },
      colorScheme: dark ? "dark" : "light",
      reducedMotion: "reduce",
      acceptDownloads: true,
    });
    if (PAGE !== undefined) {
      await context.route(
        (url) => url.origin === pool.url && !/^\/v1\//.test(url.pathname),
        async (route) => {
          const file = join(PAGE, new URL(route.request().url()).pathname);
          const isFile = /\.\w+$/.test(file) && existsSync(file);
          await route.fulfill({ path: isFile ? file : join(PAGE, "index.html") });
        },
      );
    }
    const page = await context.newPage();
    onTestFailed(async () => {
      if (SHOTS !== undefined) await page.screenshot({ path: join(SHOTS, "failed.png"), fullPage: true }).catch(() => undefined);
    });
    const console = new Console(page, context, pool);
    page.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      const { url } = message.location();
      // Whether the server has an input already is asked with HEAD, and "no" is an answer that browsers report as an error.
      const isQuestion = /status of 404/.test(message.text()) && /\/v1\/blobs\/sha256/.test(url);
      if (!isQuestion && !expected(message.text(), url)) console.errors.push(`${message.text()} (${url})`);
    });
    page.on("pageerror", (error) => console.errors.push(error.stack ?? error.message));
    page.on("request", (request) => {
      const address = request.url();
      if (!address.startsWith(`${pool.url}/`) && !/^blob:/.test(address)) console.strangers.push(address);
    });
    return console;
  }

  /** Signed in by the printed link. */
  static async signedIn(browser: Browser, pool: Pool, options: ConsoleOptions = {}): Promise<Console> {
    const console = await Console.open(browser, pool, options);
    await console.page.goto(`${pool.url}/#token=${pool.token}`);
    const isBuilt = (await console.page.getByText("built without its web UI").count()) === 0;
    if (!isBuilt) throw new Error("the binary has no page inside: npm run build, then cargo build");
    await console.page.getByRole("navigation", { name: "Pages", exact: true }).waitFor();
    return console;
  }

  async go(path: string): Promise<void> {
    await this.page.goto(this.pool.url + path);
    await this.settled();
  }

  /** Nothing is loading any more. */
  async settled(): Promise<void> {
    await this.page.locator("main").waitFor();
    await expect.poll(() => this.page.getByText("Loading …").count(), { timeout: 15_000 }).toBe(0);
  }

  /** No serious violation of the accessibility rules on the page as it is now. */
  async accessible(name: string): Promise<void> {
    await this.page.evaluate(AXE);
    const violations = await this.page.evaluate(async () => {
      const { axe } = globalThis as unknown as { axe: { run: (options: unknown) => Promise<{ violations: Violation[] }> } };
      interface Violation {
        id: string;
        impact: string;
        nodes: { html: string; failureSummary: string }[];
      }
      return (await axe.run({ resultTypes: ["violations"] })).violations;
    });
    const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const words = grave.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`).join("; ")}`);
    expect(words, `${name} has accessibility problems`).toEqual([]);
  }

  /** Nothing is wider than the window. */
  async fits(name: string): Promise<void> {
    const over = await this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(over, `${name} is wider than the window`).toBeLessThanOrEqual(0);
  }

  /** A picture for people to look at, if they asked for one (LOCKSTEP_SCREENSHOTS=folder). */
  async picture(name: string, fullPage = true): Promise<void> {
    if (SHOTS === undefined) return;
    mkdirSync(SHOTS, { recursive: true });
    await this.page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage });
  }

  /** The same in light, dark and narrow, of a page that is only now as it is. */
  async pictures(name: string, fullPage = true): Promise<void> {
    if (SHOTS === undefined) return;
    const size = this.page.viewportSize() ?? { width: 1280, height: 900 };
    await this.picture(`${name}-light`, fullPage);
    await this.page.emulateMedia({ colorScheme: "dark" });
    await this.picture(`${name}-dark`, fullPage);
    await this.page.emulateMedia({ colorScheme: "light" });
    await this.page.setViewportSize({ width: 390, height: 844 });
    await this.picture(`${name}-narrow`, fullPage);
    await this.page.setViewportSize(size);
  }

  /** Ends the visit; nothing may have gone wrong in it. */
  async close(): Promise<void> {
    await this.context.close();
    expect(this.errors, "errors on the browser's console").toEqual([]);
    expect(this.strangers, "requests that left the origin").toEqual([]);
  }
}
