import { type TcmClient, toTcmError } from "@tcmanager/client";
import type { User } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import { useState } from "react";
import { signIn } from "../../app/token";
import { Icon } from "../../components/icon/Icon";
import { Failing } from "../../components/State";
import { Avatar } from "../../people/Presence";
import { testids } from "../../testids";
import styles from "./SignIn.module.css";

/** What a development user is there for, by the role its id ends in. */
const hints: Readonly<Record<string, string>> = {
  owner: "May do everything",
  manager: "Manages members, test cases and runs",
  tester: "Writes test cases and runs tests",
  viewer: "Reads everything, changes nothing",
};

interface DevUsersProps {
  readonly client: TcmClient;
  readonly users: readonly User[];
}

/** The users of a development server, to choose from. */
export function DevUsers({ client, users }: DevUsersProps) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const choose = async (user: User): Promise<void> => {
    setBusy(true);
    try {
      const { token } = await client.identity.signInDev({ userId: user.id });
      signIn.set({ token, devUser: user.id });
    } catch (thrown) {
      setError(toTcmError(thrown));
      setBusy(false);
    }
  };
  return (
    <>
      <h2>This is a development server: choose who to be</h2>
      <ul>
        {users.map((user) => (
          <li key={user.id}>
            <button
              type="button"
              className={styles.user}
              data-testid={testids.signInUser}
              data-user={user.id}
              disabled={busy}
              onClick={() => void choose(user)}
            >
              <Avatar userId={user.id} name={user.name} />
              <span>
                <span className={styles.name}>{user.name}</span>
                <span className={styles.hint}>{hints[user.id.split("-").at(-1) ?? ""] ?? user.email}</span>
              </span>
              <Icon name="chevron" />
            </button>
          </li>
        ))}
      </ul>
      {error !== undefined && <Failing title="Signing in failed" error={error} compact />}
    </>
  );
}
