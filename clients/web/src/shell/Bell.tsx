import { ActionIcon, Button, Popover, Tooltip } from "@mantine/core";
import type { UserStore } from "@tcmanager/client";
import type { Notification } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import { useState } from "react";
import { Icon } from "../components/icon/Icon";
import { Empty, Loading } from "../components/State";
import { formatAgo, formatMoment } from "../format/duration";
import { msOf } from "../format/timestamp";
import { useSnapshot } from "../live/client";
import { useNow } from "../live/now";
import { Link } from "../router/Link";
import { StatusIcon } from "../status/StatusIcon";
import { testids } from "../testids";
import styles from "./Bell.module.css";
import { lookOfNotification, pathOf } from "./notification";

/** The bell with the unread count, and the notification centre behind it. */
export function Bell({ store }: { readonly store: UserStore }) {
  const [open, setOpen] = useState(false);
  const { unread } = useSnapshot(store);
  const label = unread === 0 ? "Notifications" : `Notifications, ${unread} unread`;
  return (
    <Popover opened={open} onChange={setOpen} position="bottom-end" width={360} trapFocus returnFocus>
      <Popover.Target>
        <Tooltip label={label} disabled={open}>
          <ActionIcon
            className={styles.bell ?? ""}
            variant="subtle"
            color="gray"
            size={30}
            aria-label={label}
            data-testid={testids.bell}
            data-unread={unread}
            onClick={() => setOpen(!open)}
          >
            <Icon name="bell" size={17} />
            {unread > 0 && (
              <span className={styles.badge} aria-hidden="true">
                {unread > 99 ? "99+" : unread}
              </span>
            )}
          </ActionIcon>
        </Tooltip>
      </Popover.Target>
      <Popover.Dropdown p={0} data-testid={testids.notificationCenter} aria-label="Notifications">
        <Center store={store} onLeave={() => setOpen(false)} />
      </Popover.Dropdown>
    </Popover>
  );
}

function Center({ store, onLeave }: { readonly store: UserStore; readonly onLeave: () => void }) {
  const { unread, notifications, notificationsState } = useSnapshot(store);
  return (
    <div className={styles.center}>
      <div className={styles.head}>
        <h2>Notifications</h2>
        <Button
          variant="subtle"
          size="compact-xs"
          disabled={unread === 0}
          onClick={() => void store.markAllRead()}
        >
          Mark all read
        </Button>
      </div>
      {notifications.length === 0 && notificationsState === "loading" && (
        <Loading label="Loading notifications" />
      )}
      {notifications.length === 0 && notificationsState !== "loading" && (
        <Empty icon="bell" title="Nothing to read" compact>
          {notificationsState === "failed"
            ? "Older notifications could not be read. New ones will still arrive here."
            : "You will be told here when a test of a critical case fails, or when somebody writes to you."}
        </Empty>
      )}
      <ul className={styles.list}>
        {notifications.map((each) => (
          <Item
            key={each.id}
            notification={each}
            onRead={() => void store.markRead([each.id])}
            onLeave={onLeave}
          />
        ))}
      </ul>
    </div>
  );
}

interface ItemProps {
  readonly notification: Notification;
  readonly onRead: () => void;
  readonly onLeave: () => void;
}

function Item({ notification, onRead, onLeave }: ItemProps) {
  const read = notification.readAt !== undefined;
  const path = pathOf(notification);
  const follow = (): void => {
    if (!read) onRead();
    onLeave();
  };
  return (
    <li className={styles.item} data-testid={testids.notification} data-read={read}>
      <NotificationIcon notification={notification} />
      {path === undefined ? (
        <span className={styles.title}>{notification.title}</span>
      ) : (
        <Link href={path} className={styles.title} onClick={follow}>
          {notification.title}
        </Link>
      )}
      {!read && (
        <Tooltip label="Mark read">
          <ActionIcon
            className={styles.mark ?? ""}
            variant="subtle"
            size={24}
            aria-label={`Mark read: ${notification.title}`}
            onClick={onRead}
          >
            <Icon name="check" size={14} />
          </ActionIcon>
        </Tooltip>
      )}
      {notification.message !== "" && <p className={styles.message}>{notification.message}</p>}
      <Meta notification={notification} />
    </li>
  );
}

function Meta({ notification }: { readonly notification: Notification }) {
  const now = useNow(10_000);
  const at = msOf(notification.createdAt);
  const sender = notification.sender === undefined ? "" : ` · from ${notification.sender.name}`;
  if (at === undefined) return null;
  return (
    <p className={styles.meta}>
      <time dateTime={new Date(at).toISOString()} title={formatMoment(at)}>
        {formatAgo(at, now)}
      </time>
      {sender}
    </p>
  );
}

/** The icon of a notification, with its meaning in words. */
export function NotificationIcon({ notification }: { readonly notification: Notification }) {
  const look = lookOfNotification(notification);
  return (
    <span className={styles.icon}>
      <StatusIcon tone={look.tone} />
      <span className="visually-hidden">{look.word}: </span>
    </span>
  );
}
