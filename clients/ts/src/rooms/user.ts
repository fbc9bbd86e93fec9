import type { Notification } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import type { RoomSnapshot } from "../store";

/** UserSnapshot is the live state of the signed-in user's own room. */
export interface UserSnapshot extends RoomSnapshot {
  /** How many notifications are unread, in all. */
  readonly unread: number;
  /** The newest notifications, newest first, at most 200. readAt is set on those that were read on any tab. */
  readonly notifications: readonly Notification[];
  /** "failed" means that older notifications could not be read; new ones still arrive. */
  readonly notificationsState: "loading" | "complete" | "failed";
}
