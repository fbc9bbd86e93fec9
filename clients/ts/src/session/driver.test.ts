import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { EventSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { TestCaseField } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { TcmError } from "../errors";
import type { FakeServer } from "../testing";
import { Heard, MemoryStorage, makeRun, requestIds, requests, setup, stopAll } from "./harness";

afterEach(() => {
  stopAll();
  vi.unstubAllGlobals();
});

describe("a session", () => {
  test("says hello first, then joins, and is live when each room has its state", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    expect(session.status().connection.kind).toBe("connecting");
    await live();
    report(2);
    await expect.poll(() => heard.offsets).toEqual([2, 3]);
    expect(server.received.slice(0, 2).map(({ frame }) => frame.case)).toEqual(["hello", "join"]);
    expect(heard.kinds).toEqual(["joined"]);
    expect(session.welcome?.user?.id).toBe("u1");
  });

  test.each([false, true])("asks for events without delay: %s", async (noDelay) => {
    const { server, session, live } = setup({ noDelay });
    session.join(makeRun(server).room, { listener: () => {} });
    await live();
    const hello = requests(server, "hello").at(-1)?.frame;
    expect(hello?.case === "hello" && hello.value.noDelay).toBe(noDelay);
  });

  test("goes on after a break exactly where it was, as the same session", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    report(3);
    await expect.poll(() => heard.offsets.length).toBe(3);
    const { sessionId } = session.welcome!;
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    report(4);
    environment.advance(1_000);
    await live();
    await expect.poll(() => heard.offsets).toEqual([2, 3, 4, 5, 6, 7, 8]);
    expect(heard.kinds).toEqual(["joined", "stale", "joined"]);
    const rejoin = requests(server, "join").at(-1)?.frame;
    expect(rejoin?.case === "join" && rejoin.value.position).toMatchObject({ offset: 4n });
    expect(session.welcome?.sessionId).toBe(sessionId);
  });

  test("loses nothing and doubles nothing over many breaks", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    for (let round = 0; round < 20; round++) {
      report(round % 4);
      if (round % 3 === 1)
        await expect.poll(() => heard.offsets.at(-1)).toBe(Number(server.room(room).offset));
      server.restart();
      report(1);
      await expect.poll(state).toBe("reconnecting");
      environment.advance(20_000);
      await live();
    }
    report(1);
    const total = 1 + 20 + 5 * (0 + 1 + 2 + 3);
    await expect.poll(() => heard.offsets.length).toBe(total);
    expect(heard.offsets).toEqual(Array.from({ length: total }, (_, i) => i + 2));
  });

  test("keeps its own place while catching up: a second break loses nothing", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    report(5);
    // The stream breaks when the answer to the join has come, but before the missed events.
    const cut = server.room(room);
    const since = cut.since.bind(cut);
    cut.since = (position) => (since(position) === undefined ? undefined : []);
    environment.advance(1_000);
    await expect.poll(state).toBe("catching-up");
    cut.since = since;
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(5_000);
    await live();
    await expect.poll(() => heard.offsets).toEqual([2, 3, 4, 5, 6]);
  });

  test("drops what it has seen, and moves on over kinds it doesn't know", async () => {
    const { server, session, environment, state, live } = setup();
    const { room } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    const unknown = server.publish(room, { case: undefined });
    server.broadcast({ events: [unknown, create(EventSchema, { ...unknown, offset: 1n })] });
    await expect.poll(() => heard.offsets).toEqual([2]);
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    const rejoin = requests(server, "join").at(-1)?.frame;
    expect(rejoin?.case === "join" && rejoin.value.position).toMatchObject({ offset: 2n });
    expect(heard.offsets).toEqual([2]);
  });

  test("begins anew after a reset", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    report(3);
    server.trim(room);
    environment.advance(1_000);
    await live();
    report(1);
    await expect.poll(() => heard.offsets).toEqual([5]);
    expect(heard.kinds).toEqual(["joined", "stale", "reset", "joined"]);
  });

  test("shares a room among its holders and leaves with the last", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    const [first, second] = [new Heard(), new Heard()];
    const one = session.join(room, { listener: first.listener });
    const two = session.join(room, { listener: second.listener });
    await live();
    expect(requests(server, "join").length).toBe(1);
    one.leave();
    one.leave();
    report();
    await expect.poll(() => second.offsets).toEqual([2]);
    expect(first.offsets).toEqual([]);
    two.leave();
    await expect.poll(() => requests(server, "leave").length).toBe(1);
    report();
    await expect.poll(() => server.room(room).sessions.size).toBe(0);
    expect(second.offsets).toEqual([2]);
  });

  test("leaves a room that was given up before the answer came, and joins it again when wanted again", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    session.start();
    await live();
    session.join(room, { listener: () => {} }).leave();
    await expect.poll(() => requests(server, "leave").length).toBe(1);
    await expect.poll(() => server.room(room).sessions.size).toBe(0);
    const heard = new Heard();
    session.join(room, { listener: () => {} }).leave();
    session.join(room, { listener: heard.listener });
    await expect.poll(() => heard.kinds).toEqual(["joined"]);
    report();
    await expect.poll(() => heard.offsets).toEqual([2]);
  });

  test("hears a project that was asked for by its key", async () => {
    const { server, session, live } = setup();
    const project = server.world.addProject("demo");
    const heard = new Heard();
    session.join("project:demo", { listener: heard.listener });
    await live();
    server.world.addRun({ project: "demo" });
    await expect.poll(() => heard.offsets).toEqual([1]);
    expect(heard.events[0]?.room).toBe(`project:${project.id}`);
  });

  test("tells a room that was refused, and does not ask again", async () => {
    const { server, session, environment, state, live } = setup();
    const heard = new Heard();
    session.join("testrun:nowhere", { listener: heard.listener });
    await live();
    const [message] = heard.messages;
    expect(message?.kind === "failed" && message.error).toMatchObject({
      code: Code.PermissionDenied,
      reason: "ROOM_DENIED",
    });
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    expect(requests(server, "join").length).toBe(1);
  });

  test("tells a room that was taken away", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    const error = { code: Code.PermissionDenied, reason: "MEMBER_REMOVED", message: "no longer a member" };
    server.broadcast({ frame: { case: "evicted", value: { room, error } } });
    await expect.poll(() => heard.kinds).toEqual(["joined", "failed"]);
    report();
    await expect.poll(() => server.room(room).offset).toBe(2n);
    expect(heard.offsets).toEqual([]);
  });

  test("survives a listener that throws", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    const reported = vi.fn();
    vi.stubGlobal("reportError", reported);
    const bug = new Error("a bug of the page");
    session.join(room, {
      listener: () => {
        throw bug;
      },
    });
    session.join(room, { listener: heard.listener });
    await live();
    report();
    await expect.poll(() => heard.offsets).toEqual([2]);
    expect(reported).toHaveBeenCalledWith(bug);
  });
});

