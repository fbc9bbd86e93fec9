import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import { beforeAll, describe, expect, it } from "vitest";
import { byId, isLive, see, signIn } from "./browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";

const scene = setScene();
const source = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
let axeSource = "";
let runPath = "";
let casePath = "";

beforeAll(async () => {
  axeSource = await readFile(source, "utf8");
  const run = await SampleRun.start(scene.server);
  try {
    for (const gate of ["door", "together", "till"] as const) await run.open(gate);
    runPath = new URL(await run.address()).pathname;
    await run.finished();
  } finally {
    await run.close();
  }
  const visitor = await scene.visitor();
  const page = await visitor.open("/projects/demo/cases", "demo-tester");
  await page.getByRole("button", { name: "New test case" }).click();
  await page.getByLabel("Title").fill("A customer can pay by card");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.waitForURL(/\/cases\//);
  casePath = new URL(page.url()).pathname;
  await byId(page, "field-description").fill("Put an apple into the cart.\nPay by card.");
  await byId(page, "comment-input").fill("Which cards?");
  await byId(page, "comment-send").click();
  await see(byId(page, "comment"));
});

interface Problem {
  readonly rule: string;
  readonly impact: string;
  readonly nodes: readonly string[];
}

/** Waits until what moves has come to rest. */
async function settled(page: Page): Promise<void> {
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .filter((each) => each.effect?.getComputedTiming().endTime !== Number.POSITIVE_INFINITY)
        .map((each) => each.finished.catch(() => {})),
    ),
  );
}

/** Asks axe-core what is seriously wrong with a page. */
async function seriousProblems(page: Page): Promise<readonly Problem[]> {
  await settled(page); // between two states a colour is neither
  await page.evaluate(axeSource); // by the debugger: the page's policy lets no script in
  return await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import("axe-core") };
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, impact, nodes }) => ({
        rule: id,
        impact: impact ?? "",
        nodes: nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)} ${failureSummary ?? ""}`),
      }));
  });
}

/** Saves a picture for people to look at, if they said where. */
async function picture(page: Page, name: string): Promise<void> {
  await settled(page);
  const dir = process.env.TCM_PICTURES;
  if (dir !== undefined) await page.screenshot({ path: `${dir}/${name}.png` });
}

describe.each(["light", "dark"] as const)("in the %s scheme", (colorScheme) => {
  it("axe finds nothing serious on the sign-in page", async () => {
    const visitor = await scene.visitor({ colorScheme });
    const page = await visitor.open("/");
    await see(byId(page, "sign-in-user"));
    await picture(page, `sign-in-${colorScheme}`);
    expect(await seriousProblems(page)).toEqual([]);
  });

  const pages: readonly (readonly [string, () => string, string])[] = [
    ["projects", () => "/", "project-row"],
    ["project", () => "/projects/demo", "run-row"],
    ["cases", () => "/projects/demo/cases", "case-row"],
    ["editor", () => casePath, "comment"],
    ["run", () => runPath, "failure"],
    ["test", () => `${runPath}?suite=example.com%2Fsample%2Fshop&test=TestPrice`, "output"],
  ];
  it.each(pages)("axe finds nothing serious on the page %s", async (name, path, content) => {
    const visitor = await scene.visitor({ colorScheme });
    const page = await visitor.open(path(), "demo-manager");
    await see(byId(page, content));
    await picture(page, `${name}-${colorScheme}`);
    expect(await seriousProblems(page)).toEqual([]);
    expect(visitor.errors).toEqual([]);
  });

  it("axe finds nothing serious in the notification centre and the status panel", async () => {
    const visitor = await scene.visitor({ colorScheme });
    const page = await visitor.tab();
    await page.goto(new URL("/projects/demo", scene.server.url).href);
    await signIn(page, "demo-manager");
    await byId(page, "connection-state").click();
    await see(byId(page, "status-widget"));
    await picture(page, `status-${colorScheme}`);
    expect(await seriousProblems(page)).toEqual([]);
    await byId(page, "bell").click();
    await see(byId(page, "notification-center"));
    await picture(page, `bell-${colorScheme}`);
    expect(await seriousProblems(page)).toEqual([]);
    await isLive(page);
  });
});
