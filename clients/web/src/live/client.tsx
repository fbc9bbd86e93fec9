import type { TcmClient } from "@tcmanager/client";
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

/** useSnapshot is a store's newest snapshot. */
export function useSnapshot<S>(store: Omit<Room<S>, "close">): S {
  return useSyncExternalStore(store.subscribe, store.getSnapshot);
}

/** useSelected is a part of a store's snapshot: the component renders again only when that part is another. */
export function useSelected<S, T>(store: Omit<Room<S>, "close">, select: (snapshot: S) => T): T {
  return useSyncExternalStore(store.subscribe, () => select(store.getSnapshot()));
}