describe("commands", () => {
  function makeCase(server: FakeServer) {
    return server.world.addTestCase({ project: "demo", title: "Sign in" });
  }

  test("settle with the server's answer", async () => {
    const { server, session, live } = setup();
    const { id } = makeCase(server);
    session.start();
    await live();
    const { comment } = await session.command({ case: "addComment", value: { testCaseId: id, text: "hi" } });
    expect(comment?.text).toBe("hi");
    expect(session.status().unsaved).toBe(0);
  });

  test("reject with the server's reason and facts", async () => {
    const { server, session } = setup();
    const { id } = makeCase(server);
    const edit = { testCaseId: id, field: TestCaseField.TITLE, value: "x", baseRevision: 7n };
    const error = await session
      .command({ case: "editTestCase", value: edit })
      .catch((thrown: TcmError) => thrown);
    expect(error).toMatchObject({
      code: Code.Aborted,
      reason: "REVISION_MISMATCH",
      metadata: { current_revision: "1", current_value: "Sign in" },
    });
  });

  test("given while there is no connection wait, and are counted as unsaved", async () => {
    const { server, session, environment, state } = setup();
    const { id } = makeCase(server);
    server.refuse = new ConnectError("down", Code.Unavailable);
    const answer = session.command({ case: "addComment", value: { testCaseId: id, text: "later" } });
    await expect.poll(state).toBe("reconnecting");
    expect(session.status().unsaved).toBe(1);
    server.refuse = undefined;
    environment.advance(1_000);
    expect((await answer).comment?.text).toBe("later");
    expect(session.status().unsaved).toBe(0);
  });

  test("whose answer was lost are sent again in order, under the same request ids, and happen once", async () => {
    const { server, session, environment, state, live } = setup();
    const { id } = makeCase(server);
    session.start();
    await live();
    server.swallowAnswers = true;
    const texts = ["one", "two", "three"];
    const answers = texts.map((text) =>
      session.command({ case: "addComment", value: { testCaseId: id, text } }),
    );
    await expect.poll(() => server.world.comments.get(id)?.length).toBe(3);
    server.swallowAnswers = false;
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    const settled = await Promise.all(answers);
    expect(settled.map(({ comment }) => comment?.text)).toEqual(texts);
    expect(server.world.comments.get(id)?.map(({ text }) => text)).toEqual(texts);
    const ids = requestIds(server);
    expect(ids.slice(3)).toEqual(ids.slice(0, 3));
  });

  test("are refused when too many wait", async () => {
    const { server, session } = setup();
    server.refuse = new ConnectError("down", Code.Unavailable);
    const waiting = Array.from({ length: 256 }, () =>
      session
        .command({ case: "markNotificationsRead", value: { all: true } })
        .catch((thrown: TcmError) => thrown),
    );
    await expect(
      session.command({ case: "markNotificationsRead", value: { all: true } }),
    ).rejects.toMatchObject({
      reason: "OUTBOX_FULL",
    });
    session.stop();
    expect(
      (await Promise.all(waiting)).every((error) => "code" in error && error.code === Code.Canceled),
    ).toBe(true);
  });

  test("are rejected at once when the session is closed for good", async () => {
    const { server, session, state } = setup();
    server.refuse = new ConnectError("not yours", Code.PermissionDenied);
    const waiting = session.command({ case: "markNotificationsRead", value: { all: true } });
    await expect(waiting).rejects.toMatchObject({ code: Code.PermissionDenied });
    expect(state()).toBe("closed");
    await expect(
      session.command({ case: "markNotificationsRead", value: { all: true } }),
    ).rejects.toMatchObject({
      code: Code.PermissionDenied,
    });
  });

  test("of typing are never kept", async () => {
    const { server, session, environment, state, live } = setup();
    const { id } = makeCase(server);
    session.join(`testcase:${id}`, { listener: () => {} });
    await live();
    session.sendActivity(`testcase:${id}`, "title", ActivityState.TYPING);
    await expect.poll(() => requests(server, "command").length).toBe(1);
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    session.sendActivity(`testcase:${id}`, "title", ActivityState.TYPING);
    expect(session.status().unsaved).toBe(0);
    environment.advance(1_000);
    await live();
    expect(requests(server, "command").length).toBe(1);
  });
});

