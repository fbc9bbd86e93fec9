import { readFileSync } from "node:fs";
import { Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { expect, test } from "vitest";
import { createClient } from "./stores/client";
import { FakeServer } from "./testing";

test("the README shows the example that is compiled", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const example = readFileSync(new URL("../examples/watch.ts", import.meta.url), "utf8");
  const blocks = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code);
  expect(blocks).toEqual([example]);
});

test("a store tells of failures as they come, in the real environment, too", async () => {
  const server = new FakeServer();
  const run = server.world.addRun({ project: "demo" });
  const client = createClient({ baseUrl: "", token: () => "", transport: server.connect() });
  const store = client.openRun(run.id);
  await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
  server.world.report(run.id, { test: { suite: "s", name: "TestX" }, status: Status.FAILED });
  await expect.poll(() => store.getSnapshot().failures.map(({ name }) => name)).toEqual(["TestX"]);
  client.close();
});
