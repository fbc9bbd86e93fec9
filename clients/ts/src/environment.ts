import { Pace } from "./pace";

/** What an environment may notice about the machine and the page. "input" is a sign of a person, now and then. */
export type WakeSignal = "online" | "offline" | "visible" | "hidden" | "input" | "page-hide";

/**
 * Environment is everything the client asks of the world beside the network,
 * so that tests can bring their own time and chance.
 */
export interface Environment {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** From 0 up to, not including, 1. */
  readonly random: () => number;
  /** A new UUID. */
  readonly uuid: () => string;
  /** Calls run once after delayMs. Returns the function that prevents it. */
  readonly after: (delayMs: number, run: () => void) => () => void;
  /** Calls run once, soon, when it suits the display and the page isn't busy; used to batch notifications. */
  readonly frame: (run: () => void) => void;
  /** Whether there is a network at all; true when not known. */
  readonly online: () => boolean;
  /** Whether somebody can see the page; true when not known. */
  readonly visible: () => boolean;
  /**
   * Takes the lock of that name, which all of an origin's tabs share, if nobody
   * holds it. Resolves with the function that gives it back; with undefined if
   * it is taken. Undefined itself where there are no locks.
   */
  readonly tryLock: ((name: string) => Promise<(() => void) | undefined>) | undefined;
  /** Tells of changes. Returns the function that ends it. */
  readonly onSignal: (listener: (signal: WakeSignal) => void) => () => void;
}

/** browserEnvironment is the real one. It works without a window as well, where it never signals. */
export function browserEnvironment(): Environment {
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    uuid: randomUuid,
    after: (delayMs, run) => {
      // A delay beyond 2^31-1 ms would fire at once.
      const timer = setTimeout(run, Math.min(Math.max(delayMs, 0), 2 ** 31 - 1));
      return () => clearTimeout(timer);
    },
    frame: pace.next,
    online: () => globalThis.navigator?.onLine ?? true,
    visible: () => typeof document === "undefined" || document.visibilityState === "visible",
    tryLock: webLocks(),
    onSignal: listenToPage,
  };
}

/** webLocks takes locks of the browser, which frees those of a tab that is gone. Pages without TLS have none. */
function webLocks(): Environment["tryLock"] {
  const locks = globalThis.navigator?.locks;
  if (locks === undefined) return undefined;
  return (name) =>
    new Promise((resolve, reject) => {
      locks
        .request(name, { ifAvailable: true }, (lock) => {
          if (lock === null) return resolve(undefined);
          return new Promise<void>((giveBack) => resolve(giveBack));
        })
        .catch(reject);
    });
}

/** randomUuid also works on pages without TLS, where crypto.randomUUID doesn't exist. */
function randomUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** All that a page shows goes at one pace. */
const pace = new Pace({
  now: () => performance.now(),
  beforePaint,
  afterPaint,
  after: (delayMs, run) => void setTimeout(run, delayMs),
});

/**
 * beforePaint takes whichever comes first of the next animation frame and a
 * timer: a hidden page has no frames, yet its title must follow.
 */
function beforePaint(run: () => void): void {
  let done = false;
  const once = () => {
    if (done) return;
    done = true;
    run();
  };
  if (typeof requestAnimationFrame === "function") {
    requestAnimationFrame(once);
    setTimeout(once, 200);
  } else {
    setTimeout(once, 50);
  }
}

/** afterPaint takes the next task: what is asked for in a frame comes after its picture. */
function afterPaint(run: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    run();
  };
  port2.postMessage(undefined);
}

/** A hand on the mouse makes hundreds of events; one in this time is news enough. */
const inputEveryMs = 5_000;
const inputEvents = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"] as const;

function listenToPage(listener: (signal: WakeSignal) => void): () => void {
  if (typeof window === "undefined") return () => {};
  const stop = new AbortController();
  const { signal } = stop;
  window.addEventListener("online", () => listener("online"), { signal });
  window.addEventListener("offline", () => listener("offline"), { signal });
  window.addEventListener("pagehide", () => listener("page-hide"), { signal });
  document.addEventListener(
    "visibilitychange",
    () => listener(document.visibilityState === "visible" ? "visible" : "hidden"),
    { signal },
  );
  let toldAtMs = Number.NEGATIVE_INFINITY;
  const input = () => {
    if (Date.now() - toldAtMs < inputEveryMs) return;
    toldAtMs = Date.now();
    listener("input");
  };
  for (const name of inputEvents) {
    window.addEventListener(name, input, { signal, passive: true, capture: true });
  }
  return () => stop.abort();
}
