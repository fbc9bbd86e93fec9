import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { byId, mark, notReloaded, type Said, says, see, signIn } from "./browser";
import { SampleRun } from "./sample";
import { setScene } from "./scene";
import { TestServer } from "./server";
import { valueIs, writeCase } from "./test-case";
import { showsTheCase, showsTheRun } from "./truth";

const scene = setScene();
let withoutWebSockets: TestServer;
beforeAll(async () => {
  withoutWebSockets = await TestServer.start(["--dev", "--transports", "native,watch"]);
});
afterAll(() => withoutWebSockets.close());

interface Way {
  readonly carrier: NonNullable<Said["carrier"]>;
  readonly server: () => TestServer;
}

const ways: readonly Way[] = [
  { carrier: "websocket", server: () => scene.server },
  { carrier: "stream", server: () => withoutWebSockets },
];

describe.each(ways)("over $carrier", ({ carrier, server }) => {
  async function open(path: string): Promise<Page> {
    const visitor = await scene.visitor({ at: server() });
    const page = await visitor.open(path);
    await signIn(page, "demo-tester");
    await says(page, { state: "live", carrier });
    return page;
  }

  it.each([
    ["a restart", "stop"],
    ["a kill -9", "kill"],
  ] as const)("%s of the server in the middle of a run costs nobody a result or a reload", async (_, end) => {
    const run = await SampleRun.start(server());
    scene.after(() => run.close());
    const page = await open(await run.address());
    await see(byId(page, "running-test", { test: "TestDoorOpens" }));
    await mark(page);

    await server()[end]();
    await says(page, { state: "lost" });
    await see(page.getByRole("status").filter({ hasText: /The connection was lost|can't be reached/ }));
    await run.open("door"); // the tests go on without a server
    await run.open("together");
    await server().resume();
    await says(page, { state: "live", carrier });
    await see(byId(page, "running-test", { test: "TestTill" }));
    await run.open("till");
    expect(await run.finished(), run.output).toBe(1);

    await see(byId(page, "run-state", { state: "failed" }));
    await showsTheRun(page, server());
    const counted = await run.independentCount();
    for (const name of ["passed", "failed", "skipped", "total"] as const) {
      expect(await byId(page, `count-${name}`).getAttribute("data-value")).toBe(String(counted[name]));
    }
    expect(await notReloaded(page)).toBe(true);
  });

  it("an edit made while the server is away is kept and saved when it is back", async () => {
    const page = await open("/");
    await writeCase(page, "Offline");
    await says(page, { state: "live", carrier });
    await mark(page);

    await server().stop();
    await says(page, { state: "lost" });
    await byId(page, "field-title").fill("Written in a tunnel");
    await see(byId(page, "saved-title", { state: "offline" }));
    await says(page, { state: "lost", word: "1 unsaved" });
    await server().resume();
    await says(page, { state: "live", carrier });
    await see(byId(page, "saved-title", { state: "saved" }));
    await valueIs(page, "title", "Written in a tunnel");
    expect(await showsTheCase(page, server())).toMatchObject({ title: "Written in a tunnel" });
    expect(await notReloaded(page)).toBe(true);
  });
});
