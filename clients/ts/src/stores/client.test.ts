import { Code, ConnectError } from "@connectrpc/connect";
import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { RunState, Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { TestCaseField } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { afterEach, describe, expect, test } from "vitest";
import { FakeServer, TestEnvironment } from "../testing";
import { createClient, type TcmClient } from "./client";
import { qualityOf } from "./connection";
import { countsLateMs } from "./recount";

const started: TcmClient[] = [];

function connect(server: FakeServer, user = { id: "u1", name: "Ada" }) {
  const environment = new TestEnvironment(Date.now());
  const client = createClient({
    baseUrl: "",
    token: () => "T",
    transport: server.connect(user),
    environment,
  });
  started.push(client);
  return { client, environment };
}

afterEach(() => {
  for (const client of started.splice(0)) client.close();
});

describe("a run's store", () => {
  test("reads all rows in pages and goes on live", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo", tests: 12_000, failEvery: 100 });
    const store = connect(server).client.openRun(run.id);
    const loaded = new Set<number>();
    store.subscribe(() => loaded.add(store.getSnapshot().rowsLoaded));
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    expect([...loaded].every((rows) => [0, 5_000, 10_000, 12_000].includes(rows))).toBe(true);
    expect(store.getSnapshot()).toMatchObject({ state: "live", rowsLoaded: 12_000, rowsExpected: 12_000 });
    expect(store.getSnapshot().failures.length).toBe(120);
    server.world.report(run.id, {
      test: { suite: "new", name: "TestX" },
      status: Status.FAILED,
      error: { message: "m", details: "at x.go:1" },
    });
    await expect.poll(() => store.getSnapshot().failures[0]?.name).toBe("TestX");
    expect(store.getSnapshot().rows.length).toBe(12_001);
    expect(store.getSnapshot().suites.get("new")?.counts).toMatchObject({ total: 1, failed: 1 });
    expect(store.failureDetails("new", "TestX")).toBe("at x.go:1");
  });

  test("gives the same snapshot until something changed, and one notification for a burst", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo" });
    const store = connect(server).client.openRun(run.id);
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    const before = store.getSnapshot();
    expect(store.getSnapshot()).toBe(before);
    let notified = 0;
    store.subscribe(() => notified++);
    const burst = Array.from({ length: 1000 }, (_, i) =>
      server.world.runs.get(run.id)!.complete({ test: { suite: "s", name: `T${i}` }, status: Status.PASSED }),
    );
    server.broadcast({
      events: burst.map((value, i) => ({
        room: store.room,
        offset: BigInt(i + 2),
        payload: { case: "testExecution" as const, value },
      })),
    });
    await expect.poll(() => store.getSnapshot().rows.length).toBe(1000);
    expect(notified).toBe(1);
    expect(store.getSnapshot().rows.changesSince(before.rowsVersion).length).toBe(1000);
  });

  test("is stale while away, and reads its rows anew when it can't go on", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo", tests: 10 });
    const { client, environment } = connect(server);
    const store = client.openRun(run.id);
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    const { rows } = store.getSnapshot();
    server.disconnect();
    await expect.poll(() => store.getSnapshot().state).toBe("stale");
    expect(store.getSnapshot().rows, "what is known stays to be read").toBe(rows);
    server.world.report(run.id, { test: { suite: "s", name: "Missed" }, status: Status.PASSED });
    server.trim(store.room);
    environment.advance(1_000);
    await expect.poll(() => store.getSnapshot().rows.length).toBe(11);
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    expect(store.getSnapshot()).toMatchObject({ state: "live" });
    expect(store.getSnapshot().rows).not.toBe(rows);
  });

  test("keeps its table when it goes on where it was", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo", tests: 10 });
    const { client, environment } = connect(server);
    const store = client.openRun(run.id);
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    const { rows } = store.getSnapshot();
    server.disconnect();
    await expect.poll(() => store.getSnapshot().state).toBe("stale");
    server.world.report(run.id, { test: { suite: "s", name: "Missed" }, status: Status.PASSED });
    environment.advance(1_000);
    await expect.poll(() => rows.length).toBe(11);
    expect(store.getSnapshot().rows).toBe(rows);
  });

  test("asks for counts that were told while nobody was there to hear them", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo", tests: 10 });
    const { client, environment } = connect(server);
    const store = client.openRun(run.id);
    const project = client.openProject("demo");
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    await expect.poll(() => project.getSnapshot().runs.length).toBe(1);
    const shown = () => [
      store.getSnapshot().run?.counts?.passed,
      project.getSnapshot().runs[0]?.counts?.passed,
    ];
    server.disconnect();
    await expect.poll(() => store.getSnapshot().state).toBe("stale");
    server.world.report(run.id, { test: { suite: "s", name: "Missed" }, status: Status.PASSED });
    server.world.reportProgress(run.id);
    environment.advance(1_000);
    await expect.poll(() => store.getSnapshot().rows.length).toBe(11);
    expect(shown()).toEqual([10, 10]);
    environment.advance(countsLateMs);
    await expect.poll(shown).toEqual([11, 11]);
  });

  test("asks for no counts that come by themselves", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo", tests: 10 });
    const { client, environment } = connect(server);
    const store = client.openRun(run.id);
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    server.world.report(run.id, { test: { suite: "s", name: "New" }, status: Status.PASSED });
    server.world.reportProgress(run.id);
    await expect.poll(() => store.getSnapshot().run?.counts?.passed).toBe(11);
    server.world.runs.get(run.id)!.run.counts!.passed = 99;
    environment.advance(countsLateMs);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(store.getSnapshot().run?.counts?.passed).toBe(11);
  });

  test("says that the rows can't be read, goes on live, and can be asked to try again", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo", tests: 10 });
    const { client } = connect(server);
    const store = client.openRun(run.id);
    await expect.poll(() => client.connection.getSnapshot().state).toBe("live");
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    server.refuse = new ConnectError("no", Code.PermissionDenied);
    store.reloadRows();
    await expect.poll(() => store.getSnapshot().rowsState).toBe("failed");
    expect(store.getSnapshot().rowsError?.code).toBe(Code.PermissionDenied);
    server.world.report(run.id, { test: { suite: "s", name: "Live" }, status: Status.PASSED });
    await expect.poll(() => store.getSnapshot().rows.find("s", "Live")?.index).toBe(10);
    server.refuse = undefined;
    store.reloadRows();
    await expect.poll(() => store.getSnapshot().rowsState).toBe("complete");
    expect(store.getSnapshot().rows.length).toBe(11);
  });

  test("fails for a run that is not there or not yours", async () => {
    const server = new FakeServer();
    const store = connect(server).client.openRun("nowhere");
    await expect.poll(() => store.getSnapshot().state).toBe("failed");
    expect(store.getSnapshot().error?.code).toBe(Code.PermissionDenied);
  });

  test("that failed is asked for again by who opens it anew", async () => {
    const server = new FakeServer();
    const { client } = connect(server);
    const first = client.openRun("01900000-0000-7000-8000-000000000002");
    await expect.poll(() => first.getSnapshot().state).toBe("failed");
    const run = server.world.addRun({ project: "demo" });
    expect(`testrun:${run.id}`).toBe(first.room);
    const second = client.openRun(run.id);
    await expect.poll(() => second.getSnapshot().state).toBe("live");
    expect(first.getSnapshot().state).toBe("failed");
  });

  test("is shared, and leaves its room a while after the last holder closed it", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo", tests: 3 });
    const { client, environment } = connect(server);
    const first = client.openRun(run.id);
    await expect.poll(() => first.getSnapshot().rowsState).toBe("complete");
    first.close();
    environment.advance(4_999);
    const second = client.openRun(run.id);
    expect(second.getSnapshot(), "still warm").toMatchObject({ state: "live", rowsState: "complete" });
    environment.advance(60_000);
    expect(server.room(second.room).sessions.size).toBe(1);
    first.close();
    second.close();
    environment.advance(5_000);
    await expect.poll(() => server.room(second.room).sessions.size).toBe(0);
    expect(client.openRun(run.id).getSnapshot().state, "begins anew").toBe("loading");
  });
});

