import { type ConnectionSnapshot, headcountOf, type RoomSnapshot, type TcmClient } from "@tcmanager/client";
import type { Presence } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useSyncExternalStore } from "react";

const ClientContext = createContext<TcmClient | undefined>(undefined);

/** Gives the page's one client to all within. */
export function ClientProvider({
  client,
  children,
}: {
  readonly client: TcmClient;
  readonly children: ReactNode;
}) {
  return <ClientContext value={client}>{children}</ClientContext>;
}

/** useClient is the page's client. */
export function useClient(): TcmClient {
  const client = useContext(ClientContext);
  if (client === undefined) throw new Error("useClient needs a ClientProvider around it");
  return client;
}

interface Room<S> {
  readonly getSnapshot: () => S;
  readonly subscribe: (listener: () => void) => () => void;
  readonly close: () => void;
}

/**
 * useRoom opens a room's store for as long as the component is there. name says
 * which room: another one closes the first. The store is opened while rendering,
 * so that no event is lost between the first picture and the subscription; that
 * is why this page renders without StrictMode, which would open each store twice
 * and close the one in use.
 */
export function useRoom<R extends Room<unknown>>(name: string, open: (client: TcmClient) => R): R {
  const client = useClient();
  // biome-ignore lint/correctness/useExhaustiveDependencies: name stands for open, which is new at each render
  const store = useMemo(() => open(client), [client, name]);
  useEffect(() => () => store.close(), [store]);
  return store;
}

type Source<S> = Omit<Room<S>, "close">;

/** useSnapshot is a store's newest snapshot. */
export function useSnapshot<S>(store: Source<S>): S {
  return useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);
}

/**
 * useSelected is a part of a store's snapshot: the component renders again only
 * when that part is another. select must return what is in the snapshot, and not
 * make a new object each time.
 */
export function useSelected<S, T>(store: Source<S>, select: (snapshot: S) => T): T {
  const selected = () => select(store.getSnapshot());
  return useSyncExternalStore(store.subscribe, selected, selected);
}

/** useConnection is a part of the connection's state; see useSelected. */
export function useConnection<T>(select: (connection: ConnectionSnapshot) => T): T {
  return useSelected(useClient().connection, select);
}

/** usePresence is who is in a room, by name. */
export function usePresence(store: Source<RoomSnapshot>): readonly Presence[] {
  return useSelected(store, ({ presence }) => presence);
}

/** useHeadcount is how many people are in a room, also of those who are not told of one by one. */
export function useHeadcount(store: Source<RoomSnapshot>): number {
  return useSelected(store, headcountOf);
}

/** useEvents is a room's newest durable events, newest first, at most 50. */
export function useEvents(store: Source<RoomSnapshot>): readonly Event[] {
  return useSelected(store, ({ recent }) => recent);
}
