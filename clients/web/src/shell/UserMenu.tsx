import { Menu } from "@mantine/core";
import { useClient, useSelected } from "../live/client";
import { Avatar } from "../people/Presence";
import { testids } from "../testids";
import styles from "./Shell.module.css";

/** Who is signed in, and the way out. */
export function UserMenu({ onSignOut }: { readonly onSignOut: () => void }) {
  const { connection } = useClient();
  const user = useSelected(connection, (snapshot) => snapshot.user);
  const name = user?.name ?? "Signed in";
  return (
    <Menu position="bottom-end" width={220}>
      <Menu.Target>
        <button
          type="button"
          className={styles.user}
          data-testid={testids.userMenu}
          data-user={user?.id}
          aria-label={`Account: ${name}`}
        >
          <Avatar userId={user?.id ?? ""} name={name} />
        </button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {name}
          {user !== undefined && user.email !== "" && <div>{user.email}</div>}
        </Menu.Label>
        <Menu.Item onClick={onSignOut}>Sign out</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
