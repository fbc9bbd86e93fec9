import { useClient, useSelected } from "../live/client";

/** useMe is the id of whoever is signed in; empty before the server said so. */
export function useMe(): string {
  const { connection } = useClient();
  return useSelected(connection, ({ user }) => user?.id ?? "");
}
