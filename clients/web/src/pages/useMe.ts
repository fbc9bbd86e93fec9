import { useConnection } from "../live/client";

/** useMe is the id of whoever is signed in; empty before the server said so. */
export function useMe(): string {
  return useConnection(({ user }) => user?.id ?? "");
}
