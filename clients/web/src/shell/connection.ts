import { Code } from "@connectrpc/connect";
import type { Carrier, ConnectionSnapshot } from "@tcmanager/client";
import { formatClock } from "../format/duration";

/** How the connection is shown. */
export interface ConnectionLook {
  readonly state: "live" | "off" | "connecting" | "catching-up" | "reconnecting" | "offline" | "closed";
  readonly word: string;
  /** The word for where there is little room; it never counts. */
  readonly brief: string;
  /** A sentence more. It is read out when it changes, so it never counts either. */
  readonly detail: string;
  /** When the next try is; empty if none is planned. */
  readonly next: string;
}

/** lookOfConnection says how the connection is shown at a moment of this machine's time. */
export function lookOfConnection(connection: ConnectionSnapshot, nowMs: number): ConnectionLook {
  const said = saidOf(connection, nowMs);
  return { brief: said.word, next: "", ...said };
}

type Said = Pick<ConnectionLook, "state" | "word" | "detail"> & Partial<ConnectionLook>;

function saidOf(connection: ConnectionSnapshot, nowMs: number): Said {
  switch (connection.state) {
    case "live":
      return lookOfLive(connection);
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

function lookOfLost({ offline, retryAtMs }: ConnectionSnapshot, nowMs: number): Said {
  const waitMs = retryAtMs === undefined ? 0 : retryAtMs - nowMs;
  const seconds = formatClock(Math.max(waitMs, 1000));
  const next = waitMs <= 0 ? "Trying now." : `Next try in ${seconds}.`;
  if (offline) {
    const detail = "The server can't be reached. What you see may be old.";
    return { state: "offline", word: "Offline", detail, next };
  }
  return {
    state: "reconnecting",
    word: waitMs <= 0 ? "Reconnecting" : `Reconnecting in ${seconds}`,
    brief: "Reconnecting",
    detail: "The connection was lost. What you see may be old.",
    next,
  };
}

function lookOfLive(connection: ConnectionSnapshot): Said {
  const feel = liveDetail(connection);
  switch (connection.carrier) {
    case "websocket":
    case undefined:
      return { state: "live", word: "Live", detail: feel };
    case "stream":
    case "long-poll":
      return {
        state: "live",
        word: "Live (without websockets)",
        brief: "No websockets",
        detail: `Websockets can't be had here: news comes over plain requests. ${feel}`,
      };
    case "poll":
      return {
        state: "live",
        word: "Every few seconds",
        detail: `Other tabs hold the connections that the browser allows: this one asks every few seconds. ${feel}`,
      };
    case "off":
      return {
        state: "off",
        word: "Live updates are off",
        brief: "Not live",
        detail: "Live updates are switched off on this server; refreshed every 30 s, and when you reconnect.",
      };
    default:
      return connection.carrier satisfies never;
  }
}

/** carrierWord is how a carrier is called in the widget. */
export function carrierWord(carrier: Carrier | undefined): string {
  switch (carrier) {
    case "websocket":
      return "websocket";
    case "stream":
      return "stream";
    case "long-poll":
      return "long poll";
    case "poll":
    case "off":
      return "poll";
    case undefined:
      return "–";
    default:
      return carrier satisfies never;
  }
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
