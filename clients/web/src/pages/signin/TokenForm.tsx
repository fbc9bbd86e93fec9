import { Code } from "@connectrpc/connect";
import { Button, PasswordInput } from "@mantine/core";
import { createClient, toTcmError } from "@tcmanager/client";
import { type FormEvent, useState } from "react";
import { signIn } from "../../app/token";
import { messageOf } from "../../components/State";
import styles from "./SignIn.module.css";

/** Takes a token that somebody was given. It is tried before it is kept. */
export function TokenForm() {
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    const given = token.trim();
    if (given === "") return;
    setBusy(true);
    try {
      await createClient({ baseUrl: location.origin, token: () => given }).identity.getMe({});
      signIn.set({ token: given, devUser: "" });
    } catch (thrown) {
      setError(toTcmError(thrown));
      setBusy(false);
    }
  };
  return (
    <>
      <h2>Sign in</h2>
      <form className={styles.form} onSubmit={(event) => void submit(event)}>
        <PasswordInput
          label="Token"
          description="A JWT from your identity provider, or one that an administrator made with tcmanager token."
          name="token"
          autoComplete="off"
          value={token}
          onChange={(event) => setToken(event.currentTarget.value)}
          error={error === undefined ? undefined : whyNot(error)}
          autoFocus
        />
        <Button type="submit" size="sm" loading={busy} disabled={token.trim() === ""}>
          Sign in
        </Button>
      </form>
    </>
  );
}

function whyNot(error: unknown): string {
  const { code } = toTcmError(error);
  return code === Code.Unauthenticated
    ? "The server does not accept this token. It may have expired, or be for another server: ask for a new one."
    : messageOf(error);
}
