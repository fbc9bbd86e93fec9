import {
  CollaborationType,
  type CollaborationUpdate,
  type Presence,
  PresenceState,
} from "@tcmanager/gen/tcmanager/v1/collaboration_pb";

/** applyPresence returns who is in the room after somebody came, changed or went. */
export function applyPresence(
  present: readonly Presence[],
  update: CollaborationUpdate,
): readonly Presence[] {
  const presence = update.data.case === "presence" ? update.data.value : undefined;
  const userId = (presence?.user ?? update.user)?.id;
  if (userId === undefined) return present;
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
  if (state === PresenceState.OFFLINE) return true;
  return type === CollaborationType.USER_LEFT && state !== PresenceState.RECONNECTING;
}
