/**
 * Which carrier a session takes, as pure logic: what came of the way in use goes
 * in, the way to use next comes out. The websocket is the best one. Networks that
 * block it are known by openings in a row that never led to a welcome, while a
 * fetch does; proxies that hold a streamed answer back, by their silence.
 */

/** What an application may allow: frames over a websocket, or over fetch by Watch and Execute. */
export type TransportName = "websocket" | "watch";

/**
 * How a session's frames travel:
 *
 *     websocket   both ways at any time
 *     stream      over fetch: answers stream in, each command is a call
 *     long-poll   as stream, but an answer ends with its first news
 *     off         real-time is switched off on the server: it is asked now and then
 */
export type Way = "websocket" | "stream" | "long-poll" | "off";

/** Carrier is the way as people are told: "poll" is a tab that found no free connection and asks every few seconds. */
export type Carrier = Way | "poll";

/** Choice is the way to use next, and what it was chosen from. */
export interface Choice {
  readonly way: Way;
  /** What the application wants and the server has not switched off. */
  readonly allowed: readonly TransportName[];
  /** Websockets in a row that were never welcomed; one that hung counts twice, since it cost so long. */
  readonly failures: number;
  /** Whether a websocket was ever welcomed: then it is rather the server that is away than a network that blocks. */
  readonly worked: boolean;
  /** How long to stay on another way before the websocket is tried again beside it. */
  readonly returnMs: number;
}

export type Outcome =
  /** The way in use was welcomed. */
  | { readonly kind: "welcomed" }
  /** The way in use ended, or never came up. */
  | {
      readonly kind: "ended";
      /** Whether the server was heard on it: a welcome, or a refusal with a reason. */
      readonly heard: boolean;
      /** Whether it never came up because nothing was heard in time. */
      readonly silent: boolean;
      /** The error's reason. */
      readonly reason: string;
    }
  /** A websocket that was tried beside the way in use was not welcomed. */
  | { readonly kind: "return-failed"; readonly reason: string }
  /** It was: it is the way now. */
  | { readonly kind: "returned" }
  /** The network changed: what was blocked may not be any more. */
  | { readonly kind: "online" };

/** What to do next. */
export interface Decision {
  readonly choice: Choice;
  /** "wait" leaves the time of the next attempt to the back-off. */
  readonly next: "wait" | "at-once";
}

/** After so many failures another way is tried; where websockets worked before, after twice as many. */
const patience = 2;
/** A network that blocks websockets is asked again after this, then after twice as long each time. */
export const returnAfterMs = 30_000;
/** After a server's absence, which may look like a blocked websocket, much sooner. */
const returnAfterAbsenceMs = 5_000;
/** When the network comes back: as soon as the way in use has proven that it does. */
const returnOnlineMs = 1_000;
export const returnAfterMaxMs = 300_000;

/** firstChoice begins with the way that worked on the page before, if there was one. */
export function firstChoice(allowed: readonly TransportName[], saved: string | null): Choice {
  const remembered = saved === "stream" || saved === "long-poll" ? saved : undefined;
  const way = allowed.includes("websocket") ? "websocket" : "stream";
  return {
    way: (allowed.includes("watch") ? remembered : undefined) ?? way,
    allowed,
    failures: 0,
    worked: false,
    returnMs: returnAfterMs,
  };
}

/** choose is the whole logic. */
export function choose(choice: Choice, outcome: Outcome): Decision {
  switch (outcome.kind) {
    case "welcomed":
      return wait(choice.way === "websocket" ? returned(choice) : choice);
    case "returned":
      return wait(returned(choice));
    case "online":
      return wait(choice.way === "off" ? choice : { ...choice, returnMs: returnOnlineMs });
    case "return-failed":
      return returnFailed(choice, outcome.reason);
    case "ended":
      return ended(choice, outcome);
    default:
      outcome satisfies never;
      return wait(choice);
  }
}

function wait(choice: Choice): Decision {
  return { choice, next: "wait" };
}

function atOnce(choice: Choice): Decision {
  return { choice, next: "at-once" };
}

function returned(choice: Choice): Choice {
  return { ...choice, way: "websocket", failures: 0, worked: true, returnMs: returnAfterMs };
}

function returnFailed(choice: Choice, reason: string): Decision {
  const { choice: next } = reason === "TRANSPORT_OFF" ? bar(choice, "websocket") : wait(choice);
  return wait({ ...next, returnMs: Math.min(2 * choice.returnMs, returnAfterMaxMs) });
}

type Ended = Extract<Outcome, { kind: "ended" }>;

function ended(choice: Choice, { heard, silent, reason }: Ended): Decision {
  const { way } = choice;
  if (reason === "REALTIME_OFF") {
    const off: Choice = { ...choice, way: "off", returnMs: returnAfterMaxMs };
    return way === "off" ? wait(off) : atOnce(off);
  }
  if (reason === "TRANSPORT_OFF") return bar(choice, way === "websocket" ? "websocket" : "watch");
  if (heard) return wait(choice);
  switch (way) {
    case "websocket":
      return websocketFailed(choice, silent);
    case "stream":
      return silent ? atOnce({ ...choice, way: "long-poll" }) : wait(fromWatch(choice));
    case "long-poll":
      return wait(fromWatch(choice));
    case "off":
      return wait(choice);
    default:
      way satisfies never;
      return wait(choice);
  }
}

function websocketFailed(choice: Choice, silent: boolean): Decision {
  const failures = choice.failures + (silent ? 2 : 1);
  const limit = choice.worked ? 2 * patience : patience;
  if (failures < limit || !choice.allowed.includes("watch")) return wait({ ...choice, failures });
  const returnMs = choice.worked ? returnAfterAbsenceMs : returnAfterMs;
  return atOnce({ ...choice, way: "stream", failures, returnMs });
}

/** Fetch gets no welcome either: it is the server that is away, and whatever is back first will do. */
function fromWatch(choice: Choice): Choice {
  return { ...choice, way: choice.allowed.includes("websocket") ? "websocket" : "stream" };
}

function bar(choice: Choice, transport: TransportName): Decision {
  const allowed = choice.allowed.filter((name) => name !== transport);
  const way = allowed.includes("websocket") ? "websocket" : "stream";
  const isWay = (choice.way === "websocket") === (transport === "websocket");
  if (allowed.length === 0) return wait(choice);
  return isWay ? atOnce({ ...choice, allowed, way }) : wait({ ...choice, allowed });
}
