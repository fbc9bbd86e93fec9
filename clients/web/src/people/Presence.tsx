import { Tooltip } from "@mantine/core";
import { type Presence, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { cx } from "../components/cx";
import { testids } from "../testids";
import { initials, personColor } from "./color";
import styles from "./Presence.module.css";

/** How present somebody is, as it is shown. */
type Shown = "online" | "idle" | "reconnecting";

function shownOf(state: PresenceState): Shown {
  if (state === PresenceState.IDLE) return "idle";
  return state === PresenceState.RECONNECTING ? "reconnecting" : "online";
}

interface AvatarProps {
  readonly userId: string;
  readonly name: string;
  readonly state?: Shown;
  readonly small?: boolean;
}

/** A person as a disc with initials, in the person's colour. For the eye alone: the name stands beside it or in a label. */
export function Avatar({ userId, name, state = "online", small = false }: AvatarProps) {
  return (
    <span
      className={cx(styles.avatar, small && styles.small)}
      data-state={state}
      style={{ "--person": personColor(userId) }}
      aria-hidden="true"
    >
      {name === "" ? "" : initials(name)}
    </span>
  );
}

interface PresenceProps {
  readonly presence: readonly Presence[];
  /** The reader, who is marked as such. */
  readonly me: string;
}

/** How many discs stand in a row before the rest is a number. */
const inRow = 5;

/** Who is here, as a row of discs. */
export function PresenceRow({ presence, me }: PresenceProps) {
  const extra = presence.length - inRow;
  return (
    <ul className={styles.list} data-testid={testids.presence} aria-label="Here now">
      {presence.map((each, index) => {
        const user = { id: each.user?.id ?? "", name: each.user?.name ?? "" };
        const label = labelOf(each, me);
        return (
          <li
            key={user.id}
            className={index < inRow ? styles.item : "visually-hidden"}
            data-testid={testids.presenceUser}
            data-user={user.id}
            data-state={shownOf(each.state)}
          >
            <Tooltip label={label}>
              <span>
                <Avatar userId={user.id} name={user.name} state={shownOf(each.state)} />
                <span className="visually-hidden">{label}</span>
              </span>
            </Tooltip>
          </li>
        );
      })}
      {extra > 0 && (
        <li className={styles.more} aria-hidden="true">
          +{extra}
        </li>
      )}
    </ul>
  );
}

/** Who is here, one below the other, with names. */
export function PresenceList({ presence, me }: PresenceProps) {
  return (
    <ul className={styles.people} data-testid={testids.presence} aria-label="Here now">
      {presence.map((each) => {
        const user = { id: each.user?.id ?? "", name: each.user?.name ?? "" };
        const state = shownOf(each.state);
        return (
          <li
            key={user.id}
            className={styles.person}
            data-testid={testids.presenceUser}
            data-user={user.id}
            data-state={state}
          >
            <Avatar userId={user.id} name={user.name} state={state} />
            <span>{user.name}</span>
            <span className={styles.note}>{noteOf(each, me)}</span>
          </li>
        );
      })}
    </ul>
  );
}

function noteOf(presence: Presence, me: string): string {
  const notes: string[] = [];
  if (presence.user?.id === me) notes.push("you");
  if (presence.state === PresenceState.IDLE) notes.push("idle");
  if (presence.state === PresenceState.RECONNECTING) notes.push("reconnecting");
  if (presence.sessions > 1) notes.push(`${presence.sessions} tabs`);
  return notes.join(", ");
}

function labelOf(presence: Presence, me: string): string {
  const note = noteOf(presence, me);
  const name = presence.user?.name ?? "Somebody";
  return note === "" ? name : `${name} (${note})`;
}