describe("a project's store", () => {
  test("shows runs as they start, and who is here", async () => {
    const server = new FakeServer();
    server.world.addProject("demo");
    const ada = connect(server).client.openProject("demo");
    const { client: bobs } = connect(server, { id: "u2", name: "Bob" });
    await expect.poll(() => ada.getSnapshot().state).toBe("live");
    const bob = bobs.openProject("demo");
    await expect.poll(() => ada.getSnapshot().presence.map(({ user }) => user?.name)).toEqual(["Ada", "Bob"]);
    const heard: string[] = [];
    ada.onEvent(({ payload }) => heard.push(payload.case ?? ""));
    const run = server.world.addRun({ project: "demo" });
    await expect.poll(() => ada.getSnapshot().runs.map(({ id }) => id)).toEqual([run.id]);
    server.world.endRun(run.id);
    await expect.poll(() => ada.getSnapshot().runs[0]?.state).toBe(RunState.ENDED);
    expect(ada.getSnapshot().recent.length).toBe(2);
    expect(heard).toEqual(["runChanged", "runChanged"]);
    expect(bob.getSnapshot().project?.key).toBe("demo");
    bobs.close();
    await expect.poll(() => ada.getSnapshot().presence.map(({ user }) => user?.name)).toEqual(["Ada"]);
  });
});

