import type { Page } from "playwright-core";
import { describe, expect, it } from "vitest";
import {
  byId,
  gone,
  mark,
  noteStates,
  notReloaded,
  type Said,
  says,
  see,
  signIn,
  there,
  until,
} from "./browser";
import { Network } from "./network";
import { OwnBrowser } from "./own-browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";
import { showsTheRun } from "./truth";

const network = new Network();
const heartbeat = ["--heartbeat-interval", "1s", "--heartbeat-timeout", "3s"];
const scene = setScene(["--dev", ...heartbeat], network);

/** A run that is held at the door, and its page, opened over the network. */
async function atTheDoor(carrier: NonNullable<Said["carrier"]>): Promise<{ run: SampleRun; page: Page }> {
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  const tester = await scene.visitor({ at: network });
  const page = await tester.open(new URL(await run.address()).pathname);
  await signIn(page, "demo-tester");
  await says(page, { state: "live", carrier });
  await see(byId(page, "running-test", { test: "TestDoorOpens" }));
  await mark(page);
  return { run, page };
}

/** Lets the run go to its end, which the page, that is away, can't know of. */
async function finish(run: SampleRun): Promise<void> {
  for (const gate of ["door", "together", "till"] as const) await run.open(gate);
  expect(await run.finished(), run.output).toBe(1);
}

/** What a page shows when it is back: the end of the run, as the server tells it. */
async function isRight(page: Page): Promise<void> {
  await see(byId(page, "run-state", { state: "failed" }));
  await showsTheRun(page, scene.server);
  expect(await notReloaded(page)).toBe(true);
}

describe.each(["websocket", "stream"] as const)("over %s", (carrier) => {
  it("a page without a network says so, and is right as soon as there is one", async () => {
    if (carrier === "stream") network.websockets = "refused";
    const { run, page } = await atTheDoor(carrier);
    network.cut();
    await page.context().setOffline(true);
    await says(page, { state: "offline", word: "Offline" });
    await see(page.getByRole("status").filter({ hasText: "No network. It goes on by itself" }));
    await finish(run);
    await there(byId(page, "run-state", { state: "running" })); // old, and said to be so
    network.heal();
    await page.context().setOffline(false);
    await says(page, { state: "live" });
    await isRight(page);
  });

  it("a page whose connection is dead without a word notices, and is right again", async () => {
    if (carrier === "stream") network.websockets = "refused";
    const { run, page } = await atTheDoor(carrier);
    const said = await noteStates(page); // what is opened anew gets through: it may be back before it is asked
    network.forget();
    await finish(run);
    await until("a page that knows that it has lost its connection", async () => {
      return (await said()).some((state) => /^(reconnecting|offline) /.test(state));
    });
    network.heal();
    await says(page, { state: "live" });
    await isRight(page);
  });
});

it("a page in a network that lets nothing through can be told to try at once when it does", async () => {
  const { run, page } = await atTheDoor("websocket");
  network.silence();
  await says(page, { state: "reconnecting", word: "Reconnecting" });
  await finish(run);
  network.heal();
  await byId(page, "connection-state").click();
  await byId(page, "reconnect").click();
  await says(page, { state: "live", carrier: "websocket", word: "Live" });
  await isRight(page);
});

it("a tab that was frozen for longer than the server waits is right when it thaws", async () => {
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  const watching = await scene.visitor();
  const watcher = await watching.open(await run.address(), "demo-manager");
  const browser = await OwnBrowser.start(scene.server);
  scene.after(() => browser.close());
  const page = await browser.visitor.open(await run.address(), "demo-tester");
  await see(byId(page, "running-test", { test: "TestDoorOpens" }));
  await mark(page);

  await there(byId(watcher, "presence-user", { user: "demo-tester" }));
  await browser.cover();
  await browser.freeze(page);
  await gone(byId(watcher, "presence-user", { user: "demo-tester" })); // the server has let go of it
  await finish(run);
  await see(byId(watcher, "run-state", { state: "failed" }));
  await browser.thaw(page);
  await page.bringToFront();
  await says(page, { state: "live", carrier: "websocket" });
  await isRight(page);
  await there(byId(watcher, "presence-user", { user: "demo-tester", state: "online" }));
});
