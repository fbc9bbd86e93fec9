import {
  CollaborationType,
  type CollaborationUpdate,
  type Presence,
  PresenceState,
} from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Joined } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { RoomSnapshot } from "../store";

/** headcountOf is how many people are in a room, those in presence among them. */
export function headcountOf({ presence, crowd }: Pick<RoomSnapshot, "presence" | "crowd">): number {
  return Math.max(crowd, presence.length);
}

/** crowdOf is how many people are in a room that was joined, if those it tells of are not all. */
export function crowdOf({ presence, present }: Joined): number {
  return present > presence.length ? present : 0;
}

/**
 * applyPresence returns who is in the room after somebody came, changed or went. The
 * client's own user goes on being shown when others of a crowd are told of instead.
 */
export function applyPresence(
  present: readonly Presence[],
  update: CollaborationUpdate,
  ownId: string,
): readonly Presence[] {
  const presence = update.data.case === "presence" ? update.data.value : undefined;
  const userId = (presence?.user ?? update.user)?.id;
  if (userId === undefined) return present;
  if (userId === ownId && presence?.state === PresenceState.UNLISTED) return present;
  const others = present.filter((other) => other.user?.id !== userId);
  return presence === undefined || isGone(update.type, presence.state)
    ? others
    : sortPresence([...others, presence]);
}

/** sortPresence returns people by name. */
export function sortPresence(present: readonly Presence[]): readonly Presence[] {
  return [...present].sort((a, b) => (a.user?.name ?? "").localeCompare(b.user?.name ?? ""));
}

/** Whether a user is gone. One whose connection was lost a moment ago is still shown, as reconnecting. */
function isGone(type: CollaborationType, state: PresenceState): boolean {
  if (state === PresenceState.OFFLINE || state === PresenceState.UNLISTED) return true;
  return type === CollaborationType.USER_LEFT && state !== PresenceState.RECONNECTING;
}