describe("a test case's store", () => {
  async function two() {
    const server = new FakeServer();
    const { id } = server.world.addTestCase({ project: "demo", title: "Sign in" });
    const [a, b] = [connect(server), connect(server, { id: "u2", name: "Bob" })];
    const [ada, bob] = [a.client.openTestCase(id), b.client.openTestCase(id)];
    for (const store of [ada, bob])
      await expect.poll(() => store.getSnapshot().commentsState).toBe("complete");
    return { server, id, ada, bob, adasTime: a.environment };
  }

  test("shows each the other's edits and comments", async () => {
    const { ada, bob } = await two();
    const edited = await ada.edit(TestCaseField.TITLE, "Sign in, fast");
    expect(edited.title).toBe("Sign in, fast");
    expect(ada.revision(TestCaseField.TITLE)).toBe(2n);
    await expect.poll(() => bob.getSnapshot().testCase?.title).toBe("Sign in, fast");
    await bob.addComment("Good");
    await expect.poll(() => ada.getSnapshot().comments.map(({ text }) => text)).toEqual(["Good"]);
    expect(bob.getSnapshot().comments.length).toBe(1);
  });

  test("tells who was too late what is there now", async () => {
    const { ada, bob } = await two();
    await ada.edit(TestCaseField.TITLE, "Ada's");
    await expect(bob.edit(TestCaseField.TITLE, "Bob's", 1n)).rejects.toMatchObject({
      code: Code.Aborted,
      reason: "REVISION_MISMATCH",
      metadata: { current_revision: "2", current_value: "Ada's" },
    });
  });

  test("shows the other typing, until it ends by itself", async () => {
    const { ada, bob, adasTime } = await two();
    bob.setActivity("title", ActivityState.TYPING);
    await expect
      .poll(() => ada.getSnapshot().activity.map(({ userName, field }) => [userName, field]))
      .toEqual([["Bob", "title"]]);
    expect(bob.getSnapshot().activity, "not one's own").toEqual([]);
    adasTime.advance(5_999);
    expect(ada.getSnapshot().activity.length).toBe(1);
    adasTime.advance(1);
    await expect.poll(() => ada.getSnapshot().activity).toEqual([]);
  });
});

