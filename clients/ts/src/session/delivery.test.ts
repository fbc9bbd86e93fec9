import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { DeliveryClass } from "@tcmanager/gen/tcmanager/v1/delivery_pb";
import { EventSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { afterEach, describe, expect, test, vi } from "vitest";
import { classes, faultOf, Latest } from "./delivery";
import { Heard, makeRun, requests, setup, stopAll } from "./harness";

afterEach(() => {
  stopAll();
  vi.unstubAllGlobals();
});

describe("delivery classes", () => {
  test("are declared for each kind of event in the schema", () => {
    const payload = EventSchema.oneofs.find(({ name }) => name === "payload");
    expect(payload?.fields.length).toBeGreaterThan(9);
    for (const { localName } of payload?.fields ?? []) {
      const known = [DeliveryClass.DURABLE, DeliveryClass.LATEST, DeliveryClass.EPHEMERAL];
      expect(known, localName).toContain(classes.get(localName));
    }
  });

  test.each<[string, MessageInitShape<typeof EventSchema>, string | undefined]>([
    ["durable", { offset: 1n, payload: { case: "testExecution", value: {} } }, undefined],
    [
      "durable without a number",
      { payload: { case: "testExecution", value: {} } },
      "a testExecution came without a number",
    ],
    ["latest", { key: "r", payload: { case: "runProgress", value: {} } }, undefined],
    ["latest without a key", { payload: { case: "presence", value: {} } }, "a presence came without a key"],
    [
      "latest with a number",
      { key: "r", offset: 1n, payload: { case: "runProgress", value: {} } },
      "a runProgress came with a number",
    ],
    ["ephemeral", { payload: { case: "activity", value: {} } }, undefined],
    [
      "ephemeral with a number",
      { offset: 1n, payload: { case: "activity", value: {} } },
      "a activity came with a number",
    ],
    ["of a newer server, durable", { offset: 1n }, undefined],
    ["of a newer server, not durable", {}, undefined],
  ])("of an event that is %s", (_, init, fault) => {
    expect(faultOf(create(EventSchema, init))).toBe(fault);
  });
});

describe("the latest of a key", () => {
  const progress = (key: string, atMs: number) =>
    create(EventSchema, { key, time: timestampFromMs(atMs), payload: { case: "runProgress", value: {} } });

  test("is not replaced by an older one", () => {
    const latest = new Latest();
    expect([2_000, 1_999, 2_000, 3_000].map((atMs) => latest.take(progress("a", 1e12 + atMs)))).toEqual([
      true,
      false,
      true,
      true,
    ]);
    expect(latest.take(progress("b", 1e12)), "keys don't mix").toBe(true);
  });

  test("is what comes when the server's clock was set back", () => {
    const latest = new Latest();
    latest.take(progress("a", 1e12));
    expect(latest.take(progress("a", 1e12 - 3_600_000))).toBe(true);
  });

  test("is known of a bounded number of keys", () => {
    const latest = new Latest();
    latest.take(progress("first", 1e12));
    for (let i = 0; i < 1_000; i++) latest.take(progress(`${i}`, 1e12));
    expect(latest.take(progress("first", 1e12 - 1)), "forgotten").toBe(true);
  });
});

describe("a room", () => {
  const passed = (name: string) => ({
    case: "testExecution" as const,
    value: { test: { suite: "s", name }, attempt: 1 },
  });

  test("ignores events that their class forbids, counts them, and reports each kind once", async () => {
    const reported = vi.fn();
    vi.stubGlobal("reportError", reported);
    const { server, session, environment, live, state } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    for (let i = 0; i < 3; i++) {
      server.broadcast({ events: [{ room, payload: passed("X") }] });
      server.broadcast({ events: [{ room, payload: { case: "runProgress", value: {} } }] });
    }
    report(1);
    await expect.poll(() => heard.offsets).toEqual([2]);
    expect(heard.events.filter(({ payload }) => payload.case !== "presence").length).toBe(1);
    expect(session.status().faults).toBe(6);
    expect(reported.mock.calls.map(([{ message }]) => message)).toEqual([
      "the server broke the protocol: a testExecution came without a number",
      "the server broke the protocol: a runProgress came without a key",
    ]);
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    expect(requests(server, "join").at(-1)?.frame.value).toMatchObject({ position: { offset: 2n } });
  });

  test("skips kinds it doesn't know and moves past them", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    server.publish(room, { case: undefined });
    report(1);
    await expect.poll(() => heard.offsets).toEqual([2, 3]);
    expect(requests(server, "join").length, "no gap").toBe(1);
  });

  test("never applies what comes after a gap: it joins anew from where it is", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    report(1);
    await expect.poll(() => heard.offsets).toEqual([2]);
    const lost = server.room(room);
    const { sessions } = lost;
    const away = [...sessions];
    sessions.clear(); // The server forgets this reader for one event.
    report(1);
    for (const each of away) sessions.add(each);
    report(2);
    await expect.poll(() => heard.offsets).toEqual([2, 3, 4, 5]);
    expect(heard.kinds).toEqual(["joined", "stale", "joined"]);
    expect(requests(server, "join").at(-1)?.frame.value).toMatchObject({ position: { offset: 2n } });
  });

  test("takes a snapshot when the gap is in the log itself, and doesn't spin", async () => {
    const { server, session, environment, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    const gappy = server.room(room);
    const since = gappy.since.bind(gappy);
    gappy.since = (position) => since(position)?.slice(1);
    gappy.sessions.clear();
    report(2);
    server.broadcast({ events: gappy.recent().slice(-1) });
    await expect.poll(() => heard.kinds).toEqual(["joined", "stale", "joined", "stale"]);
    expect(requests(server, "join").length).toBe(2);
    environment.advance(4_000);
    await expect.poll(() => heard.kinds.length).toBe(5);
    const last = heard.messages.at(-1);
    expect(last?.kind === "joined" && last.joined).toMatchObject({
      recovered: false,
      position: { offset: 3n },
    });
    expect(heard.offsets).toEqual([]);
  });

  test("misses something when a bookmark is ahead of it", async () => {
    const { server, session, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    server.broadcast({ frame: { case: "bookmark", value: { room, position: { epoch: 1n, offset: 1n } } } });
    const away = [...server.room(room).sessions];
    server.room(room).sessions.clear();
    report(2);
    for (const each of away) server.room(room).sessions.add(each);
    expect(heard.offsets).toEqual([]);
    server.broadcast({ frame: { case: "bookmark", value: { room, position: { epoch: 1n, offset: 3n } } } });
    await expect.poll(() => heard.offsets).toEqual([2, 3]);
    expect(requests(server, "join").length).toBe(2);
    expect(heard.kinds).toEqual(["joined", "stale", "joined"]);
  });

  test("goes on from a bookmark's place, and never back", async () => {
    const { server, session, environment, state, live } = setup();
    const { room } = makeRun(server);
    session.join(room, { listener: () => {} });
    await live();
    server.broadcast({ frame: { case: "bookmark", value: { room, position: { epoch: 9n, offset: 1n } } } });
    server.broadcast({ frame: { case: "bookmark", value: { room, position: { epoch: 8n, offset: 0n } } } });
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    expect(requests(server, "join").at(-1)?.frame.value).toMatchObject({
      position: { epoch: 9n, offset: 1n },
    });
  });

  test("knows by the last frame of a stream that it misses something", async () => {
    const { server, session, environment, state, live } = setup();
    const { room, report } = makeRun(server);
    const heard = new Heard();
    session.join(room, { listener: heard.listener });
    await live();
    const away = [...server.room(room).sessions];
    server.room(room).sessions.clear();
    report(1);
    for (const each of away) server.room(room).sessions.add(each);
    server.goAway(1_000);
    await expect.poll(state).toBe("reconnecting");
    expect(heard.kinds).toEqual(["joined", "stale"]);
    environment.advance(1_000);
    await live();
    await expect.poll(() => heard.offsets).toEqual([2]);
  });
});
