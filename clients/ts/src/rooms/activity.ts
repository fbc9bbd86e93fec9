import { type Activity, ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { durationToMs } from "../time";

/** FieldActivity is what one session of a user is doing in a field. */
export interface FieldActivity {
  readonly userId: string;
  readonly userName: string;
  /** Tells two tabs of one user apart. */
  readonly sessionId: string;
  /** The field, for example "title" or "comment". */
  readonly field: string;
  /** FOCUSED or TYPING: who left is not listed. */
  readonly state: ActivityState.FOCUSED | ActivityState.TYPING;
  /** When it ends by itself, by this machine's clock; undefined when it holds until the session leaves. */
  readonly expiresAtMs: number | undefined;
}

/**
 * applyActivity returns what is being done after activity arrived at nowMs. A
 * session is in one field at a time, so being in the next ends being in the
 * last, even if the word of leaving it was lost.
 */
export function applyActivity(
  list: readonly FieldActivity[],
  activity: Activity,
  nowMs: number,
): readonly FieldActivity[] {
  const { sessionId, field, user, state, expiresIn } = activity;
  // The ids of sessions are shown to everyone in the room, so an id alone may be another user's.
  const isOfSession = (entry: FieldActivity) =>
    entry.sessionId === sessionId && entry.userId === (user?.id ?? "");
  if (state !== ActivityState.FOCUSED && state !== ActivityState.TYPING) {
    const left = (entry: FieldActivity) => isOfSession(entry) && entry.field === field;
    return list.some(left) ? list.filter((entry) => !left(entry)) : list;
  }
  const entry: FieldActivity = {
    userId: user?.id ?? "",
    userName: user?.name ?? "",
    sessionId,
    field,
    state,
    expiresAtMs: expiresIn === undefined ? undefined : nowMs + durationToMs(expiresIn),
  };
  return [...list.filter((other) => !isOfSession(other)), entry];
}

/** expireActivity returns what still holds at nowMs; the same list if all of it does. */
export function expireActivity(list: readonly FieldActivity[], nowMs: number): readonly FieldActivity[] {
  const holds = (entry: FieldActivity) => entry.expiresAtMs === undefined || entry.expiresAtMs > nowMs;
  return list.every(holds) ? list : list.filter(holds);
}

/** nextExpiryMs returns when the next of them ends by itself; undefined if none does. */
export function nextExpiryMs(list: readonly FieldActivity[]): number | undefined {
  let next: number | undefined;
  for (const { expiresAtMs } of list) {
    if (expiresAtMs !== undefined && (next === undefined || expiresAtMs < next)) next = expiresAtMs;
  }
  return next;
}
