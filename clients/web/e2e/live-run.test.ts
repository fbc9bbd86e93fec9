import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import { byId, isLive, mark, notReloaded, see, signIn, there, until, watchWebSockets } from "./browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";

const scene = setScene();
const sample = "example.com/sample";

/** A line of the tree; tests of a passed package may be folded away, so it is filtered for. */
async function seesTest(page: Page, suite: string, test: string, status: string): Promise<void> {
  await byId(page, "test-filter").fill(test === "" ? suite : test);
  await see(byId(page, "test-row", { suite: `${sample}/${suite}`, test, status }));
}

async function count(page: Page, name: string): Promise<number> {
  const shown = byId(page, `count-${name}`);
  return (await shown.count()) === 0 ? 0 : Number(await shown.first().getAttribute("data-value"));
}

it("a real test run is shown live, without a reload, over a grpc-websockets websocket", async () => {
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  const tester = await scene.visitor();
  const page = await tester.tab();
  const sockets = await watchWebSockets(page);
  await page.goto(await run.address());
  await signIn(page, "demo-tester");
  await mark(page);

  // Held at the door: one test is running, nothing has failed.
  await see(byId(page, "running-test", { suite: `${sample}/arrival`, test: "TestDoorOpens" }));
  await see(byId(page, "run-state", { state: "running" }));
  await seesTest(page, "arrival", "TestDoorOpens", "running");
  await run.open("door");
  await seesTest(page, "arrival", "TestDoorOpens", "passed");
  await seesTest(page, "arrival", "TestGuests/two_guests", "passed");
  await seesTest(page, "arrival", "TestGuests/no_parent/of_its_own", "passed");
  await seesTest(page, "arrival", "TestGuests/nested/deep_inside", "passed");

  // Four parallel tests, two at a time: two run and two wait.
  await there(byId(page, "count-running", { value: "3" })); // with the test they are part of
  await there(byId(page, "count-paused", { value: "2" }));
  await see(byId(page, "run-state", { state: "running" }));
  await run.open("together");

  // What goes wrong turns the header while the run goes on, held at the till.
  await see(byId(page, "run-state", { state: "failing" }));
  await see(byId(page, "running-test", { suite: `${sample}/shop`, test: "TestTill" }));
  await see(byId(page, "failure", { suite: `${sample}/shop`, test: "TestPrice", status: "failed" }));
  await see(byId(page, "failure", { suite: `${sample}/broken`, test: "", status: "errored" }));
  await see(byId(page, "failure", { suite: `${sample}/boom`, test: "TestBoom", status: "failed" }));
  await seesTest(page, "shop", "TestGiftWrap", "skipped");
  await seesTest(page, "shop", "TestCheckout", "failed");
  await see(byId(page, "run-state", { state: "failing" }));

  await run.open("till");
  await see(byId(page, "run-state", { state: "failed" }));
  expect(await run.finished(), run.output).toBe(1);
  await seesTest(page, "shop", "TestTill", "passed");

  // The numbers are those of somebody else who counted.
  const counted = await run.independentCount();
  expect(counted.total).toBeGreaterThan(15);
  await until(
    "the counts to be those of the JSON",
    async () => (await count(page, "total")) === counted.total,
  );
  for (const name of ["passed", "failed", "skipped", "total"] as const) {
    expect([name, await count(page, name)]).toEqual([name, counted[name]]);
  }
  expect(await count(page, "suites-errored")).toBe(1);

  expect(await notReloaded(page)).toBe(true);
  const opened = [...sockets.values()];
  expect(opened).toContainEqual({
    url: expect.stringMatching(/^ws:\/\/.*\/tcmanager\.v1\.RealtimeService\/Subscribe$/),
    asked: "grpc-websockets",
    agreed: "grpc-websockets",
    status: 101,
  });
  expect(tester.errors).toEqual([]);
});

it("a failure is shown with its place, its message and what the test printed", async () => {
  const run = await SampleRun.start(scene.server);
  scene.after(() => run.close());
  for (const gate of ["door", "together", "till"] as const) await run.open(gate);
  expect(await run.finished()).toBe(1);
  const tester = await scene.visitor();
  const page = await tester.open(await run.address(), "demo-tester");

  await byId(page, "failure", { test: "TestPrice" }).click();
  const details = byId(page, "details", { suite: `${sample}/shop`, test: "TestPrice", status: "failed" });
  await see(details);
  await see(page.getByText("three apples cost 99, want 100").first());
  await see(page.getByText("shop_test.go:13").first());
  await see(byId(page, "output"));

  // The address holds what is selected: a link shows the same to whoever opens it.
  const other = await tester.open(page.url());
  await isLive(other);
  await see(byId(other, "details", { test: "TestPrice", status: "failed" }));

  // The compiler's words stand at the package that doesn't compile, the stack at the panic.
  await byId(page, "failure", { suite: `${sample}/broken` }).click();
  await see(page.getByText("undefined: undefinedHere").first());
  await byId(page, "failure", { test: "TestBoom" }).click();
  await see(page.getByText("assignment to entry in nil map").first());

  // Colours of the terminal are colours here.
  await byId(page, "test-filter").fill("deep_inside");
  await byId(page, "test-row", { test: "TestGuests/nested/deep_inside" }).click();
  await see(byId(page, "output").getByText("green", { exact: true }));
  expect(tester.errors).toEqual([]);
});
