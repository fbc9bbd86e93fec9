import { Tooltip } from "@mantine/core";
import { type Presence, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { cx } from "../components/cx";
import { formatCount } from "../format/duration";
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
  /** How many people are here; of a crowd more than presence has. */
  readonly count: number;
  /** The reader, who is marked as such. */
  readonly me: string;
}

/** How many discs stand in a row before the rest is a number. */
const inRow = 5;

/** Who is here, as a row of discs. */
export function PresenceRow({ presence, count, me }: PresenceProps) {
  const extra = count - Math.min(inRow, presence.length);
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
        <li className={styles.more} aria-hidden="true" data-testid={testids.presenceMore}>
          +{formatCount(extra)}
        </li>
      )}
      {count > presence.length && <li className="visually-hidden">{restOf(count - presence.length)}</li>}
    </ul>
  );
}

/** How many people are surely seen without scrolling. */
const inSight = 10;

/** Who is here, one below the other, with names; and how many more. */
export function PresenceList({ presence, count, me }: PresenceProps) {
  const extra = count - presence.length;
  return (
    <>
      <ul
        className={styles.people}
        data-testid={testids.presence}
        aria-label="Here now"
        tabIndex={presence.length > inSight ? 0 : undefined}
      >
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
      {extra > 0 && (
        <p className={styles.rest} data-testid={testids.presenceMore}>
          {restOf(extra)}
        </p>
      )}
    </>
  );
}

function restOf(extra: number): string {
  return `and ${formatCount(extra)} more`;
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
