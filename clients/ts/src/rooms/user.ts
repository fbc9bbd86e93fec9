import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { Notification, NotificationsRead } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";

/** The part of a user's room that is about the user. */
export interface UserState {
  /** How many notifications are unread, in all. */
  readonly unread: number;
  /** The newest notifications, newest first, at most 200. readAt is set on those that were read on any tab. */
  readonly notifications: readonly Notification[];
  /** "failed" means that older notifications could not be read; new ones still arrive. */
  readonly notificationsState: "loading" | "complete" | "failed";
}

/** UserSnapshot is the live state of the signed-in user's own room. */
export interface UserSnapshot extends RoomSnapshot, UserState {}

const maxNotifications = 200;

/** What a user's room is before its first message. */
export const emptyUser: UserState = { unread: 0, notifications: [], notificationsState: "loading" };

/** reduceUser applies what the room heard. */
export function reduceUser(state: UserState, message: RoomMessage): UserState {
  switch (message.kind) {
    case "joined": {
      const { snapshot } = message.joined;
      return snapshot.case === "user" ? { ...state, unread: snapshot.value.unread } : state;
    }
    case "events":
      return message.events.reduce(reduceEvent, state);
    case "reset":
    case "stale":
    case "failed":
      return state;
    default:
      message satisfies never;
      return state;
  }
}

function reduceEvent(state: UserState, { payload, time }: Event): UserState {
  switch (payload.case) {
    case "notificationAdded": {
      const { notification, unread } = payload.value;
      if (notification === undefined) return { ...state, unread };
      return { ...state, unread, notifications: mergeNotifications(state.notifications, [notification]) };
    }
    case "notificationsRead":
      return markRead(state, payload.value, time);
    default:
      return state;
  }
}

/** mergeNotifications returns those of both lists, each once, newest first. One that is read in either is read. */
export function mergeNotifications(
  known: readonly Notification[],
  more: readonly Notification[],
): readonly Notification[] {
  const byId = new Map(known.map((notification) => [notification.id, notification]));
  for (const notification of more) {
    const readAt = notification.readAt ?? byId.get(notification.id)?.readAt;
    byId.set(notification.id, { ...notification, ...(readAt && { readAt }) });
  }
  // UUIDv7 sorts by time.
  return [...byId.values()].sort((a, b) => (a.id > b.id ? -1 : 1)).slice(0, maxNotifications);
}

function markRead(state: UserState, read: NotificationsRead, time: Timestamp | undefined): UserState {
  const ids = new Set(read.ids);
  // Without a time it is read all the same.
  const readAt: Timestamp = time ?? { $typeName: "google.protobuf.Timestamp", seconds: 0n, nanos: 0 };
  const notifications = state.notifications.map((notification) =>
    notification.readAt === undefined && (read.all || ids.has(notification.id))
      ? { ...notification, readAt }
      : notification,
  );
  return { ...state, unread: read.unread, notifications };
}
