import { Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { expect, test } from "vitest";
import { FakeServer, TestEnvironment } from "../testing";
import { createClient } from "./client";

test("smoke", async () => {
  const server = new FakeServer();
  const run = server.world.addRun({ project: "demo", tests: 12000, failEvery: 100 });
  const environment = new TestEnvironment();
  const client = createClient({ baseUrl: "", token: () => "", transport: server.connect(), environment });
  const store = client.openRun(run.id);
  await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
  expect(store.getSnapshot().rows.length).toBe(12000);
  expect(store.getSnapshot().failures.length).toBe(120);
  server.world.report(run.id, { test: { suite: "a", name: "T" }, status: Status.FAILED });
  await expect.poll(() => store.getSnapshot().failures.length).toBe(121);
  expect(client.connection.getSnapshot().state).toBe("live");
  client.close();
});