describe("the connection of a session", () => {
  test("measures the round trip and the server's clock at once", async () => {
    const { session, live } = setup();
    session.start();
    await live();
    await expect.poll(() => session.status().rttMs).toBe(0);
    // The test's clock stands at the beginning of 2026.
    expect(session.status().clockOffsetMs).not.toBe(0);
  });

  test("pings at the welcome's interval", async () => {
    const { server, session, environment, live } = setup({ server: { heartbeatIntervalMs: 10_000 } });
    session.start();
    await live();
    for (let pings = 1; pings <= 3; pings++) {
      await expect.poll(() => requests(server, "ping").length).toBe(pings);
      await expect.poll(() => environment.pendingMs.includes(8_000)).toBe(true);
      environment.advance(8_000);
    }
  });

  test("notices a peer that is gone though nobody says so, and comes back", async () => {
    const { server, session, environment, state, live } = setup({ server: { heartbeatIntervalMs: 10_000 } });
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    await expect.poll(() => environment.pendingMs.includes(8_000)).toBe(true);
    server.silence();
    report(2);
    environment.advance(8_000);
    expect(state(), "it may just be slow").toBe("live");
    environment.advance(20_000);
    expect(state()).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    await expect.poll(() => heard.offsets).toEqual([2, 3]);
  });

  test("probes at once when the page is looked at, and does not wait long", async () => {
    const { server, session, environment, state, live } = setup();
    session.start();
    await live();
    await expect.poll(() => session.status().rttMs).toBeDefined();
    server.silence();
    environment.signal("visible");
    environment.advance(5_000);
    expect(state()).toBe("reconnecting");
  });

  test("gives up on a server that never welcomes", async () => {
    const { server, session, environment, state } = setup({ transports: ["websocket"] });
    server.mute = true;
    session.start();
    await expect.poll(() => server.opened).toBe(1);
    environment.advance(19_999);
    expect(state()).toBe("connecting");
    environment.advance(1);
    expect(state()).toBe("reconnecting");
    const { connection } = session.status();
    expect(connection.kind === "reconnecting" && connection.error?.message).toContain("20 s");
  });

  test("comes back when the server wants it to", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    server.goAway(7_000);
    await expect.poll(state).toBe("reconnecting");
    report(1);
    await expect.poll(() => heard.offsets).toEqual([2]);
    environment.advance(6_999);
    expect(requests(server, "hello").length).toBe(1);
    environment.advance(1);
    await live();
    report(1);
    await expect.poll(() => heard.offsets).toEqual([2, 3]);
  });

  test("takes a session of its own when another took the old one over", async () => {
    const storage = new MemoryStorage();
    const { server, session, environment, state, live } = setup({ storage });
    session.start();
    await live();
    server.disconnect(new ConnectError("the session goes on elsewhere", Code.Aborted));
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    const hello = requests(server, "hello").at(-1)?.frame;
    expect(hello?.case === "hello" && hello.value.sessionId).toBe("");
  });

  test("renews the token within the stream when it is about to expire", async () => {
    const asked: boolean[] = [];
    const { server, session, live } = setup({
      token: ({ refresh }) => {
        asked.push(refresh);
        return refresh ? "new" : "old";
      },
    });
    session.start();
    await live();
    server.broadcast({ frame: { case: "tokenExpiring", value: {} } });
    await expect.poll(() => requests(server, "refreshToken").length).toBe(1);
    const { frame } = requests(server, "refreshToken")[0]!;
    expect(frame.case === "refreshToken" && frame.value.token).toBe("new");
    expect(asked).toEqual([true]);
  });

  test("knows how far it lags, until the server says otherwise or nothing", async () => {
    const { server, session, environment, live } = setup();
    const { room } = makeRun(server);
    session.join(room, { listener: () => {} });
    await live();
    server.broadcast({ frame: { case: "lag", value: { room, events: 500n } } });
    await expect.poll(() => session.status().lag).toBe(500);
    environment.advance(10_000);
    expect(session.status().lag).toBe(0);
  });
});

