import { Button } from "@mantine/core";
import type { FieldActivity } from "@tcmanager/client";
import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { ReactNode } from "react";
import { cx } from "../components/cx";
import { Icon } from "../components/icon/Icon";
import { messageOf } from "../components/State";
import { formatCount } from "../format/duration";
import { personColor } from "../people/color";
import { Avatar } from "../people/Presence";
import { fieldIds } from "../testids";
import styles from "./Field.module.css";
import type { Field, FieldName, ShownDraftState } from "./useField";

interface FieldFrameProps {
  readonly name: FieldName;
  readonly label: string;
  /** The id of the control within. */
  readonly inputId: string;
  readonly field: Field;
  /** How a value reads; itself if left out. */
  readonly read?: (value: string) => string;
  readonly children: ReactNode;
}

/** What stands around an edited field: who else is in it, whether it is saved, and what to do if it can't be. */
export function FieldFrame({
  name,
  label,
  inputId,
  field,
  read = (value) => value,
  children,
}: FieldFrameProps) {
  const ids = fieldIds(name);
  const first = field.others[0];
  return (
    <div className={styles.field}>
      <div className={styles.top}>
        <label htmlFor={inputId}>{label}</label>
        <Editors testId={ids.editors} others={field.others} />
        <SavedMark testId={ids.saved} state={field.state} />
      </div>
      <div
        className={styles.box}
        data-others={first !== undefined}
        style={first === undefined ? {} : { "--person": personColor(first.userId) }}
      >
        {children}
      </div>
      <FieldAlert field={field} read={read} />
      <Typing testId={ids.typing} others={field.others} />
    </div>
  );
}

interface EditorsProps {
  readonly testId: string;
  readonly others: readonly FieldActivity[];
}

/** How many people in a field are shown before the rest is a number. */
const shown = 5;

function Editors({ testId, others }: EditorsProps) {
  const first = others.slice(0, shown);
  const extra = others.length - first.length;
  const rest = extra > 0 ? [`${formatCount(extra)} more`] : [];
  const names = [...first.map(({ userName }) => userName), ...rest].join(", ");
  return (
    <span
      className={styles.editors}
      data-testid={testId}
      data-users={first.map(({ userId }) => userId).join(" ")}
      title={names === "" ? undefined : `${names} in this field`}
    >
      {first.map(({ userId, userName }) => (
        <Avatar key={userId} userId={userId} name={userName} small />
      ))}
      {extra > 0 && <span aria-hidden="true">+{formatCount(extra)}</span>}
      {names !== "" && <span className="visually-hidden">{names} in this field</span>}
    </span>
  );
}

/** Who is typing, as a sentence. The place is kept when nobody is, so that nothing jumps. */
export function Typing({ testId, others }: EditorsProps) {
  const typing = others.filter(({ state }) => state === ActivityState.TYPING);
  const extra = typing.length - shown;
  return (
    <p className={styles.typing} data-testid={testId} aria-live="polite">
      {typing.slice(0, shown).map(({ userId, userName }, index) => (
        <span key={userId}>
          {index > 0 && ", "}
          <i style={{ "--person": personColor(userId) }}>{userName}</i>
        </span>
      ))}
      {extra > 0 && ` and ${formatCount(extra)} more`}
      {typing.length === 1 && " is typing…"}
      {typing.length > 1 && " are typing…"}
    </p>
  );
}

const words: Readonly<Record<ShownDraftState["kind"], string>> = {
  saved: "Saved",
  typing: "Not saved yet",
  saving: "Saving…",
  conflict: "Changed by somebody else",
  failed: "Not saved",
  offline: "Offline: will be saved when the connection is back",
};

function SavedMark({ testId, state }: { readonly testId: string; readonly state: ShownDraftState }) {
  return (
    <span className={styles.saved} data-testid={testId} data-state={state.kind} role="status">
      {state.kind === "saved" && <Icon name="check" size={13} />}
      {state.kind === "offline" && <Icon name="offline" size={13} />}
      {(state.kind === "conflict" || state.kind === "failed") && <Icon name="warning" size={13} />}
      {words[state.kind]}
    </span>
  );
}

interface FieldAlertProps {
  readonly field: Field;
  readonly read: (value: string) => string;
}

function FieldAlert({ field, read }: FieldAlertProps) {
  const { state } = field;
  if (state.kind === "conflict") {
    return (
      <div className={styles.alert} role="alert">
        <span>Somebody else changed this while you were typing. It reads now:</span>
        <blockquote>{read(state.theirs.value) || "(empty)"}</blockquote>
        <div>
          <Button variant="default" onClick={field.takeTheirs}>
            Take theirs
          </Button>
          <Button onClick={field.keepMine}>Keep mine</Button>
        </div>
      </div>
    );
  }
  if (state.kind !== "failed") return null;
  return (
    <div className={cx(styles.alert, styles.bad)} role="alert">
      <div>
        <span>{messageOf(state.error)}</span>
        <Button variant="default" size="compact-xs" onClick={field.retry}>
          Try again
        </Button>
        <Button variant="subtle" size="compact-xs" onClick={field.takeTheirs}>
          Undo
        </Button>
      </div>
    </div>
  );
}
