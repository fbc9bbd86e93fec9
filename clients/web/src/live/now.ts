import { useCallback, useSyncExternalStore } from "react";
import { useClient } from "./client";

/**
 * useNow is the server's time, renewed each periodMs: what it is compared with
 * was written by that clock. While ticking is false it stands still and costs nothing.
 */
export function useNow(periodMs: number, ticking = true): number {
  const { connection } = useClient();
  const subscribe = useCallback(
    (listener: () => void) => {
      if (!ticking) return () => {};
      const timer = setInterval(listener, periodMs);
      return () => clearInterval(timer);
    },
    [periodMs, ticking],
  );
  // Rounded down: a snapshot that is new at each look would render without end. To a second at
  // most, so that a component that has another reason to render shows the time of that.
  const grainMs = Math.min(periodMs, 1000);
  return useSyncExternalStore(subscribe, () => {
    const now = Date.now() + connection.getSnapshot().clockOffsetMs;
    return Math.floor(now / grainMs) * grainMs;
  });
}