describe("the user's store", () => {
  test("lists notifications, tells of each new one once, and marks them read on all tabs", async () => {
    const server = new FakeServer();
    server.world.notify("u1", { title: "before" });
    const stores = [connect(server), connect(server)].map(({ client }) => client.openUser());
    const [first, second] = [stores[0]!, stores[1]!];
    for (const store of stores)
      await expect.poll(() => store.getSnapshot().notificationsState).toBe("complete");
    expect(first.room).toBe("user:u1");
    const toasts: string[] = [];
    first.onNotification(({ title }) => toasts.push(title));
    const { id } = server.world.notify("u1", { title: "after" });
    await expect.poll(() => second.getSnapshot().unread).toBe(2);
    await expect.poll(() => toasts).toEqual(["after"]);
    await first.markRead([id]);
    await expect.poll(() => second.getSnapshot().unread).toBe(1);
    await second.markAllRead();
    await expect.poll(() => first.getSnapshot().unread).toBe(0);
    expect(first.getSnapshot().notifications.map(({ title }) => title)).toEqual(["after", "before"]);
    expect(first.getSnapshot().notifications.every(({ readAt }) => readAt !== undefined)).toBe(true);
  });
});

describe("the connection's store", () => {
  test("is idle until something is opened", async () => {
    const server = new FakeServer();
    const { client } = connect(server);
    expect(client.connection.getSnapshot()).toMatchObject({
      state: "idle",
      attempt: 0,
      lastEvents: [],
      quality: undefined,
    });
    await client.projects.listProjects({});
    expect(server.opened).toBe(0);
  });

  test("tells attempts, the next one's time and why, and goes at once when asked to", async () => {
    const server = new FakeServer();
    server.world.addProject("demo");
    const { client, environment } = connect(server);
    client.openProject("demo");
    const { connection } = client;
    await expect.poll(() => connection.getSnapshot().state).toBe("live");
    await expect.poll(() => connection.getSnapshot().quality).toBe("good");
    expect(connection.getSnapshot()).toMatchObject({ serverVersion: "fake", user: { name: "Ada" } });
    server.disconnect();
    await expect.poll(() => connection.getSnapshot().state).toBe("reconnecting");
    expect(connection.getSnapshot()).toMatchObject({
      attempt: 1,
      retryAtMs: environment.now() + 500,
      error: { code: Code.Unavailable },
      quality: undefined,
    });
    connection.reconnect();
    await expect.poll(() => connection.getSnapshot().state).toBe("live");
    expect(connection.getSnapshot()).toMatchObject({ retryAtMs: undefined, error: undefined });
  });

  test("keeps the newest 20 events with a line about each", async () => {
    const server = new FakeServer();
    const run = server.world.addRun({ project: "demo" });
    const { client } = connect(server);
    client.openRun(run.id);
    await expect.poll(() => client.connection.getSnapshot().state).toBe("live");
    for (let i = 1; i <= 30; i++) {
      server.world.report(run.id, { test: { suite: "s", name: `T${i}` }, status: Status.PASSED });
    }
    await expect.poll(() => client.connection.getSnapshot().lastEvents[0]?.text).toBe("T30 passed");
    const { lastEvents } = client.connection.getSnapshot();
    expect(lastEvents.length).toBe(20);
    expect(lastEvents[19]).toMatchObject({
      text: "T11 passed",
      kind: "testExecution",
      room: `testrun:${run.id}`,
    });
  });

  test("grades the connection by round trip and lag", () => {
    expect([
      qualityOf(20, 0),
      qualityOf(400, 0),
      qualityOf(20, 5),
      qualityOf(1_500, 0),
      qualityOf(20, 5_000),
    ]).toEqual(["good", "fair", "fair", "poor", "poor"]);
  });
});
