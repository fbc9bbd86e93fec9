import { expect, it } from "vitest";
import { byId, gone, isLive, mark, notReloaded, says, see, there, until } from "./browser";
import { Network } from "./network";
import { OwnBrowser } from "./own-browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";
import { writeCase } from "./test-case";
import { caller, showsTheRun } from "./truth";

const network = new Network();
const scene = setScene(["--dev", "--heartbeat-interval", "1s", "--heartbeat-timeout", "3s"], network);
const tester = { user: "demo-tester" };

/** The page of a new test case, open before demo-manager, who watches who else is there. */
async function watch() {
  const watching = await scene.visitor();
  const watcher = await watching.open("/", "demo-manager");
  const path = await writeCase(watcher, "Who is here");
  await there(byId(watcher, "presence-user", { user: "demo-manager" }));
  await mark(watcher);
  return { watcher, path };
}

it("of seven tabs without websockets three hold a stream, the others ask, and all are right", async () => {
  network.websockets = "refused";
  const visitor = await scene.visitor({ at: network });
  const first = await visitor.open("/", "demo-manager");
  await writeCase(first, "A customer can pay by card", "Critical");
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  const path = new URL(await run.address()).pathname;
  const rest = await Promise.all(Array.from({ length: 6 }, () => visitor.open(path)));
  const tabs = [first, ...rest];
  await Promise.all(tabs.map(isLive));
  const carriers = () =>
    Promise.all(tabs.map((tab) => byId(tab, "connection-state").getAttribute("data-carrier")));
  expect((await carriers()).sort()).toEqual([...Array(4).fill("poll"), ...Array(3).fill("stream")]);
  await Promise.all(tabs.map(mark));

  await run.open("door"); // and the run rests, with some tests passed and two that wait
  await Promise.all(rest.map((tab) => there(byId(tab, "count-paused", { value: "2" }))));
  await Promise.all(rest.map((tab) => showsTheRun(tab, scene.server)));
  await run.open("together");
  await run.open("till");
  expect(await run.finished(), run.output).toBe(1);
  await Promise.all(tabs.map((tab) => there(byId(tab, "bell", { unread: "1" }))));
  await Promise.all(rest.map((tab) => see(byId(tab, "run-state", { state: "failed" }))));
  await Promise.all(rest.map((tab) => showsTheRun(tab, scene.server)));

  await byId(first, "bell").click();
  await first.getByRole("button", { name: "Mark all read" }).click();
  await Promise.all(tabs.map((tab) => there(byId(tab, "bell", { unread: "0" }))));
  const { notifications } = await caller(scene.server, "demo-manager");
  expect(await notifications.listNotifications({ unreadOnly: true })).toMatchObject({ notifications: [] });
  expect(await Promise.all(tabs.map(notReloaded))).toEqual(Array(7).fill(true));

  // When a tab that holds a stream is closed, another one takes its place.
  await tabs[(await carriers()).indexOf("stream")]?.close();
  tabs.splice(
    tabs.findIndex((tab) => tab.isClosed()),
    1,
  );
  await until("three streams to be held again", async () => {
    return (await carriers()).filter((carrier) => carrier === "stream").length === 3;
  });
});

it("two tabs are one person, who is idle when nobody looks at either of them", async () => {
  const { watcher, path } = await watch();
  const browser = await OwnBrowser.start(scene.server);
  scene.after(() => browser.close());
  const first = await browser.visitor.open(path, "demo-tester");
  const second = await browser.visitor.open(path); // before the first, which is hidden now
  await isLive(second);
  const person = byId(watcher, "presence-user", tester);
  await see(person.filter({ hasText: "2 tabs" }));
  await see(byId(watcher, "presence-user", { ...tester, state: "online" }));
  expect(await person.count()).toBe(1);

  await browser.cover();
  await see(byId(watcher, "presence-user", { ...tester, state: "idle" }).filter({ hasText: "idle, 2 tabs" }));
  await first.bringToFront();
  await see(byId(watcher, "presence-user", { ...tester, state: "online" }));

  await second.close();
  await until("one tab to be left", async () => !(await person.textContent())?.includes("tabs"));
  await first.close();
  await gone(person);
  expect(await notReloaded(watcher)).toBe(true);
});

it("whoever lost the connection is shown as reconnecting, and is back without having left", async () => {
  const { watcher, path } = await watch();
  const visitor = await scene.visitor({ at: network });
  const page = await visitor.open(path, "demo-tester");
  await see(byId(watcher, "presence-user", { ...tester, state: "online" }));
  network.cut();
  await says(page, { state: "lost" });
  await see(byId(watcher, "presence-user", { ...tester, state: "reconnecting" }).getByText("reconnecting"));
  network.heal();
  await isLive(page);
  await see(byId(watcher, "presence-user", { ...tester, state: "online" }));
  expect(await notReloaded(watcher)).toBe(true);
});

it.each([
  ["", "passed"],
  [", whose network told nobody", "passed"],
  [", and who had no websocket", "refused"],
] as const)("nobody haunts a page whose browser was killed%s", async (how, websockets) => {
  const { watcher, path } = await watch();
  network.websockets = websockets;
  const browser = await OwnBrowser.start(network);
  scene.after(() => browser.close());
  const page = await browser.visitor.open(path, "demo-tester");
  await byId(page, "field-title").press("End");
  await byId(page, "field-title").pressSequentially("?");
  await there(byId(watcher, "editors-title", { users: "demo-tester" }));
  if (how.includes("network")) network.silence();
  await browser.kill();
  await see(byId(watcher, "presence-user", { ...tester, state: "reconnecting" }));
  await gone(byId(watcher, "presence-user", tester));
  await there(byId(watcher, "editors-title", { users: "" }));
  await until("nobody to type", async () => (await byId(watcher, "typing-title").textContent()) === "");
  expect(await notReloaded(watcher)).toBe(true);
});
