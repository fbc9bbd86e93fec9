import { type ReactNode, useState } from "react";
import { useRoom } from "../live/client";
import { Bell } from "./Bell";
import { ConnectionIndicator, useConnectionLook } from "./ConnectionIndicator";
import { Crumbs } from "./Crumbs";
import { SchemeToggle } from "./SchemeToggle";
import styles from "./Shell.module.css";
import { StatusWidget } from "./StatusWidget";
import { Toasts } from "./Toasts";
import { TrailProvider } from "./trail";
import { UserMenu } from "./UserMenu";

/** What stands around every page. */
export function Shell({
  onSignOut,
  children,
}: {
  readonly onSignOut: () => void;
  readonly children: ReactNode;
}) {
  const [widget, setWidget] = useState(false);
  const user = useRoom("user", (client) => client.openUser());
  return (
    <TrailProvider>
      <div className={styles.shell}>
        <a className={styles.skip} href="#main">
          Skip to content
        </a>
        <header className={styles.bar}>
          <Crumbs />
          <div className={styles.tools}>
            <ConnectionIndicator open={widget} onToggle={() => setWidget(!widget)} />
            <Bell store={user} />
            <SchemeToggle />
            <UserMenu onSignOut={onSignOut} />
          </div>
        </header>
        <Notice />
        <main id="main" className={styles.main} tabIndex={-1}>
          {children}
        </main>
        {widget && <StatusWidget onClose={() => setWidget(false)} />}
        <Toasts store={user} />
      </div>
    </TrailProvider>
  );
}

/** Says across the page that what it shows may be old. */
function Notice() {
  const look = useConnectionLook();
  if (look.state !== "reconnecting" && look.state !== "offline" && look.state !== "closed") return null;
  return (
    <div className={styles.notice} data-state={look.state}>
      <span role="status">{look.detail}</span>
      <span className={styles.next}>{look.next}</span>
    </div>
  );
}
