import type { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";

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
