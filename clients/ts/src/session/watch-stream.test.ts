import { Code, ConnectError } from "@connectrpc/connect";
import { ActivityState, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { WatchMode } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { afterEach, describe, expect, test } from "vitest";
import { FakeServer, switchedOff, TestLocks, websocketBlocked } from "../testing";
import { Heard, MemoryStorage, makeRun, requestIds, requests, type Setup, setup, stopAll } from "./harness";

const { STREAM, LONG_POLL, POLL } = WatchMode;

afterEach(stopAll);

/** A session whose frames travel by Watch alone. */
function watching(options: Setup = {}) {
  return setup({ transports: ["watch"], ...options });
}

/** Lets what was begun go on until it waits for time. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Follows how a session's state is told. */
function follow(session: ReturnType<typeof setup>["session"]) {
  const states: string[] = [];
  session.onStatus(() => {
    const { kind } = session.status().connection;
    if (states.at(-1) !== kind) states.push(kind);
  });
  return states;
}

describe("a session over Watch", () => {
  test("hears its rooms in order, and opens the next Watch where the last one ended, unseen", async () => {
    const { server, session, environment, live } = watching();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    const states = follow(session);
    await live();
    expect(session.status().carrier).toBe("stream");
    for (let round = 0; round < 5; round++) {
      report(2);
      await expect.poll(() => heard.offsets.length).toBe(3 * round + 2);
      server.endWatches();
      await settle();
      report(1); // Between two Watches.
      environment.advance(1_000);
      await expect.poll(() => heard.offsets.length).toBe(3 * round + 3);
    }
    expect(heard.offsets).toEqual(Array.from({ length: 15 }, (_, i) => i + 2));
    expect(new Set(heard.kinds), "never stale").toEqual(new Set(["joined"]));
    expect(states).toEqual(["catching-up", "live"]);
    expect(server.watches).toEqual(Array(6).fill(STREAM));
    expect(requests(server, "ping")).toEqual([]);
  });

  test("is one session, whose user nobody sees leave", async () => {
    const server = new FakeServer();
    const { session, environment, live } = watching({ on: server });
    const other = setup({ on: server, user: { id: "u2", name: "Bob" } });
    const { room } = makeRun(server);
    session.join(room, { listener: () => {} });
    await live();
    const heard = new Heard();
    other.session.join(room, { listener: heard.listener });
    await other.live();
    const { sessionId } = session.welcome!;
    for (let round = 0; round < 3; round++) {
      server.endWatches();
      await settle();
      environment.advance(1_000);
      await settle();
    }
    expect(session.welcome?.sessionId).toBe(sessionId);
    const others = heard.events.filter(
      ({ payload }) => payload.case === "presence" && payload.value.user?.id === "u1",
    );
    expect(others).toEqual([]);
  });

  test("asks for rooms that come together in one more Watch, with the places of those it has", async () => {
    const { server, session, environment, live } = watching();
    const [first, second, third] = [makeRun(server), makeRun(server), makeRun(server)];
    const heard = new Heard();
    session.join(first.room, { listener: heard.listener });
    await live();
    first.report(3);
    await expect.poll(() => heard.offsets.length).toBe(3);
    const rooms = [second, third].map(({ room }) => {
      const each = new Heard();
      session.join(room, { listener: each.listener });
      return each;
    });
    environment.advance(49);
    await settle();
    expect(server.watches.length).toBe(1);
    environment.advance(1);
    for (const each of rooms) await expect.poll(() => each.kinds).toEqual(["joined"]);
    expect(server.watches.length).toBe(2);
    const again = requests(server, "join").filter(
      ({ frame }) => frame.case === "join" && frame.value.room === first.room,
    );
    expect(again.at(-1)?.frame.value).toMatchObject({ position: { offset: 4n } });
    first.report(1);
    await expect.poll(() => heard.offsets).toEqual([2, 3, 4, 5]);
  });

  test("leaves rooms by not asking for them again", async () => {
    const { server, session, environment, live } = watching();
    const { room } = makeRun(server);
    const handle = session.join(room, { listener: () => {} });
    await live();
    handle.leave();
    environment.advance(50);
    await expect.poll(() => server.room(room).sessions.size).toBe(0);
  });

  test("tells a room that was refused, also by a later Watch", async () => {
    const { server, session, environment, live } = watching();
    const { id, room } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    server.world.runs.delete(id);
    server.endWatches();
    await settle();
    environment.advance(1_000);
    await expect.poll(() => heard.kinds).toEqual(["joined", "failed"]);
  });

  test("proves at once that it is there when the page is looked at, and notices when it isn't", async () => {
    const { server, session, environment, state, live } = watching();
    session.start();
    await live();
    environment.signal("visible");
    await expect.poll(() => server.watches.length).toBe(2);
    await settle();
    expect(state()).toBe("live");
    server.mute = true;
    environment.signal("visible");
    await expect.poll(() => server.watches.length).toBe(3);
    environment.advance(5_000);
    await expect.poll(state).toBe("reconnecting");
  });

  test("notices a Watch that ought to have ended", async () => {
    const { server, session, environment, state, live } = watching({
      server: { heartbeatTimeoutMs: 60_000 },
    });
    session.start();
    await live();
    environment.advance(44_999);
    server.broadcast({ frame: { case: "pong", value: {} } });
    await settle();
    server.silence();
    environment.advance(44_999);
    await settle();
    expect(state()).toBe("live");
    environment.advance(1);
    await expect.poll(state).toBe("reconnecting");
  });

  test("is no more patient than the server is", async () => {
    const { server, session, environment, state, live } = watching({
      server: { heartbeatIntervalMs: 1_000, heartbeatTimeoutMs: 3_000 },
    });
    session.start();
    await live();
    server.silence();
    environment.advance(3_999);
    await settle();
    expect(state()).toBe("live");
    environment.advance(1);
    await expect.poll(state).toBe("reconnecting");
  });

  test("goes on with a new token in another Watch", async () => {
    const asked: boolean[] = [];
    const { server, session, live } = watching({
      token: ({ refresh }) => {
        asked.push(refresh);
        return "T";
      },
    });
    session.start();
    await live();
    server.broadcast({ frame: { case: "tokenExpiring", value: {} } });
    await expect.poll(() => server.watches.length).toBe(2);
    await settle();
    expect(session.status().connection.kind).toBe("live");
  });

  test("reconnects after a break as any other", async () => {
    const { server, session, environment, state, live } = watching();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    server.restart();
    await expect.poll(state).toBe("reconnecting");
    report(2);
    environment.advance(1_000);
    await live();
    await expect.poll(() => heard.offsets).toEqual([2, 3]);
    expect(heard.kinds).toEqual(["joined", "stale", "joined"]);
  });
});

describe("commands by Execute", () => {
  test("are carried out once, in order, under the same request ids, however often answers are lost", async () => {
    const { server, session, environment, live } = watching();
    const { id } = server.world.addTestCase({ project: "demo", title: "Sign in" });
    session.start();
    await live();
    server.swallowAnswers = true;
    const texts = ["one", "two", "three", "four", "five"];
    const answers = texts.map((text) =>
      session.command({ case: "addComment", value: { testCaseId: id, text } }),
    );
    await expect.poll(() => server.world.comments.get(id)?.length).toBe(5);
    expect(session.status().unsaved).toBe(5);
    server.swallowAnswers = false;
    await settle();
    environment.advance(2_000);
    expect((await Promise.all(answers)).map(({ comment }) => comment?.text)).toEqual(texts);
    expect(server.world.comments.get(id)?.map(({ text }) => text)).toEqual(texts);
    expect(new Set(requestIds(server)).size).toBe(5);
    expect(session.status()).toMatchObject({ unsaved: 0, connection: { kind: "live" } });
  });

  test("reject with the server's reason and facts", async () => {
    const { session } = watching();
    const refused = session.command({ case: "addComment", value: { testCaseId: "nowhere", text: "x" } });
    await expect(refused).rejects.toMatchObject({ code: Code.PermissionDenied });
  });

  test("that come too often wait as long as the server says", async () => {
    const { server, session, environment, live } = watching();
    session.start();
    await live();
    server.refuseExecute = new ConnectError("busy", Code.Unavailable);
    const answer = session.command({ case: "markNotificationsRead", value: { all: true } });
    await settle();
    expect(session.status().unsaved).toBe(1);
    server.refuseExecute = undefined;
    environment.advance(2_000);
    await expect(answer).resolves.toMatchObject({ unread: 0 });
  });

  test("tell who is typing, and who is away", async () => {
    const server = new FakeServer();
    const { session, environment, live } = watching({ on: server });
    const other = setup({ on: server, user: { id: "u2", name: "Bob" } });
    const { id } = server.world.addTestCase({ project: "demo", title: "Sign in" });
    session.join(`testcase:${id}`, { listener: () => {} });
    await live();
    const heard = new Heard();
    other.session.join(`testcase:${id}`, { listener: heard.listener });
    await other.live();
    session.sendActivity(`testcase:${id}`, "title", ActivityState.TYPING);
    await expect.poll(() => heard.events.map(({ payload }) => payload.case)).toContain("activity");
    environment.isVisible = false;
    environment.signal("hidden");
    await settle();
    environment.advance(3_000);
    await expect
      .poll(() => heard.events.at(-1)?.payload)
      .toMatchObject({ case: "presence", value: { data: { value: { state: PresenceState.IDLE } } } });
    expect(session.status().unsaved).toBe(0);
  });
});

describe("the carrier of a session", () => {
  test("is the stream where websockets are blocked, and the websocket once they aren't", async () => {
    const storage = new MemoryStorage();
    const { server, session, environment, state, live } = setup({ storage });
    const { room, report } = makeRun(server);
    server.refuseWebSockets = websocketBlocked();
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    expect(session.status().carrier).toBe("stream");
    expect(storage.values.get("tcmanager.carrier")).toBe("stream");
    report(1);
    await expect.poll(() => heard.offsets).toEqual([2]);
    const states = follow(session);
    const messages = heard.messages.length;

    environment.advance(29_999);
    await settle();
    expect(requests(server, "hello").length).toBe(1);
    environment.advance(1);
    await settle();
    expect(session.status().carrier, "still blocked").toBe("stream");
    server.refuseWebSockets = undefined;
    server.endWatches();
    await settle();
    report(1);
    environment.advance(1_000);
    await settle();
    environment.advance(30_000);
    report(1);
    await settle();
    environment.advance(29_000);
    await expect.poll(() => session.status().carrier).toBe("websocket");
    report(1);
    await expect.poll(() => heard.offsets).toEqual([2, 3, 4, 5]);
    expect(
      heard.messages.slice(messages).map(({ kind }) => kind),
      "not a moment stale",
    ).not.toContain("stale");
    expect(new Set(states)).toEqual(new Set(["live"]));
    expect(storage.values.has("tcmanager.carrier")).toBe(false);
    expect(server.streams).toBe(1);
  });

  test("moves with commands under way, which happen once", async () => {
    const { server, session, environment, live } = setup({ storage: new MemoryStorage() });
    const { id } = server.world.addTestCase({ project: "demo", title: "Sign in" });
    server.refuseWebSockets = websocketBlocked();
    session.start();
    await settle();
    environment.advance(1_000);
    await live();
    server.refuseExecute = new ConnectError("gone", Code.Unavailable);
    const answer = session.command({ case: "addComment", value: { testCaseId: id, text: "once" } });
    await settle();
    server.refuseWebSockets = undefined;
    environment.signal("online");
    await settle();
    environment.advance(1_000);
    expect((await answer).comment?.text).toBe("once");
    expect(session.status().carrier).toBe("websocket");
    expect(server.world.comments.get(id)?.length).toBe(1);
  });

  test("is what worked on the page before", async () => {
    const storage = new MemoryStorage();
    storage.setItem("tcmanager.carrier", "stream");
    const { server, session, live } = setup({ storage });
    server.refuseWebSockets = websocketBlocked();
    session.start();
    await live();
    expect(server.opened).toBe(1);
  });

  test("stays the websocket when the server restarts", async () => {
    const { server, session, environment, state, live } = setup();
    session.start();
    await live();
    server.restart();
    server.refuse = new ConnectError("down", Code.Unavailable);
    for (let tries = 0; tries < 3; tries++) {
      await expect.poll(state).toBe("reconnecting");
      environment.advance(20_000);
      await settle();
    }
    server.refuse = undefined;
    environment.advance(20_000);
    await live();
    expect(session.status().carrier).toBe("websocket");
    expect(server.watches).toEqual([]);
  });

  test("goes on when the try to return took the session over and then broke", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    server.refuseWebSockets = websocketBlocked();
    session.join(room, { listener: heard.listener });
    await settle();
    environment.advance(1_000);
    await live();
    server.refuseWebSockets = undefined;
    server.mute = true;
    environment.advance(30_000);
    await settle();
    // What a hello that arrived does to the Watch.
    server.disconnect(new ConnectError("the session goes on elsewhere", Code.Aborted));
    await settle();
    expect(state(), "its welcome is on the way").toBe("live");
    server.mute = false;
    environment.advance(20_000);
    await expect.poll(state).toBe("reconnecting");
    report(1);
    environment.advance(1_000);
    await live();
    await expect.poll(() => heard.offsets).toEqual([2]);
  });

  test("is a long poll where a proxy holds answers back", async () => {
    const { server, session, environment, live } = watching();
    const { room, report } = makeRun(server);
    server.buffered = true;
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await expect.poll(() => server.watches).toEqual([STREAM]);
    environment.advance(5_000);
    await live();
    await expect.poll(() => server.watches).toEqual([STREAM, POLL, LONG_POLL]);
    expect(session.status().carrier).toBe("long-poll");
    for (let i = 1; i <= 3; i++) {
      report(1);
      await expect.poll(() => heard.offsets.length).toBe(i);
      environment.advance(250);
      await expect.poll(() => server.watches.length).toBe(3 + i);
    }
    expect(heard.offsets).toEqual([2, 3, 4]);
    expect(heard.kinds).not.toContain("stale");
    // A room that is new is not kept waiting for news of the others.
    const other = new Heard();
    session.join(makeRun(server).room, { listener: other.listener });
    environment.advance(50);
    await expect.poll(() => other.kinds).toEqual(["joined"]);
    expect(server.watches.slice(-2)).toEqual([POLL, LONG_POLL]);
  });

  test("is a poll in the fourth tab, until one of the others is closed", async () => {
    const server = new FakeServer();
    const { tryLock, taken } = new TestLocks();
    const { room, report } = makeRun(server);
    const tabs = await Promise.all(
      [1, 2, 3, 4].map(async () => {
        const tab = watching({ on: server });
        tab.environment.tryLock = tryLock;
        const heard = new Heard();
        tab.session.join(room, { listener: heard.listener });
        await tab.live();
        return { ...tab, heard };
      }),
    );
    const carriers = () => tabs.map(({ session }) => session.status().carrier).sort();
    expect(carriers()).toEqual(["poll", "stream", "stream", "stream"]);
    expect([...taken].sort()).toEqual(["tcm-watch-1", "tcm-watch-2", "tcm-watch-3"]);
    const poller = tabs.find(({ session }) => session.status().carrier === "poll")!;
    report(1);
    poller.environment.advance(2_000);
    await expect.poll(() => poller.heard.offsets).toEqual([2]);
    poller.environment.isVisible = false;
    report(1);
    await settle();
    poller.environment.advance(2_000);
    await settle();
    // The pause began while the page was visible.
    await expect.poll(() => poller.heard.offsets).toEqual([2, 3]);
    report(1);
    poller.environment.advance(14_999);
    await settle();
    expect(poller.heard.offsets).toEqual([2, 3]);
    poller.environment.advance(1);
    await expect.poll(() => poller.heard.offsets).toEqual([2, 3, 4]);
    expect(poller.heard.kinds).not.toContain("stale");
    tabs.find(({ session }) => session.status().carrier === "stream")!.session.stop();
    await settle();
    poller.environment.advance(15_000);
    await expect.poll(() => poller.session.status().carrier).toBe("stream");
  });

  test("is a poll every 30 s, and on demand, while real-time is switched off", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    server.realtimeOff = true;
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    expect(session.status().carrier).toBe("off");
    expect(server.watches).toEqual([POLL]);
    report(1);
    await settle();
    environment.advance(29_999);
    await settle();
    expect(heard.offsets).toEqual([]);
    environment.advance(1);
    await expect.poll(() => heard.offsets).toEqual([2]);
    report(1);
    session.reconnect();
    await expect.poll(() => heard.offsets).toEqual([2, 3]);
    await live();
    server.realtimeOff = false;
    for (let polls = 0; polls < 10; polls++) {
      environment.advance(30_000);
      await settle();
    }
    await expect.poll(() => session.status().carrier).toBe("websocket");
    expect(state()).toBe("live");
  });

  test("is the next one where one is switched off", async () => {
    const { server, session, environment, live } = setup();
    server.refuseWebSockets = switchedOff("TRANSPORT_OFF");
    session.start();
    await live();
    expect(session.status().carrier).toBe("stream");
    environment.advance(600_000);
    await settle();
    expect(requests(server, "hello").every(({ id }) => id === 1n)).toBe(true);
  });
});