describe("a reload", () => {
  test("goes on with the session and, where asked for, the place; the next tab does not", async () => {
    const storage = new MemoryStorage();
    const first = setup({ storage });
    const { room, report } = makeRun(first.server);
    const seen = new Heard();
    first.session.join(room, { listener: seen.listener, resumeAfterReload: true });
    await first.live();
    report(3);
    await expect.poll(() => seen.offsets).toEqual([2, 3, 4]);
    first.environment.signal("page-hide");
    const { sessionId } = first.session.welcome!;
    first.session.stop();
    report(2);

    const second = setup({ storage, on: first.server });
    expect(storage.values.size, "a duplicated tab would copy it").toBe(0);
    const heard = new Heard();
    second.session.join(room, { listener: heard.listener, resumeAfterReload: true });
    await second.live();
    await expect.poll(() => heard.offsets).toEqual([5, 6]);
    expect(second.session.welcome?.sessionId).toBe(sessionId);
  });

  test("ignores what it can't read", async () => {
    const storage = new MemoryStorage();
    for (const text of ["", "{", "[]", "null", '{"sessionId":1}', '{"cursors":[1,["a"],["r","x","y"]]}']) {
      storage.setItem("tcmanager.session", text);
      const { session, live } = setup({ storage });
      session.start();
      await live();
    }
  });
});
