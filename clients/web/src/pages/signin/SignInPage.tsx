import { createClient } from "@tcmanager/client";
import type { GetServerInfoResponse } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import { useEffect, useState } from "react";
import { Failing, Loading } from "../../components/State";
import { useDocumentTitle } from "../../components/useDocumentTitle";
import { testids } from "../../testids";
import { DevUsers } from "./DevUsers";
import styles from "./SignIn.module.css";
import { TokenForm } from "./TokenForm";

type Info =
  | { readonly kind: "loading" }
  | { readonly kind: "loaded"; readonly info: GetServerInfoResponse }
  | { readonly kind: "failed"; readonly error: unknown };

/** Asks who is there. notice says why the reader was signed out; empty for no reason. */
export function SignInPage({ notice }: { readonly notice: string }) {
  useDocumentTitle("Sign in");
  const [info, setInfo] = useState<Info>({ kind: "loading" });
  const [client] = useState(() => createClient({ baseUrl: location.origin, token: () => "" }));
  const [attempt, setAttempt] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: attempt asks again
  useEffect(() => {
    const stop = new AbortController();
    setInfo({ kind: "loading" });
    client.identity
      .getServerInfo({}, { signal: stop.signal })
      .then((loaded) => setInfo({ kind: "loaded", info: loaded }))
      .catch((error: unknown) => {
        if (!stop.signal.aborted) setInfo({ kind: "failed", error });
      });
    return () => stop.abort();
  }, [client, attempt]);
  return (
    <main className={styles.page} data-testid={testids.signIn}>
      <div className={styles.card}>
        <div className={styles.brand}>
          <img src="/icon.svg" alt="" />
          <div>
            <h1>TCManager</h1>
            <p>Test runs and test cases, live</p>
          </div>
        </div>
        {notice !== "" && (
          <p className={styles.notice} role="status">
            {notice}
          </p>
        )}
        <div className={styles.box}>
          {info.kind === "loading" && <Loading label="Asking the server how to sign in" />}
          {info.kind === "failed" && (
            <Failing
              title="Signing in is not possible now"
              error={info.error}
              onRetry={() => setAttempt(attempt + 1)}
            />
          )}
          {info.kind === "loaded" &&
            (info.info.dev ? <DevUsers client={client} users={info.info.devUsers} /> : <TokenForm />)}
        </div>
        {info.kind === "loaded" && <p className={styles.foot}>Server {info.info.version}</p>}
      </div>
    </main>
  );
}
