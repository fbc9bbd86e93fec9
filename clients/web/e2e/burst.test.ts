import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import { byId, gone, isLive, mark, notReloaded, see, signIn, there } from "./browser";
import { BurstRun } from "./burst";
import { Network } from "./network";
import { OwnBrowser } from "./own-browser";
import { patienceMs } from "./processes";
import { setScene } from "./scene";
import { caller } from "./truth";

const network = new Network();
const scene = setScene(["--dev"], network);

const results = 20_000;
/** How many results a second come when the network lets go of them. */
const rate = 70_000;
/** A window shows some 40 lines of the tree, and there are some around them. */
const mostRows = 120;

async function startRun(): Promise<BurstRun> {
  const run = await BurstRun.start(scene.server, results);
  scene.after(() => run.close());
  scene.after(() => run.end());
  return run;
}

/** Lets the results come to the server, and keeps them from the pages until the function it returns is called. */
async function gather(run: BurstRun): Promise<() => Promise<void>> {
  const held = network.hold();
  await run.fire();
  const { execution } = await caller(scene.server);
  const runId = await run.id();
  const committed = async () => (await execution.getRun({ runId })).run?.counts?.total;
  await expect.poll(committed, { timeout: patienceMs }).toBe(results);
  return () => network.release((held() / results) * rate);
}

async function number(page: Page, id: string): Promise<number> {
  return Number(await byId(page, id).first().getAttribute("data-value"));
}

/** Waits until a run's page knows all of its tests, and looks whether its numbers are those of the publisher. */
async function isRight(page: Page, run: BurstRun): Promise<void> {
  await there(byId(page, "tests-known", { value: String(results) }));
  await there(byId(page, "count-total", { value: String(results) }));
  expect(await number(page, "count-failed")).toBe(run.failures);
  expect(await number(page, "count-passed")).toBe(results - run.failures);
  await page.setViewportSize({ width: 1440, height: 2000 }); // only rows in sight are there
  await page.getByRole("button", { name: "Collapse all" }).click();
  const told = run.counts.map(({ suite, total, failed }) => [
    suite,
    `${failed > 0 ? `${failed} failed, ` : ""}${total - failed} passed of ${total}`,
  ]);
  await expect.poll(() => shownTallies(page), { timeout: patienceMs }).toEqual(told);
}

/** What stands beside each package: counted by the page from the results themselves. */
async function shownTallies(page: Page): Promise<readonly (readonly string[])[]> {
  return await page.evaluate(() =>
    [...document.querySelectorAll<HTMLElement>('[data-testid="test-row"][data-test=""]')].map((row) => [
      row.dataset.suite ?? "",
      row.querySelector<HTMLElement>("[title*=' passed of ']")?.title ?? "",
    ]),
  );
}

it("a page under a burst of results answers to clicks, stays small, and is right in the end", async () => {
  const run = await startRun();
  const tester = await scene.visitor({ at: network });
  const page = await tester.tab();
  await page.goto(new URL(await run.path(), network.url).href);
  await signIn(page, "demo-tester");
  await mark(page);
  await see(byId(page, "test-row"));
  await page.getByRole("button", { name: "Expand all" }).click();
  await byId(page, "connection-state").click();
  await see(byId(page, "status-event"));

  const release = await gather(run);
  const released = release();
  const failed = page.getByRole("button", { name: "Failed", exact: true });
  await failed.click();
  expect(await failed.getAttribute("aria-pressed")).toBe("true");
  await gone(byId(page, "test-row", { status: "passed" }).and(page.locator(':not([data-test=""])')));
  await page.getByRole("button", { name: "All", exact: true }).click();
  await see(byId(page, "test-row", { status: "passed" }));
  await released;

  await there(byId(page, "tests-known", { value: String(results) }));
  expect(await byId(page, "test-row").count()).toBeLessThan(mostRows);
  expect(await byId(page, "failure").count()).toBeLessThan(mostRows);
  expect(await byId(page, "status-event").count()).toBe(20);
  await isRight(page, run);
  await isLive(page);
  expect(await notReloaded(page)).toBe(true);
  expect(tester.errors).toEqual([]);
});

it("a project's page under a burst shows how far the run is, and a feed that stays short", async () => {
  const run = await startRun();
  const tester = await scene.visitor({ at: network });
  const page = await tester.open("/projects/demo", "demo-tester");
  const row = byId(page, "run-row", { run: await run.id() });
  await see(row);
  const release = await gather(run);
  await release();
  await see(row.getByText(`${(results - run.failures).toLocaleString("en")} passed`));
  await see(row.getByText(`${run.failures} failed`));
  expect(await byId(page, "activity-item").count()).toBeLessThanOrEqual(50);
  expect(tester.errors).toEqual([]);
});

it("a page that nobody looks at takes a burst all the same", async () => {
  const run = await startRun();
  const browser = await OwnBrowser.start(network);
  scene.after(() => browser.close());
  const page = await browser.visitor.open(await run.path(), "demo-tester");
  await see(byId(page, "test-row"));
  await browser.cover();
  await expect.poll(() => page.evaluate(() => document.visibilityState)).toBe("hidden");
  const release = await gather(run);
  await release();
  await there(byId(page, "tests-known", { value: String(results) }));
  expect(await page.evaluate(() => document.visibilityState)).toBe("hidden");
  await page.bringToFront();
  await isRight(page, run);
  expect(browser.visitor.errors).toEqual([]);
});
