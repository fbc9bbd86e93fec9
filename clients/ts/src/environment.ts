/** What an environment may notice about the machine and the page. */
export type WakeSignal = "online" | "offline" | "visible" | "hidden" | "page-hide";

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
  /** Calls run once, soon, when it suits the display; used to batch notifications. */
  readonly frame: (run: () => void) => void;
  /** Whether there is a network at all; true when not known. */
  readonly online: () => boolean;
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
    frame: nextFrame,
    online: () => globalThis.navigator?.onLine ?? true,
    onSignal: listenToPage,
  };
}

/** randomUuid also works on pages without TLS, where crypto.randomUUID doesn't exist. */
function randomUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * nextFrame takes whichever comes first of the next animation frame and a
 * timer: a hidden page has no frames, yet its title must follow.
 */
function nextFrame(run: () => void): void {
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
  return () => stop.abort();
}
