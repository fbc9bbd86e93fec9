import { createClient, type TcmClient } from "@tcmanager/client";
import { type SignedIn, signIn } from "./token";

/** makeClient makes the page's client for a sign-in. */
export function makeClient(who: SignedIn): TcmClient {
  const anonymous = createClient({ baseUrl: location.origin, token: () => "" });
  return createClient({
    baseUrl: location.origin,
    clientName: "web/0.1.0",
    storage: sessionStorage,
    token: async ({ refresh }) => {
      if (refresh && who.devUser !== "") {
        const { token } = await anonymous.identity.signInDev({ userId: who.devUser });
        signIn.renew(token);
      }
      return signIn.getSnapshot()?.token ?? "";
    },
  });
}
