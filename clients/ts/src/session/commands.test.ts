import { Code, ConnectError } from "@connectrpc/connect";
import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { afterEach, describe, expect, test } from "vitest";
import type { DroppedCommand, KeyValueStorage } from "../session";
import { FakeServer } from "../testing";
import { MemoryStorage, requestIds, type Setup, setup, stopAll } from "./harness";

const key = "tcmanager.outbox";

afterEach(stopAll);

/** A server that carries commands out but whose answers are lost, and a test case. */
function losing() {
  const server = new FakeServer();
  const { id } = server.world.addTestCase({ project: "demo", title: "Sign in" });
  return { server, id, texts: () => server.world.comments.get(id)?.map(({ text }) => text) ?? [] };
}

/** A page that is gone without a word, as when its tab crashed, with these comments unanswered. */
async function crashedPage(server: FakeServer, id: string, texts: readonly string[], options: Setup = {}) {
  const storage = new MemoryStorage();
  const page = setup({ on: server, storage, ...options });
  page.session.start();
  await page.live();
  server.swallowAnswers = true;
  for (const text of texts) {
    page.session.command({ case: "addComment", value: { testCaseId: id, text } }).catch(() => {});
  }
  await expect.poll(() => requestIds(server).length).toBe(texts.length);
  const left = new MemoryStorage(storage);
  server.swallowAnswers = false;
  page.session.stop();
  server.disconnect();
  return { left, environment: page.environment };
}

function reload(server: FakeServer, storage: KeyValueStorage, options: Setup = {}) {
  const page = setup({ on: server, storage, ...options });
  const dropped: DroppedCommand[] = [];
  page.session.onDropped((each) => dropped.push(each));
  return { ...page, dropped };
}

describe("commands that were not answered when the page went", () => {
  test("are sent again in order under the same request ids, and happen once", async () => {
    const { server, id, texts } = losing();
    const { left } = await crashedPage(server, id, ["one", "two", "three"]);
    const { session, live, dropped } = reload(server, left);
    expect(session.status().unsaved, "before anything is sent").toBe(3);
    session.start();
    await live();
    await expect.poll(() => session.status().unsaved).toBe(0);
    const ids = requestIds(server);
    expect(ids.slice(3)).toEqual(ids.slice(0, 3));
    expect(texts()).toEqual(["one", "two", "three"]);
    expect(left.values.has(key), "not sent a third time").toBe(false);
    expect(dropped).toEqual([]);
  });

  test("are sent by Execute as well", async () => {
    const { server, id, texts } = losing();
    const { left } = await crashedPage(server, id, ["one", "two"]);
    const { session } = reload(server, left, { transports: ["watch"] });
    session.start();
    await expect.poll(() => session.status().unsaved).toBe(0);
    expect(texts()).toEqual(["one", "two"]);
    expect(left.values.has(key)).toBe(false);
  });

  test("that never left are sent, too, if it was known whose they are", async () => {
    const { server, id, texts } = losing();
    const storage = new MemoryStorage();
    const page = setup({ on: server, storage });
    page.session.start();
    await page.live();
    server.refuse = new ConnectError("down", Code.Unavailable);
    server.disconnect();
    await expect.poll(page.state).toBe("reconnecting");
    const answer = page.session.command({ case: "addComment", value: { testCaseId: id, text: "later" } });
    const left = new MemoryStorage(storage);
    page.session.stop();
    await expect(answer).rejects.toMatchObject({ code: Code.Canceled });
    server.refuse = undefined;
    const { session } = reload(server, left);
    session.start();
    await expect.poll(texts).toEqual(["later"]);
  });

  test("of a duplicated tab are sent by both, and happen once", async () => {
    const { server, id, texts } = losing();
    const { left } = await crashedPage(server, id, ["one", "two"]);
    const copy = new MemoryStorage(left);
    const tabs = [reload(server, left), reload(server, copy)];
    for (const { session } of tabs) session.start();
    for (const { session } of tabs) await expect.poll(() => session.status().unsaved).toBe(0);
    expect(texts()).toEqual(["one", "two"]);
    expect([left.values.has(key), copy.values.has(key)]).toEqual([false, false]);
  });

  test("are not sent as somebody else, and that is told", async () => {
    const { server, id } = losing();
    const { left } = await crashedPage(server, id, ["Ada's"]);
    const sent = requestIds(server).length;
    const { session, live, dropped } = reload(server, left, { user: { id: "u2", name: "Bob" } });
    session.start();
    await live();
    expect(dropped.map(({ error }) => error.reason)).toEqual(["OTHER_USER"]);
    expect(dropped[0]?.command.command).toMatchObject({ case: "addComment", value: { text: "Ada's" } });
    expect(session.status().unsaved).toBe(0);
    expect(requestIds(server).length).toBe(sent);
    expect(left.values.has(key)).toBe(false);
  });

  test.each([
    ["sent again just within the time for which the server remembers them", 53_999, []],
    ["given up rather than done twice when they are older", 54_000, ["REQUEST_TOO_OLD"]],
  ])("are %s", async (_, ageMs, reasons) => {
    const server = new FakeServer({ requestWindowMs: 60_000 });
    const { id } = server.world.addTestCase({ project: "demo", title: "Sign in" });
    const { left } = await crashedPage(server, id, ["old"]);
    const { session, environment, live, dropped } = reload(server, left);
    environment.advance(ageMs);
    session.start();
    await live();
    await expect.poll(() => session.status().unsaved).toBe(0);
    expect(dropped.map(({ error }) => error.reason)).toEqual(reasons);
    expect(requestIds(server).length).toBe(reasons.length === 0 ? 2 : 1);
  });

  test("that the server refuses for good are told", async () => {
    const { server, id } = losing();
    const { left } = await crashedPage(server, id, ["x"]);
    server.world.testCases.delete(id);
    const other = new FakeServer();
    const { session, dropped } = reload(other, left);
    session.start();
    await expect.poll(() => dropped.map(({ error }) => error.code)).toEqual([Code.PermissionDenied]);
    expect(left.values.has(key)).toBe(false);
  });
});

