/**
 * The token is kept in localStorage: a run's address is opened from terminals,
 * chats and mails, each time in a new tab, and sessionStorage would ask to sign
 * in at every one. It also lets a sign-out in one tab reach all of them. Neither
 * storage protects from a script that runs in the page; what does is the
 * content security policy, and the token's short life.
 */
const key = "tcm.token";

/** What is remembered of a sign-in. */
export interface SignedIn {
  readonly token: string;
  /** The development user to sign in again when the token expires; empty for a token that was pasted. */
  readonly devUser: string;
}

type Listener = () => void;
const listeners = new Set<Listener>();
let current = read();

window.addEventListener("storage", (event) => {
  if (event.key !== key && event.key !== null) return;
  current = read();
  for (const listener of listeners) listener();
});

/** The sign-in, as a store that all tabs share. */
export const signIn = {
  getSnapshot: (): SignedIn | undefined => current,
  subscribe: (listener: Listener): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  /** Remembers a sign-in; undefined forgets it: the sign-out. */
  set: (value: SignedIn | undefined): void => {
    current = value;
    write(value);
    for (const listener of listeners) listener();
  },
  /** Remembers a newer token of the same sign-in, without telling: nothing on the page depends on it. */
  renew: (token: string): void => {
    if (current === undefined) return;
    current = { ...current, token };
    write(current);
  },
};

function read(): SignedIn | undefined {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(key) ?? "null");
    if (typeof stored !== "object" || stored === null || !("token" in stored) || !("devUser" in stored))
      return undefined;
    const { token, devUser } = stored;
    return typeof token === "string" && typeof devUser === "string" ? { token, devUser } : undefined;
  } catch {
    // Storage is blocked, or holds something else: sign in anew.
    return undefined;
  }
}

function write(value: SignedIn | undefined): void {
  try {
    if (value === undefined) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Storage is blocked: this tab works until it is closed.
  }
}
