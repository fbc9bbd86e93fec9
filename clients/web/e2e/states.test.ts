import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { picture, seriousProblems } from "./axe";
import { byId, type Said, says, see, there } from "./browser";
import { Network } from "./network";
import { setScene } from "./scene";
import { TestServer } from "./server";
import { writeCase } from "./test-case";
import { caller } from "./truth";

const network = new Network();
const scene = setScene(["--dev"], network);
let off: TestServer;
beforeAll(async () => {
  off = await TestServer.start(["--dev", "--realtime=false"]);
});
afterAll(() => off.close());

describe.each(["light", "dark"] as const)("in the %s scheme, on screens of any width,", (colorScheme) => {
  /** Holds a page against what every state must fulfil, and takes pictures of it. */
  async function isSound(page: Page, name: string): Promise<void> {
    for (const width of [1440, 390]) {
      await page.setViewportSize({ width, height: width === 390 ? 844 : 900 });
      await picture(page, `state-${name}-${colorScheme}-${width}`);
      expect(await seriousProblems(page)).toEqual([]);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      expect(wide, `the width of ${name}`).toBeLessThanOrEqual(width);
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  }

  async function openCase(at: { readonly url: string } = network): Promise<Page> {
    const visitor = await scene.visitor({ colorScheme, at });
    const page = await visitor.open("/");
    await byId(page, "sign-in-user", { user: "demo-tester" }).click();
    await there(byId(page, "connection-state", { carrier: at === off ? "off" : "websocket" }));
    await writeCase(page, "A customer can pay by card, also with one that was issued abroad");
    return page;
  }

  async function openStatus(page: Page, said: Said): Promise<void> {
    await says(page, said);
    await byId(page, "connection-state").click();
    await see(byId(page, "status-widget"));
  }

  it("a lost connection is said so, and what isn't saved", async () => {
    const page = await openCase();
    await openStatus(page, { state: "live", word: "Live" });
    await isSound(page, "live");
    network.cut();
    await says(page, { state: "reconnecting" });
    await byId(page, "field-title").fill("A customer can pay by card");
    await says(page, { state: "reconnecting", word: "1 unsaved" });
    await isSound(page, "reconnecting");
    await page.context().setOffline(true);
    await says(page, { state: "offline", word: "Offline" });
    await isSound(page, "offline");
  });

  it("a page without websockets says so", async () => {
    network.websockets = "refused";
    const visitor = await scene.visitor({ colorScheme, at: network });
    const page = await visitor.open("/projects/demo", "demo-tester");
    await openStatus(page, { state: "live", carrier: "stream", word: "Live (without websockets)" });
    await isSound(page, "stream");
    await page.evaluate(() => {
      for (const name of ["tcm-watch-2", "tcm-watch-3"]) {
        void navigator.locks.request(name, () => new Promise(() => {}));
      }
    });
    const polling = await visitor.open("/projects/demo");
    await openStatus(polling, { state: "live", carrier: "poll", word: "Every few seconds" });
    await isSound(polling, "poll");
  });

  it("a page without live updates says so", async () => {
    const page = await openCase(off);
    await openStatus(page, { state: "off", word: "Live updates are off" });
    await isSound(page, "off");
  });

  it("an edit that a page left behind and that can't be saved any more is told", async () => {
    const page = await openCase();
    const path = new URL(page.url()).pathname;
    network.cut();
    await byId(page, "field-title").fill("A customer can pay by cheque");
    await says(page, { state: "lost", word: "1 unsaved" });
    await page.goto("about:blank");
    const { testCases } = await caller(scene.server);
    const { testCase } = await testCases.getTestCase({ testCaseId: path.split("/").at(-1) ?? "" });
    const [title] = testCase?.revisions ?? [];
    await testCases.editTestCase({
      testCaseId: testCase?.id ?? "",
      field: title?.field ?? 0,
      value: "Nobody pays",
      baseRevision: title?.revision ?? 0n,
    });
    network.heal();
    await page.goto(new URL(path, network.url).href);
    await see(byId(page, "not-saved").getByText("was not saved"));
    await isSound(page, "not-saved");
    await byId(page, "not-saved").getByRole("button", { name: "Close" }).click();
    await byId(page, "not-saved").waitFor({ state: "detached" });
  });

  it("people who are away are shown as such", async () => {
    const page = await openCase(scene.server);
    const idle = await scene.visitor({ at: scene.server });
    const viewer = await idle.open(new URL(page.url()).pathname, "demo-viewer");
    // What a browser does to a tab that is hidden; tabs.test.ts hides one.
    await viewer.evaluate(() => {
      Object.defineProperty(document, "visibilityState", { value: "hidden" });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await there(byId(page, "presence-user", { user: "demo-viewer", state: "idle" }));
    const lost = await scene.visitor({ at: network });
    await lost.open(new URL(page.url()).pathname, "demo-manager");
    await there(byId(page, "presence-user", { user: "demo-manager", state: "online" }));
    network.cut();
    await there(byId(page, "presence-user", { user: "demo-manager", state: "reconnecting" }));
    await isSound(page, "people");
  });

  it("whose token is refused is asked to sign in again", async () => {
    const visitor = await scene.visitor({ colorScheme });
    await visitor.context.addInitScript(() => {
      localStorage.setItem("tcm.token", JSON.stringify({ token: "ended", devUser: "" }));
    });
    const page = await visitor.open("/projects/demo");
    await see(page.getByRole("status").filter({ hasText: "Your sign-in is no longer accepted" }));
    await isSound(page, "refused");
  });
});
