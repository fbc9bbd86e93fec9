import type { TestCaseSnapshot } from "@tcmanager/client";
import { createClient } from "@tcmanager/client";
import { FakeServer, TestEnvironment } from "@tcmanager/client/testing";
import { expect, it } from "vitest";
import { Draft } from "./draft";
import { fieldNumbers, storedOf } from "./useField";

it("a save's answer never brings an old value back, though the snapshot follows with the next frame", async () => {
  const server = new FakeServer();
  const { id } = server.world.addTestCase({ project: "demo", title: "One", description: "" });
  const user = { id: "u1", name: "Ada" };
  const frames: (() => void)[] = [];
  const frame = (run: () => void): void => void frames.push(run);
  const draw = (): void => {
    for (const run of frames.splice(0)) run();
  };
  const client = createClient({
    baseUrl: "",
    token: () => "T",
    transport: server.connect(user),
    environment: Object.assign(new TestEnvironment(Date.now()), { frame }),
  });
  const store = client.openTestCase(id);
  await expect
    .poll(() => {
      draw();
      return store.getSnapshot().testCase;
    })
    .toBeDefined();
  const seen = ({ testCase }: TestCaseSnapshot) => {
    if (testCase === undefined) throw new Error("the test case is not there");
    return storedOf(testCase, "title");
  };
  const draft = new Draft(
    seen(store.getSnapshot()),
    async (value, base) => storedOf(await store.edit(fieldNumbers.title, value, base), "title"),
    () => undefined,
  );
  const shown: string[] = [];
  draft.subscribe(() => {
    shown.push(draft.getSnapshot().value);
    draft.setStored(seen(store.getSnapshot())); // as a render does, whatever it was for
  });
  draft.type("Two");
  draft.flush();
  await expect.poll(() => draft.getSnapshot().state.kind).toBe("saved");
  expect(seen(store.getSnapshot()).value).toBe("One");
  draw();
  expect(seen(store.getSnapshot()).value).toBe("Two");
  draft.setStored(seen(store.getSnapshot()));
  expect(new Set(shown)).toEqual(new Set(["Two"]));
  client.close();
});
