import { Button, Popover } from "@mantine/core";
import { useConnection } from "../live/client";
import { Avatar } from "../people/Presence";
import { testids } from "../testids";
import styles from "./Shell.module.css";

/** Who is signed in, and the way out. */
export function UserMenu({ onSignOut }: { readonly onSignOut: () => void }) {
  const user = useConnection((snapshot) => snapshot.user);
  const name = user?.name ?? "";
  return (
    <Popover position="bottom-end" width={230} trapFocus returnFocus>
      <Popover.Target>
        <button type="button" className={styles.user} data-testid={testids.userMenu} data-user={user?.id}>
          <Avatar
            userId={user?.id ?? ""}
            name={name}
            state={user === undefined ? "reconnecting" : "online"}
          />
          <span className="visually-hidden">Account: {name || "signed in"}</span>
        </button>
      </Popover.Target>
      <Popover.Dropdown p={14} aria-label="Account">
        <div className={styles.account}>
          <div>
            <b>{name || "Signed in"}</b>
            {user !== undefined && user.email !== "" && <p>{user.email}</p>}
          </div>
          <Button variant="default" onClick={onSignOut} fullWidth>
            Sign out
          </Button>
        </div>
      </Popover.Dropdown>
    </Popover>
  );
}
