import { Code } from "@connectrpc/connect";
import type { ConnectionSnapshot } from "@tcmanager/client";
import { formatClock } from "../format/duration";

/** How the connection is shown. */
export interface ConnectionLook {
  readonly state: "live" | "connecting" | "catching-up" | "reconnecting" | "offline" | "closed";
  readonly word: string;
  /** A sentence more, for the widget. */
  readonly detail: string;
}

/** lookOfConnection says how the connection is shown at a moment of this machine's time. */
export function lookOfConnection(connection: ConnectionSnapshot, nowMs: number): ConnectionLook {
  switch (connection.state) {
    case "live":
      return { state: "live", word: "Live", detail: liveDetail(connection) };
    case "catching-up":
      return { state: "catching-up", word: "Catching up", detail: `${connection.lag} events behind.` };
    case "suspended":
      return {
        state: "offline",
        word: "Offline",
        detail: "No network. It goes on by itself when there is one.",
      };
    case "closed":
      return { state: "closed", word: "Closed", detail: closedDetail(connection) };
    case "reconnecting":
      return lookOfLost(connection, nowMs);
    case "idle":
    case "connecting":
      // During a try the connection is as lost as while it waits for the next one.
      if (connection.sessionId !== "" || connection.attempt > 0) return lookOfLost(connection, nowMs);
      return { state: "connecting", word: "Connecting", detail: "Waiting for the server's welcome." };
    default:
      return connection.state satisfies never;
  }
}

function lookOfLost({ offline, retryAtMs }: ConnectionSnapshot, nowMs: number): ConnectionLook {
  const waitMs = retryAtMs === undefined ? 0 : retryAtMs - nowMs;
  const seconds = formatClock(Math.max(waitMs, 1000));
  const next = waitMs <= 0 ? "trying now" : `next try in ${seconds}`;
  if (offline) return { state: "offline", word: "Offline", detail: `The server can't be reached; ${next}.` };
  const word = waitMs <= 0 ? "Reconnecting" : `Reconnecting in ${seconds}`;
  return {
    state: "reconnecting",
    word,
    detail: `The connection was lost; ${next}. What you see may be old.`,
  };
}

function liveDetail({ rttMs, quality }: ConnectionSnapshot): string {
  const trip = rttMs === undefined ? "" : ` ${Math.round(rttMs)} ms to the server and back.`;
  const feel = quality === undefined ? "Connected." : `The connection is ${quality}.`;
  return feel + trip;
}

function closedDetail({ error }: ConnectionSnapshot): string {
  if (error === undefined) return "The connection was ended.";
  if (error.code === Code.Unauthenticated) return "Your sign-in is no longer accepted.";
  return error.message;
}
