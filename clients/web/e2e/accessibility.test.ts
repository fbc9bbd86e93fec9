import { beforeAll, describe, expect, it } from "vitest";
import { picture, seriousProblems } from "./axe";
import { byId, isLive, see, signIn } from "./browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";
import { writeCase } from "./test-case";

const scene = setScene();
let runPath = "";
let casePath = "";

beforeAll(async () => {
  const run = await SampleRun.start(scene.server);
  try {
    for (const gate of ["door", "together", "till"] as const) await run.open(gate);
    runPath = new URL(await run.address()).pathname;
    await run.finished();
  } finally {
    await run.close();
  }
  const visitor = await scene.visitor();
  const page = await visitor.open("/", "demo-tester");
  casePath = await writeCase(page, "A customer can pay by card");
  await byId(page, "field-description").fill("Put an apple into the cart.\nPay by card.");
  await byId(page, "comment-input").fill("Which cards?");
  await byId(page, "comment-send").click();
  await see(byId(page, "comment"));
});

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
