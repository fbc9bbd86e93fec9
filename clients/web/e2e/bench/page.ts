// How a page stands a burst of results. Prints figures and asserts only that
// the page shows what was published: machines differ. make bench-page
//
// The results are published to a real server while the network keeps what it
// sends to the page, and then come at BENCH_RATE a second, however fast the
// server's store is; one case has them as the server sends them. The page is
// measured from within, by its own performance API, and by the browser's trace
// where only processor time tells something, on a machine that does other things
// as well. BENCH_PROFILES=dir keeps profiles and traces, TCM_PICTURES=dir pictures.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@tcmanager/client";
import { afterAll, beforeAll, expect, it } from "vitest";
import { BurstRun } from "../burst";
import { Network } from "../network";
import { QuietBrowser, type QuietPage } from "../quiet-browser";
import { TestServer } from "../server";
import { type Figures, meterScript } from "./meter";
import { longestTasksMs, Trace } from "./trace";

const results = Number(process.env.BENCH_RESULTS ?? 200_000);
/** How many results a second the network brings. */
const rate = Number(process.env.BENCH_RATE ?? 70_000);
const only = process.env.BENCH_ONLY;
const pictures = process.env.TCM_PICTURES;
/** Where to write a profile of each case, for DevTools; a profiled page is slower. */
const profiles = process.env.BENCH_PROFILES;
/** Every so often somebody clicks. */
const clickEveryMs = 250;
const size = { width: 1440, height: 1100 };

const network = new Network();
let server: TestServer;
let browser: QuietBrowser;
let token = "";
/** What other programs don't stretch: processor time of the page's main thread, all of it and that of its longest task. */
interface ProcessorTime {
  readonly cpuMs: number;
  readonly longestTaskCpuMs: number;
  readonly tasksOver50CpuMs: number;
}
const table: Record<string, ProcessorTime & Figures> = {};

beforeAll(async () => {
  await network.open();
  server = await TestServer.start(["--dev", "--allowed-origins", network.url]);
  network.leadTo(server);
  browser = await QuietBrowser.start();
  ({ token } = await caller().identity.signInDev({ userId: "demo-tester" }));
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await network.close();
  // biome-ignore lint/suspicious/noConsole: it is what the program is for
  console.table(table);
});

function caller() {
  return createClient({ baseUrl: server.url, token: () => token });
}

async function open(path: string): Promise<QuietPage> {
  const signedIn = JSON.stringify(JSON.stringify({ token, devUser: "" }));
  const script = `localStorage.setItem("tcm.token", ${signedIn}); ${meterScript}`;
  const page = await browser.open(new URL(path, network.url).href, script, size);
  await page.until(`document.querySelector('[data-testid="connection-state"][data-state="live"]')`);
  return page;
}

/** Waits until the server has all of a run. */
async function committed(run: BurstRun): Promise<void> {
  const runId = await run.id();
  const counted = async () => (await caller().execution.getRun({ runId })).run?.counts?.total;
  await expect.poll(counted, { timeout: 180_000, interval: 200 }).toBe(run.results);
}

