import { type Notification, NotificationType } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import type { Tone } from "../status/status";

/** How a notification is shown. */
export interface NotificationLook {
  readonly tone: Tone;
  readonly word: string;
}

/** lookOfNotification says how a notification is shown. */
export function lookOfNotification({ type }: Notification): NotificationLook {
  switch (type) {
    case NotificationType.SUCCESS:
      return { tone: "passed", word: "Success" };
    case NotificationType.WARNING:
      return { tone: "flaky", word: "Warning" };
    case NotificationType.ERROR:
      return { tone: "errored", word: "Error" };
    default:
      return { tone: "unknown", word: "Info" };
  }
}

/** notSavedText tells of a change that was not saved before a reload, and won't be; kind is its command's. */
export function notSavedText(kind: string | undefined, why: string): string {
  return `${changes[kind ?? ""] ?? "A change"} made before this page was loaded again was not saved: ${why}.`;
}

const changes: Readonly<Record<string, string>> = {
  editTestCase: "An edit of a test case",
  addComment: "A comment",
  reportResult: "A result",
  startRun: "The start of a run",
  finishRun: "The end of a run",
  markNotificationsRead: "Marking notifications as read",
};

/** pathOf is the page a notification leads to; undefined for none. Only paths of this page count: what is sent may not lead elsewhere. */
export function pathOf({ link }: Notification): string | undefined {
  return /^\/(?![/\\])/.test(link) ? link : undefined;
}