describe("what a page leaves behind", () => {
  test("is no command that was answered, refused, or told to have failed", async () => {
    const { server, id } = losing();
    const storage = new MemoryStorage();
    const { session, live } = setup({ on: server, storage });
    session.start();
    await live();
    await session.command({ case: "addComment", value: { testCaseId: id, text: "saved" } });
    await session.command({ case: "addComment", value: { testCaseId: "none", text: "x" } }).catch(() => {});
    expect(storage.values.has(key)).toBe(false);
    server.swallowAnswers = true;
    const waiting = session.command({ case: "addComment", value: { testCaseId: id, text: "waits" } });
    expect(storage.values.has(key)).toBe(true);
    session.stop();
    await expect(waiting).rejects.toMatchObject({ code: Code.Canceled });
    expect(storage.values.has(key)).toBe(false);
  });

  test("is nothing of typing and presence", async () => {
    const { server, id } = losing();
    const storage = new MemoryStorage();
    const { session, environment, live } = setup({ on: server, storage });
    session.join(`testcase:${id}`, { listener: () => {} });
    await live();
    session.sendActivity(`testcase:${id}`, "title", ActivityState.TYPING);
    environment.advance(300_000);
    expect(storage.values.has(key)).toBe(false);
  });

  test("is bounded, and fits into the storage", async () => {
    const { server, id } = losing();
    const storage = new MemoryStorage();
    server.refuse = new ConnectError("down", Code.Unavailable);
    const { session } = setup({ on: server, storage });
    const text = "x".repeat(30_000);
    for (let i = 0; i < 256; i++) {
      session.command({ case: "addComment", value: { testCaseId: id, text } }).catch(() => {});
    }
    expect(session.status().unsaved).toBe(256);
    expect(storage.values.get(key)?.length).toBeLessThan(1.1 * (1 << 20));
    await expect(
      session.command({ case: "addComment", value: { testCaseId: id, text } }),
    ).rejects.toMatchObject({ reason: "OUTBOX_FULL" });
  });

  test("may be unreadable, or refused by the storage, and costs nothing else", async () => {
    const { server, id } = losing();
    const storage = new MemoryStorage();
    for (const text of ["", "{", "{}", "[1,[]]", '[["u1",1,"%"],["u1",1,""]]', '[[1,"x",2]]']) {
      storage.setItem(key, text);
      expect(setup({ on: server, storage }).session.status().unsaved).toBe(0);
    }
    const full: KeyValueStorage = {
      getItem: () => null,
      setItem: () => {
        throw new Error("QuotaExceededError");
      },
      removeItem: () => {},
    };
    const { session } = setup({ on: server, storage: full });
    const { comment } = await session.command({ case: "addComment", value: { testCaseId: id, text: "hi" } });
    expect(comment?.text).toBe("hi");
  });
});

describe("a command that the server puts off", () => {
  test("is sent again when it may be, and only then", async () => {
    const { server, id, texts } = losing();
    const { session, environment, live } = setup({ on: server });
    session.start();
    await live();
    server.swallowAnswers = true;
    const answer = session.command({ case: "addComment", value: { testCaseId: id, text: "later" } });
    await expect.poll(() => requestIds(server).length).toBe(1);
    server.swallowAnswers = false;
    const error = { code: Code.ResourceExhausted, reason: "RATE_LIMITED", retryAfter: { seconds: 9n } };
    const replyTo = server.received.at(-1)?.id ?? 0n;
    server.broadcast({ replyTo, frame: { case: "error", value: error } });
    await expect.poll(() => environment.pendingMs.includes(9_000)).toBe(true);
    environment.advance(8_999);
    expect(requestIds(server).length).toBe(1);
    environment.advance(1);
    expect((await answer).comment?.text).toBe("later");
    expect(texts()).toEqual(["later"]);
  });
});
