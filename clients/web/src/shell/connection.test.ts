import { Code } from "@connectrpc/connect";
import { type ConnectionSnapshot, TcmError } from "@tcmanager/client";
import { describe, expect, it } from "vitest";
import { lookOfConnection } from "./connection";

const live: ConnectionSnapshot = {
  state: "live",
  sinceMs: 0,
  attempt: 0,
  offline: false,
  retryAtMs: undefined,
  error: undefined,
  carrier: "websocket",
  rttMs: 12.4,
  quality: "good",
  lag: 0,
  clockOffsetMs: 0,
  user: undefined,
  sessionId: "s1",
  serverVersion: "dev",
  unsaved: 0,
  faults: 0,
  lastEvents: [],
};

describe("lookOfConnection", () => {
  it("says how good a live connection is", () => {
    expect(lookOfConnection(live, 0)).toEqual({
      state: "live",
      word: "Live",
      brief: "Live",
      detail: "The connection is good. 12 ms to the server and back.",
      next: "",
    });
  });

  it("says that it is live without websockets, and why", () => {
    for (const carrier of ["stream", "long-poll"] as const) {
      const look = lookOfConnection({ ...live, carrier }, 0);
      expect(look).toMatchObject({ state: "live", word: "Live (without websockets)" });
      expect(look.detail).toContain("Websockets can't be had here");
      expect(look.detail).toContain("12 ms");
    }
  });

  it("says that a tab without a connection of its own only asks now and then", () => {
    expect(lookOfConnection({ ...live, carrier: "poll" }, 0).word).toBe("Every few seconds");
  });

  it("says that live updates are switched off, and how old the page may be", () => {
    expect(lookOfConnection({ ...live, carrier: "off" }, 0)).toEqual({
      state: "off",
      word: "Live updates are off",
      brief: "Not live",
      next: "",
      detail: "Live updates are switched off on this server; refreshed every 30 s, and when you reconnect.",
    });
  });

  it("counts down to the next try, never to zero seconds", () => {
    const lost: ConnectionSnapshot = { ...live, state: "reconnecting", retryAtMs: 10_000 };
    expect(lookOfConnection(lost, 5_000).word).toBe("Reconnecting in 5 s");
    expect(lookOfConnection(lost, 9_600).word).toBe("Reconnecting in 1 s");
    expect(lookOfConnection(lost, 10_000).word).toBe("Reconnecting");
    expect(lookOfConnection(lost, 5_000).next).toBe("Next try in 5 s.");
    expect(lookOfConnection(lost, 10_000).next).toBe("Trying now.");
  });

  it("counts in nothing that is read out", () => {
    for (const offline of [false, true]) {
      const lost: ConnectionSnapshot = { ...live, state: "reconnecting", retryAtMs: 10_000, offline };
      const [before, after] = [lookOfConnection(lost, 5_000), lookOfConnection(lost, 6_000)];
      expect([after.brief, after.detail]).toEqual([before.brief, before.detail]);
      expect(after.next).not.toBe(before.next);
    }
  });

  it("stays lost during each try", () => {
    expect(lookOfConnection({ ...live, state: "connecting", attempt: 2 }, 0).state).toBe("reconnecting");
    expect(lookOfConnection({ ...live, state: "connecting", attempt: 9, offline: true }, 0).state).toBe(
      "offline",
    );
  });

  it("tells the first connection of a page from a lost one", () => {
    expect(lookOfConnection({ ...live, state: "connecting", sessionId: "" }, 0).state).toBe("connecting");
  });

  it("says why it was closed", () => {
    const error = new TcmError({ code: Code.Unauthenticated, message: "x" });
    expect(lookOfConnection({ ...live, state: "closed", error }, 0).detail).toBe(
      "Your sign-in is no longer accepted.",
    );
  });
});
