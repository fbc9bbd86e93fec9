import { CollaborationType } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";
import { applyActivity, type FieldActivity } from "./activity";
import { applyPresence, crowdOf, sortPresence } from "./presence";

/** The activity feed's length; the server gives 20 to a late joiner. */
export const feedLength = 50;

/** What a room is before its first message. */
export const emptyRoom: RoomSnapshot = {
  state: "loading",
  error: undefined,
  presence: [],
  crowd: 0,
  activity: [],
  recent: [],
};

/** What the reducer of all rooms looks at beside the message. */
export interface RoomContext {
  readonly nowMs: number;
  /** This client's own session and its user: what they do is no news to the user. */
  readonly sessionId: string;
  readonly userId: string;
}

/** reduceRoom is the part of every room: its state, who is there, what they do, what happened. */
export function reduceRoom(room: RoomSnapshot, message: RoomMessage, context: RoomContext): RoomSnapshot {
  switch (message.kind) {
    case "joined": {
      const { presence, activity, recent, recovered } = message.joined;
      return {
        state: "live",
        error: undefined,
        presence: sortPresence(presence),
        crowd: crowdOf(message.joined),
        activity: activity.reduce((list, one) => addActivity(list, one, context), emptyRoom.activity),
        recent: recovered ? room.recent : recent.slice(-feedLength).reverse(),
      };
    }
    case "events":
      return message.events.reduce((next, event) => reduceEvent(next, event, context), {
        ...room,
        recent: feed(room.recent, message.events),
      });
    case "reset":
      return { ...room, state: "loading" };
    case "stale":
      return room.state === "live" ? { ...room, state: "stale" } : room;
    case "failed":
      return { ...room, state: "failed", error: message.error, presence: [], crowd: 0, activity: [] };
    default:
      message satisfies never;
      return room;
  }
}

function reduceEvent(room: RoomSnapshot, event: Event, context: RoomContext): RoomSnapshot {
  const { payload } = event;
  switch (payload.case) {
    case "presence": {
      const present = applyPresence(room.presence, payload.value, context.userId);
      return {
        ...room,
        presence: present,
        activity: withoutAbsent(room.activity, payload.value.type, event),
      };
    }
    case "headcount":
      return { ...room, crowd: payload.value.present };
    case "activity":
      return { ...room, activity: addActivity(room.activity, payload.value, context) };
    default:
      return room;
  }
}

type ActivityMessage = Parameters<typeof applyActivity>[1];

function addActivity(
  list: readonly FieldActivity[],
  activity: ActivityMessage,
  context: RoomContext,
): readonly FieldActivity[] {
  const isOwn = activity.sessionId === context.sessionId && activity.user?.id === context.userId;
  return isOwn ? list : applyActivity(list, activity, context.nowMs);
}

/** Who left the room does nothing there any more, though nobody says so. */
function withoutAbsent(
  list: readonly FieldActivity[],
  type: CollaborationType,
  event: Event,
): readonly FieldActivity[] {
  if (type !== CollaborationType.USER_LEFT || event.payload.case !== "presence") return list;
  const userId = event.payload.value.user?.id;
  return list.filter((entry) => entry.userId !== userId);
}

/** feed puts the durable ones of events, oldest first, before the feed, newest first. */
function feed(recent: readonly Event[], events: readonly Event[]): readonly Event[] {
  const fresh: Event[] = [];
  for (let i = events.length - 1; i >= 0 && fresh.length < feedLength; i--) {
    const event = events[i];
    if (event !== undefined && event.offset > 0n) fresh.push(event);
  }
  return fresh.length === 0 ? recent : [...fresh, ...recent].slice(0, feedLength);
}
