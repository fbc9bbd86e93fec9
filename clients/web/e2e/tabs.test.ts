import { expect, it } from "vitest";
import { byId, gone, isLive, mark, notReloaded, type Person, says, see, there, until } from "./browser";
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

it("nobody haunts a page whose browser was killed, though no carrier and no network told of it", async () => {
  const testing = await scene.visitor({ at: network });
  const path = await writeCase(await testing.open("/", "demo-tester"), "Haunted");
  await testing.leave();
  const watching = await scene.visitor();
  const watcher = await watching.open(path, "demo-viewer");
  await mark(watcher);
  /** Somebody who writes, in a browser that won't live long. */
  const write = async (who: Person, field: string): Promise<OwnBrowser> => {
    const browser = await OwnBrowser.start(network);
    scene.after(() => browser.close());
    const page = await browser.visitor.open(path, who);
    await byId(page, `field-${field}`).press("End");
    await byId(page, `field-${field}`).pressSequentially("?");
    await see(byId(watcher, `typing-${field}`).filter({ hasText: "is typing" }));
    await there(byId(watcher, `editors-${field}`, { users: who }));
    return browser;
  };
  const silent = await write("demo-tester", "title");
  network.websockets = "refused";
  const watched = await write("demo-manager", "description");

  await watched.kill(); // a Watch that ends looks like one that is opened anew, until it isn't
  network.silence();
  await silent.kill();
  await see(byId(watcher, "presence-user", { ...tester, state: "reconnecting" }));
  for (const [who, field] of [
    ["demo-manager", "description"],
    ["demo-tester", "title"],
  ] as const) {
    await gone(byId(watcher, "presence-user", { user: who }));
    await there(byId(watcher, `editors-${field}`, { users: "" }));
    await until(`nobody to type in the ${field}`, async () => {
      return (await byId(watcher, `typing-${field}`).textContent()) === "";
    });
  }
  expect(await notReloaded(watcher)).toBe(true);
});
