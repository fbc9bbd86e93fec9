import { ActionIcon } from "@mantine/core";
import type { UserStore } from "@tcmanager/client";
import { type Notification, NotificationType } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import { useEffect } from "react";
import { Toaster, toast } from "sonner";
import { Icon } from "../components/icon/Icon";
import { useClient } from "../live/client";
import { Link } from "../router/Link";
import { testids } from "../testids";
import { NotificationIcon } from "./Bell";
import styles from "./Bell.module.css";
import { notSavedText, pathOf } from "./notification";

/** How long a toast stays; one that tells of something wrong is there to be read, and stays longer. */
const stayMs = 6000;
const stayWrongMs = 12_000;

/** Shows each new notification for a moment. */
export function Toasts({ store }: { readonly store: UserStore }) {
  useEffect(
    () =>
      store.onNotification((notification) => {
        const read = (): void => void store.markRead([notification.id]);
        toast.custom(
          (id) => <Toast notification={notification} onRead={read} onClose={() => toast.dismiss(id)} />,
          {
            id: notification.id,
            duration: notification.type === NotificationType.ERROR ? stayWrongMs : stayMs,
          },
        );
      }),
    [store],
  );
  const { session } = useClient();
  useEffect(
    () =>
      session.onDropped(({ command, error }) => {
        const text = notSavedText(command.command.case, error.message);
        toast.custom((id) => <NotSaved text={text} onClose={() => toast.dismiss(id)} />, {
          duration: Number.POSITIVE_INFINITY,
        });
      }),
    [session],
  );
  return <Toaster position="bottom-right" visibleToasts={4} expand gap={10} offset={16} mobileOffset={16} />;
}

/** Stays until it was read: what it tells of is lost. */
function NotSaved({ text, onClose }: { readonly text: string; readonly onClose: () => void }) {
  return (
    <div className={styles.toast} data-testid={testids.notSaved} role="alert">
      <span className={styles.lost}>
        <Icon name="warning" size={16} />
      </span>
      <span className={styles.title}>{text}</span>
      <ActionIcon
        className={styles.mark ?? ""}
        variant="subtle"
        color="gray"
        size={24}
        aria-label="Close"
        onClick={onClose}
      >
        <Icon name="close" size={14} />
      </ActionIcon>
    </div>
  );
}

interface ToastProps {
  readonly notification: Notification;
  readonly onRead: () => void;
  readonly onClose: () => void;
}

function Toast({ notification, onRead, onClose }: ToastProps) {
  const path = pathOf(notification);
  const follow = (): void => {
    onRead();
    onClose();
  };
  return (
    <div className={styles.toast} data-testid={testids.toast}>
      <NotificationIcon notification={notification} />
      {path === undefined ? (
        <span className={styles.title}>{notification.title}</span>
      ) : (
        <Link href={path} className={styles.title} onClick={follow}>
          {notification.title}
        </Link>
      )}
      <ActionIcon
        className={styles.mark ?? ""}
        variant="subtle"
        color="gray"
        size={24}
        aria-label="Close"
        onClick={onClose}
      >
        <Icon name="close" size={14} />
      </ActionIcon>
      {notification.message !== "" && <p className={styles.message}>{notification.message}</p>}
    </div>
  );
}
