import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import { byId, gone, mark, noteStates, notReloaded, says, see, signIn, there } from "./browser";
import { Network } from "./network";
import { SampleRun } from "./sample";
import { setScene } from "./scene";
import { TestServer } from "./server";
import { valueIs, writeCase } from "./test-case";
import { showsTheCase, showsTheRun } from "./truth";

const network = new Network();
const scene = setScene(["--dev"], network);
const withoutWebSockets = "Live (without websockets)";

/** Follows a run to its end, on a page that has to hear of each step by itself. */
async function watchesARun(page: Page): Promise<void> {
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  await page.goto(new URL(new URL(await run.address()).pathname, page.url()).href);
  await see(byId(page, "running-test", { test: "TestDoorOpens" }));
  await mark(page);
  await run.open("door");
  await there(byId(page, "count-paused", { value: "2" }));
  await run.open("together");
  await see(byId(page, "running-test", { test: "TestTill" }));
  await run.open("till");
  await see(byId(page, "run-state", { state: "failed" }));
  expect(await run.finished(), run.output).toBe(1);
  await showsTheRun(page, scene.server);
  expect(await notReloaded(page)).toBe(true);
}

it("where websockets are refused two people write together all the same, and later over websockets, unseen", async () => {
  network.websockets = "refused";
  const [testing, managing] = [await scene.visitor({ at: network }), await scene.visitor({ at: network })];
  const tester = await testing.open("/", "demo-tester");
  await says(tester, { state: "live", carrier: "stream", word: withoutWebSockets });
  const path = await writeCase(tester, "Sign in");
  const manager = await managing.open(path, "demo-manager");
  for (const page of [tester, manager]) {
    await says(page, { state: "live", carrier: "stream", word: withoutWebSockets });
    await mark(page);
  }
  network.heal();
  const [sayings, othersSayings] = await Promise.all([noteStates(tester), noteStates(manager)]);
  await there(byId(tester, "presence-user", { user: "demo-manager", state: "online" }));
  await there(byId(manager, "presence-user", { user: "demo-tester", state: "online" }));

  await byId(tester, "field-title").press("End");
  await byId(tester, "field-title").pressSequentially(" with a passkey");
  await see(byId(manager, "typing-title").getByText("Demo Tester is typing"));
  await there(byId(manager, "editors-title", { users: "demo-tester" }));
  await valueIs(manager, "title", "Sign in with a passkey");
  await Promise.all([
    byId(tester, "field-description").pressSequentially("Touch the key."),
    byId(manager, "field-priority").selectOption({ label: "High" }),
  ]);
  await valueIs(manager, "description", "Touch the key.");
  await valueIs(tester, "priority", "PRIORITY_HIGH");
  await byId(manager, "comment-input").fill("Which browsers?");
  await byId(manager, "comment-send").click();
  await see(byId(tester, "comment").getByText("Which browsers?"));
  await says(tester, { state: "live", carrier: "stream" });

  // Half a minute after the websocket was given up it is tried beside the stream. One writes on meanwhile.
  await byId(tester, "field-description").press("End");
  await byId(tester, "field-description").pressSequentially(" Wait for the light to turn green.", {
    delay: 500,
  });
  await says(tester, { state: "live", carrier: "websocket", word: "Live" });
  await says(manager, { state: "live", carrier: "websocket", word: "Live" });
  await valueIs(manager, "description", "Touch the key. Wait for the light to turn green.");
  await there(byId(tester, "saved-description", { state: "saved" }));
  for (const page of [tester, manager]) {
    await showsTheCase(page, scene.server);
    expect(await notReloaded(page)).toBe(true);
  }
  for (const said of [await sayings(), await othersSayings()]) {
    expect(said).toEqual(["live stream", "live websocket"]);
  }
  await testing.leave();
  await gone(byId(manager, "presence-user", { user: "demo-tester" }));
});

it.each(["dropped", "hung"] as const)(
  "where websockets are %s news comes over plain requests",
  async (fate) => {
    network.websockets = fate;
    const visitor = await scene.visitor({ at: network });
    const page = await visitor.open("/", "demo-tester");
    await says(page, { state: "live", carrier: "stream", word: withoutWebSockets });
    await byId(page, "connection-state").click();
    await see(byId(page, "status-widget").getByText("Websockets can't be had here"));
    await watchesARun(page);
  },
);

it("where answers are held back until they are whole, news comes by long polls", async () => {
  network.buffered = true;
  const visitor = await scene.visitor({ at: network });
  const page = await visitor.open("/", "demo-tester");
  await says(page, { state: "live", carrier: "long-poll", word: withoutWebSockets });
  await byId(page, "connection-state").click();
  await see(byId(page, "status-widget").getByText("long poll"));
  await watchesARun(page);
  await says(page, { state: "live", carrier: "long-poll" });
});

it("where live updates are switched off the page says so, calls go on, and it shows what is new when told to", async () => {
  const server = await TestServer.start(["--dev", "--realtime=false"]);
  scene.after(() => server.close());
  const off = { state: "off", carrier: "off", word: "Live updates are off" } as const;
  const enter = async (path: string): Promise<Page> => {
    const visitor = await scene.visitor({ at: server });
    const page = await visitor.open(path);
    await byId(page, "sign-in-user", { user: "demo-tester" }).click();
    await says(page, off);
    return page;
  };
  const writer = await enter("/");
  const path = await writeCase(writer, "Seldom");
  const reader = await enter(path);
  await valueIs(reader, "title", "Seldom");
  await mark(reader);
  await byId(writer, "field-title").fill("Now and then");
  await there(byId(writer, "saved-title", { state: "saved" }));
  await showsTheCase(writer, server);

  await byId(reader, "connection-state").click();
  await see(byId(reader, "status-widget").getByText("Live updates are switched off on this server"));
  await byId(reader, "reconnect").click();
  await valueIs(reader, "title", "Now and then");
  await says(reader, off);
  await showsTheCase(reader, server);
  expect(await notReloaded(reader)).toBe(true);
});

it("where the server takes no websockets the page doesn't ask for one again", async () => {
  const server = await TestServer.start(["--dev", "--transports", "native,watch"]);
  scene.after(() => server.close());
  const visitor = await scene.visitor({ at: server });
  const page = await visitor.tab();
  let asked = 0;
  page.on("websocket", () => asked++);
  await page.goto(server.url);
  await signIn(page, "demo-tester");
  await says(page, { state: "live", carrier: "stream", word: withoutWebSockets });
  expect(asked).toBeLessThanOrEqual(2);
});
