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
  // Rounded down to the period: a snapshot may not change between two ticks.
  return useSyncExternalStore(subscribe, () => {
    const now = Date.now() + connection.getSnapshot().clockOffsetMs;
    return Math.floor(now / periodMs) * periodMs;
  });
}