/** Waits until no more comes, and returns how many bytes that are. */
async function settled(bytes: () => number): Promise<number> {
  for (let [before, quietMs] = [-1, 0]; quietMs < 1_000; quietMs += 100) {
    if (bytes() !== before) [before, quietMs] = [bytes(), 0];
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return bytes();
}

interface Place {
  readonly x: number;
  readonly y: number;
}

/** Clicks here and there until it is told to stop. */
function keepClicking(page: QuietPage, places: readonly Place[]): () => Promise<void> {
  let going = true;
  const done = (async () => {
    for (let at = 0; going; at++) {
      const place = places[at % places.length];
      if (place !== undefined) await page.press(place);
      await new Promise((resolve) => setTimeout(resolve, clickEveryMs));
    }
  })();
  return async () => {
    going = false;
    await done;
  };
}

async function placesOf(page: QuietPage, ...selectors: readonly string[]): Promise<readonly Place[]> {
  return await page.evaluate<readonly Place[]>(`${JSON.stringify(selectors)}.map((selector) => {
    const { x, y, width, height } = document.querySelector(selector).getBoundingClientRect();
    return { x: x + Math.min(width / 2, 200), y: y + height / 2 };
  })`);
}

const countIs = (name: string, value: number): string =>
  `document.querySelector('[data-testid="${name}"][data-value="${value}"]')`;

/** What the page shows of each package, in words. */
const tallies = `[...document.querySelectorAll('[data-testid="test-row"][data-test=""]')].map((row) =>
  row.dataset.suite + ": " + (row.querySelector("[title*=' passed of ']")?.title ?? ""))`;

function told(run: BurstRun): readonly string[] {
  return run.counts.map(
    ({ suite, total, failed }) =>
      `${suite}: ${failed > 0 ? `${failed} failed, ` : ""}${total - failed} passed of ${total}`,
  );
}

/** Saves how the page looks, wide and narrow, by day and by night, if somebody wants to see it. */
async function picture(page: QuietPage, name: string): Promise<void> {
  if (pictures === undefined) return;
  await mkdir(pictures, { recursive: true });
  for (const [look, { width, height }] of [
    ["wide", size],
    ["narrow", { width: 420, height: 900 }],
  ] as const) {
    // In a narrow window they cover the rest.
    if (look === "narrow")
      await page.evaluate(`document.querySelector('[aria-label="Close details"]')?.click()`);
    for (const dark of [false, true]) {
      await page.resize({ width, height, dark });
      await page.picture(join(pictures, `${name}, ${look}, ${dark ? "dark" : "light"}.png`));
    }
  }
  await page.resize(size);
}

/** The processor time that the page's main thread has spent. */
async function spentMs(page: QuietPage): Promise<number> {
  await page.send("Performance.enable", { timeDomain: "threadTicks" });
  const { metrics } = await page.send<{
    readonly metrics: readonly { readonly name: string; readonly value: number }[];
  }>("Performance.getMetrics");
  return Math.round((metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0) * 1000);
}

/** Profiles the page until the function it returns is called. */
async function profile(page: QuietPage, name: string): Promise<() => Promise<void>> {
  if (profiles === undefined) return async () => {};
  await page.send("Profiler.enable");
  await page.send("Profiler.start");
  return async () => {
    const { profile: taken } = await page.send<{ readonly profile: object }>("Profiler.stop");
    await save(`${name}.cpuprofile`, taken);
  };
}

async function save(name: string, what: object): Promise<void> {
  if (profiles === undefined) return;
  await mkdir(profiles, { recursive: true });
  await writeFile(join(profiles, name), JSON.stringify(what));
}

interface Case {
  readonly name: string;
  readonly path: (run: BurstRun) => Promise<string>;
  /** What is to be seen before the burst. */
  readonly prepare: (page: QuietPage) => Promise<readonly Place[]>;
  /** True when all has come. */
  readonly complete: (run: BurstRun) => string;
  /** What must be right then. */
  readonly check?: (page: QuietPage, run: BurstRun) => Promise<void>;
  /** One test of so many fails; few by default. */
  readonly failsEvery?: number;
  /** Whether the results come as the server sends them, and not at the rate. */
  readonly live?: boolean;
}

const allKnown = ({ results }: BurstRun): string =>
  `${countIs("tests-known", results)} && ${countIs("count-total", results)}`;

async function opened(page: QuietPage): Promise<void> {
  await page.until(countIs("tests-known", 24));
}

const row = (at: number): string =>
  `[data-testid="test-row"][data-suite$="package${String(at).padStart(2, "0")}"]`;

const runPage: Case = {
  name: "run",
  path: (run) => run.path(),
  prepare: async (page) => {
    await opened(page);
    await page.click('[aria-label="Collapse all"]');
    return await placesOf(page, row(3), row(5));
  },
  complete: allKnown,
  check: async (page, run) => {
    // Whoever clicked on a failure has led the tree away from its packages.
    await page.click('[aria-label="Collapse all"]');
    await expect.poll(() => page.evaluate(tallies)).toEqual(told(run));
  },
};

const cases: readonly Case[] = [
  runPage,
  {
    ...runPage,
    name: "run, all expanded, feed open",
    prepare: async (page) => {
      await opened(page);
      await page.click('[aria-label="Expand all"]');
      await page.click('[data-testid="connection-state"]');
      await page.until(`document.querySelector('[data-testid="status-widget"]')`);
      return await placesOf(page, row(0), row(1));
    },
  },
  {
    ...runPage,
    name: "run, filtered",
    prepare: async (page) => {
      await opened(page);
      const [all, failed] = ["All", "Failed"].map(
        (word) => `[...document.querySelectorAll("[aria-pressed]")].find((e) => e.textContent === "${word}")`,
      );
      await page.evaluate(`${all}.id = "only-all"; ${failed}.id = "only-failed"; 0`);
      return await placesOf(page, "#only-failed", "#only-all");
    },
    check: async (page, run) => {
      await page.click("#only-all");
      await runPage.check?.(page, run);
    },
  },
  { ...runPage, name: "run, half of it fails", failsEvery: 2 },
  { ...runPage, name: "run, as the server sends it", live: true },
  {
    name: "project",
    path: async () => "/projects/demo",
    prepare: async (page) => {
      await page.until(`document.querySelector('[data-testid="run-row"]')`);
      return await placesOf(page, "h1");
    },
    complete: ({ failures }) =>
      `document.querySelector('[data-testid="run-row"] [class*=numbers]')?.textContent.includes("${new Intl.NumberFormat(
        "en",
      ).format(results - failures)} passed")`,
  },
];

it.each(cases.filter(({ name }) => only === undefined || name === only))(
  "$name",
  async ({ name, path, prepare, complete, check, failsEvery, live = false }) => {
    const run = await BurstRun.start(server, results, failsEvery);
    try {
      const page = await open(await path(run));
      const places = await prepare(page);
      let bytes = 0;
      const kept = live ? undefined : network.hold();
      if (kept !== undefined) {
        await run.fire();
        await committed(run);
        bytes = await settled(kept);
      }
      const stopProfile = await profile(page, name);
      const trace = await Trace.start(browser, profiles !== undefined);
      const before = await spentMs(page);
      await page.evaluate("meter.start()");
      const stop = keepClicking(page, places);
      if (kept === undefined) await run.fire();
      else await network.release((bytes / results) * rate);
      await page.until(complete(run), 180_000);
      const cpuMs = (await spentMs(page)) - before;
      await stop();
      const events = await trace.stop();
      await stopProfile();
      await save(`${name}.trace.json`, { traceEvents: events });
      const tasks = longestTasksMs(events);
      table[name] = {
        cpuMs,
        longestTaskCpuMs: Math.round(tasks[0] ?? 0),
        tasksOver50CpuMs: tasks.filter((ms) => ms > 50).length,
        ...(await page.evaluate<Figures>("meter.stop()")),
      };
      await picture(page, name);
      await check?.(page, run);
      await page.send("Page.close");
    } finally {
      await run.end();
      await run.close();
    }
  },
);
