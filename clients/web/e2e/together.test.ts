import { expect, it } from "vitest";
import { byId, gone, isLive, mark, notReloaded, see, signIn, there, until } from "./browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";
import { valueIs, writeCase } from "./test-case";
import { showsTheCase } from "./truth";

const scene = setScene();

it("a critical failure is told to everyone, on every tab, until it is read on one", async () => {
  const manager = await scene.visitor();
  const tab = await manager.open("/", "demo-manager");
  const path = await writeCase(tab, "A customer can pay by card", "Critical");
  await see(tab.getByText("TC-1").first());
  const second = await manager.open("/projects/demo");
  await isLive(second);
  await there(byId(second, "bell", { unread: "0" }));
  await Promise.all([mark(tab), mark(second)]);

  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  for (const gate of ["door", "together", "till"] as const) await run.open(gate);

  await see(byId(tab, "toast").getByText("TC-1"));
  await there(byId(tab, "bell", { unread: "1" }));
  await there(byId(second, "bell", { unread: "1" }));
  await byId(tab, "bell").click();
  await see(byId(tab, "notification", { read: "false" }).getByText("TC-1"));
  await tab.getByRole("button", { name: "Mark all read" }).click();
  await there(byId(second, "bell", { unread: "0" }));
  await there(byId(tab, "bell", { unread: "0" }));
  await see(byId(tab, "notification", { read: "true" }));

  // It leads to what failed.
  await byId(tab, "notification").getByRole("link").first().click();
  await tab.waitForURL(/\/runs\//);
  await see(byId(tab, "run-state", { state: "failed" }));
  expect(await run.finished()).toBe(1);
  expect(await notReloaded(tab)).toBe(true);
  expect(await notReloaded(second)).toBe(true);
  expect(path).toMatch(/^\/cases\//);
  expect(manager.errors).toEqual([]);
});

it("two people see each other come, write and go, and neither loses a word", async () => {
  const [testing, managing] = [await scene.visitor(), await scene.visitor()];
  const tester = await testing.open("/", "demo-tester");
  const path = await writeCase(tester, "Sign in", "Medium");
  const manager = await managing.open(path, "demo-manager");
  await Promise.all([mark(tester), mark(manager)]);
  await there(byId(tester, "presence-user", { user: "demo-manager", state: "online" }));
  await there(byId(manager, "presence-user", { user: "demo-tester", state: "online" }));

  // Where the other is, what the other does, and what came of it.
  await byId(tester, "field-title").focus();
  await there(byId(manager, "editors-title", { users: "demo-tester" }));
  await byId(tester, "field-title").press("End");
  await byId(tester, "field-title").pressSequentially(" with a passkey");
  await see(byId(manager, "typing-title").getByText("Demo Tester is typing"));
  await valueIs(manager, "title", "Sign in with a passkey");
  await there(byId(tester, "saved-title", { state: "saved" }));

  // Both write, each in a field of their own: both are kept, in both browsers.
  await Promise.all([
    byId(tester, "field-description").pressSequentially("Touch the key."),
    byId(manager, "field-priority").selectOption({ label: "High" }),
    byId(manager, "field-status").selectOption({ label: "In review" }),
  ]);
  await valueIs(manager, "description", "Touch the key.");
  await valueIs(tester, "priority", "PRIORITY_HIGH");
  await valueIs(tester, "status", "TEST_CASE_STATUS_IN_REVIEW");
  await valueIs(tester, "description", "Touch the key.");

  // A comment arrives where it belongs.
  await byId(manager, "comment-input").pressSequentially("Which browsers?");
  await see(byId(tester, "typing-comment").getByText("Demo Manager is typing"));
  await byId(manager, "comment-send").click();
  await see(byId(tester, "comment").getByText("Which browsers?"));

  await testing.leave();
  await gone(byId(manager, "presence-user", { user: "demo-tester" }));
  await there(byId(manager, "editors-description", { users: "" }));
  expect(await notReloaded(manager)).toBe(true);
  expect([...testing.errors, ...managing.errors]).toEqual([]);
});

it("what somebody types is never taken back while it is saved", async () => {
  const visitor = await scene.visitor();
  const page = await visitor.open("/", "demo-tester");
  await writeCase(page, "Slow fingers");
  const field = byId(page, "field-description");
  await field.evaluate((element: HTMLTextAreaElement) => {
    const shown: string[] = [];
    Object.assign(window, { __shown: shown });
    setInterval(() => {
      if (shown.at(-1) !== element.value) shown.push(element.value);
    }, 1);
  });
  // Slow enough that each letter is saved before the next.
  const text = "Touch the key";
  await field.pressSequentially(text, { delay: 450 });
  await there(byId(page, "saved-description", { state: "saved" }));
  const shown = await page.evaluate(() => (window as unknown as { __shown: string[] }).__shown);
  expect(shown.filter((value) => !text.startsWith(value))).toEqual([]);
  const lengths = shown.map(({ length }) => length);
  expect(lengths).toEqual(lengths.toSorted((one, other) => one - other));
  expect(shown.at(-1)).toBe(text);
  expect(await showsTheCase(page, scene.server)).toMatchObject({ description: text });
});

it("people see each other come and go on a run's page", async () => {
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  const [testing, managing] = [await scene.visitor(), await scene.visitor()];
  const manager = await managing.open(await run.address(), "demo-manager");
  await mark(manager);
  expect(await byId(manager, "presence-user", { user: "demo-tester" }).count()).toBe(0);
  const tester = await testing.open(await run.address(), "demo-tester");
  await there(byId(manager, "presence-user", { user: "demo-tester" }));
  await there(byId(tester, "presence-user", { user: "demo-manager" }));
  await testing.leave();
  await gone(byId(manager, "presence-user", { user: "demo-tester" }));
  expect(await notReloaded(manager)).toBe(true);
});

it("a viewer reads along and can change nothing", async () => {
  const testing = await scene.visitor();
  const tester = await testing.open("/", "demo-tester");
  const path = await writeCase(tester, "Look, don't touch", "Low");
  const viewing = await scene.visitor();
  const viewer = await viewing.open(path, "demo-viewer");
  await see(viewer.getByText("You may read this, not change it"));
  expect(await byId(viewer, "field-title").isEditable()).toBe(false);
  expect(await byId(viewer, "field-description").isEditable()).toBe(false);
  expect(await byId(viewer, "field-priority").isDisabled()).toBe(true);
  expect(await byId(viewer, "field-status").isDisabled()).toBe(true);
  expect(await byId(viewer, "comment-input").count()).toBe(0);
  await byId(tester, "field-title").fill("Look, and be amazed");
  await valueIs(viewer, "title", "Look, and be amazed");
  await viewer.goto(new URL("/projects/demo/cases", scene.server.url).href);
  await isLive(viewer);
  await until("the button to be out of use", async () =>
    viewer.getByRole("button", { name: "New test case" }).isDisabled(),
  );
  expect(viewing.errors).toEqual([]);
});

it("what isn't yours looks like what doesn't exist", async () => {
  const visitor = await scene.visitor();
  const page = await visitor.tab();
  await page.goto(new URL("/runs/01890000-0000-7000-8000-000000000000", scene.server.url).href);
  await signIn(page, "demo-viewer");
  await see(page.getByText("This run can't be opened"));
  await page.goto(new URL("/projects/secret", scene.server.url).href);
  await see(page.getByText("This project can't be opened"));
});
