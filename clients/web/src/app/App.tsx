import { Code } from "@connectrpc/connect";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { ClientProvider, useConnection } from "../live/client";
import { Pages } from "../pages/Pages";
import { SignInPage } from "../pages/signin/SignInPage";
import { Shell } from "../shell/Shell";
import { makeClient } from "./client";
import { type SignedIn, signIn } from "./token";

/** The page: signed in or not. */
export function App() {
  const who = useSyncExternalStore(signIn.subscribe, signIn.getSnapshot);
  const [notice, setNotice] = useState("");
  if (who === undefined) return <SignInPage notice={notice} />;
  const end = (why: string): void => {
    setNotice(why);
    signIn.set(undefined);
  };
  return <SignedInApp key={who.devUser === "" ? who.token : who.devUser} who={who} onEnd={end} />;
}

function SignedInApp({ who, onEnd }: { readonly who: SignedIn; readonly onEnd: (why: string) => void }) {
  // One client a sign-in: the key of this component changes with it.
  const [client] = useState(() => makeClient(who));
  useEffect(() => () => client.close(), [client]);
  const queries = useMemo(
    () => new QueryClient({ defaultOptions: { queries: { retry: 1, staleTime: 5_000 } } }),
    [],
  );
  return (
    <ClientProvider client={client}>
      <QueryClientProvider client={queries}>
        <EndOfSignIn onEnd={onEnd} />
        <ReadAgain queries={queries} />
        <Shell onSignOut={() => onEnd("")}>
          <Pages />
        </Shell>
      </QueryClientProvider>
    </ClientProvider>
  );
}

/** Goes back to the sign-in page when the server no longer takes the token. */
function EndOfSignIn({ onEnd }: { readonly onEnd: (why: string) => void }) {
  const refused = useConnection(
    ({ state, error }) => state === "closed" && error?.code === Code.Unauthenticated,
  );
  useEffect(() => {
    if (refused) onEnd("Your sign-in is no longer accepted. Please sign in again.");
  }, [refused, onEnd]);
  return null;
}

/** Reads again what was read by calls when the connection is back: meanwhile it failed, or got old. */
function ReadAgain({ queries }: { readonly queries: QueryClient }) {
  const live = useConnection(({ state }) => state === "live");
  const wasLive = useRef(false);
  useEffect(() => {
    if (!live) return;
    const again = wasLive.current;
    wasLive.current = true;
    void queries.invalidateQueries({ predicate: ({ state }) => again || state.status === "error" });
  }, [live, queries]);
  return null;
}
