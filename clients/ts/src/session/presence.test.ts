import { PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { afterEach, describe, expect, test } from "vitest";
import { TestEnvironment } from "../testing";
import { requests, setup, stopAll } from "./harness";
import { PresenceWatch } from "./presence";

const { ONLINE, IDLE } = PresenceState;

afterEach(stopAll);

function watch() {
  const environment = new TestEnvironment();
  const told: PresenceState[] = [];
  const presence = new PresenceWatch(environment, (state) => told.push(state));
  const hide = () => {
    environment.isVisible = false;
    presence.signal("hidden");
  };
  const show = () => {
    environment.isVisible = true;
    presence.signal("visible");
  };
  return { environment, presence, told, hide, show };
}

describe("a user's presence", () => {
  test("is idle after five minutes without a hand on the machine, and online with the first touch", () => {
    const { environment, presence, told } = watch();
    environment.advance(299_000);
    presence.signal("input");
    environment.advance(299_999);
    expect(told).toEqual([]);
    environment.advance(1);
    expect(told).toEqual([IDLE]);
    presence.signal("input");
    expect(told).toEqual([IDLE, ONLINE]);
  });

  test("is idle on a hidden page, but not for a glance at another", () => {
    const { environment, told, hide, show } = watch();
    hide();
    environment.advance(2_999);
    show();
    environment.advance(10_000);
    expect(told).toEqual([]);
    hide();
    environment.advance(3_000);
    show();
    expect(told).toEqual([IDLE, ONLINE]);
  });

  test("is not changed by the network", () => {
    const { environment, presence, told } = watch();
    for (const signal of ["online", "offline", "page-hide"] as const) presence.signal(signal);
    environment.advance(1_000);
    expect(told).toEqual([]);
  });
});

describe("a session", () => {
  const told = (server: ReturnType<typeof setup>["server"]) =>
    requests(server, "command").map(({ frame }) =>
      frame.case === "command" && frame.value.command.case === "updatePresence"
        ? frame.value.command.value.state
        : undefined,
    );

  test("tells that its user is idle, again after each reconnect, since a session begins online", async () => {
    const { server, session, environment, state, live } = setup();
    session.start();
    await live();
    environment.isVisible = false;
    environment.signal("hidden");
    environment.advance(3_000);
    await expect.poll(() => told(server)).toEqual([IDLE]);
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    await expect.poll(() => told(server)).toEqual([IDLE, IDLE]);
    environment.isVisible = true;
    environment.signal("visible");
    await expect.poll(() => told(server)).toEqual([IDLE, IDLE, ONLINE]);
    server.disconnect();
    await expect.poll(state).toBe("reconnecting");
    environment.advance(1_000);
    await live();
    expect(told(server).length, "online needs no word").toBe(3);
    expect(session.status().unsaved).toBe(0);
  });
});
