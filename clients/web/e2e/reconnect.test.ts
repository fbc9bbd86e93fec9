import { expect, it } from "vitest";
import { byId, isLive, mark, notReloaded, see, there } from "./browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";

const scene = setScene();

it("a restart of the server in the middle of a run costs nobody a result or a reload", async () => {
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  const tester = await scene.visitor();
  const page = await tester.open(await run.address(), "demo-tester");
  await see(byId(page, "running-test", { test: "TestDoorOpens" }));
  await mark(page);

  await scene.server.stop();
  await see(
    page.locator('[data-testid="connection-state"]:is([data-state="reconnecting"],[data-state="offline"])'),
  );
  await run.open("door"); // the tests go on without a server
  await run.open("together");
  await scene.server.resume();
  await isLive(page);
  await see(byId(page, "running-test", { test: "TestTill" }));
  await run.open("till");
  expect(await run.finished(), run.output).toBe(1);

  await see(byId(page, "run-state", { state: "failed" }));
  const counted = await run.independentCount();
  for (const name of ["passed", "failed", "skipped", "total"] as const) {
    await there(byId(page, `count-${name}`, { value: String(counted[name]) }));
  }
  expect(await notReloaded(page)).toBe(true);
});

it("an edit made while the server is away is kept and saved when it is back", async () => {
  const visitor = await scene.visitor();
  const page = await visitor.open("/projects/demo/cases", "demo-tester");
  await page.getByRole("button", { name: "New test case" }).click();
  await page.getByLabel("Title").fill("Offline");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await see(byId(page, "field-title"));
  await mark(page);

  await scene.server.stop();
  await see(
    page.locator('[data-testid="connection-state"]:is([data-state="reconnecting"],[data-state="offline"])'),
  );
  await byId(page, "field-title").fill("Written in a tunnel");
  await see(byId(page, "saved-title", { state: "offline" }));
  await scene.server.resume();
  await isLive(page);
  await see(byId(page, "saved-title", { state: "saved" }));
  expect(await notReloaded(page)).toBe(true);

  const again = await visitor.open(new URL(page.url()).pathname);
  await see(byId(again, "field-title"));
  expect(await byId(again, "field-title").inputValue()).toBe("Written in a tunnel");
});
