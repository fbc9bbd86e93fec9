import { Code } from "@connectrpc/connect";
import { Button } from "@mantine/core";
import { toTcmError } from "@tcmanager/client";
import type { ReactNode } from "react";
import { cx } from "./cx";
import { Icon, type IconName } from "./icon/Icon";
import styles from "./State.module.css";

interface EmptyProps {
  readonly icon: IconName;
  readonly title: string;
  /** What to do about it. */
  readonly children?: ReactNode;
  readonly actions?: ReactNode;
  readonly compact?: boolean;
}

/** A place with nothing in it yet, which says how something gets there. */
export function Empty({ icon, title, children, actions, compact = false }: EmptyProps) {
  return (
    <div className={cx(styles.state, compact && styles.compact)}>
      <span className={styles.sign}>
        <Icon name={icon} size={18} />
      </span>
      <p className={styles.title}>{title}</p>
      {children !== undefined && <div className={styles.text}>{children}</div>}
      {actions !== undefined && <div className={styles.actions}>{actions}</div>}
    </div>
  );
}

interface FailingProps {
  readonly title: string;
  readonly error: unknown;
  readonly onRetry?: () => void;
  readonly actions?: ReactNode;
  readonly compact?: boolean;
}

/** Something that could not be shown, why, and what to do next. */
export function Failing({ title, error, onRetry, actions, compact = false }: FailingProps) {
  return (
    <div className={cx(styles.state, styles.failing, compact && styles.compact)} role="alert">
      <span className={styles.sign}>
        <Icon name="warning" size={18} />
      </span>
      <p className={styles.title}>{title}</p>
      <p className={styles.text}>{messageOf(error)}</p>
      <div className={styles.actions}>
        {onRetry !== undefined && (
          <Button variant="default" onClick={onRetry}>
            Try again
          </Button>
        )}
        {actions}
      </div>
    </div>
  );
}

/** What browsers say when a request did not get through; each has its own words and no code. */
const unreachable = /failed to fetch|networkerror|load failed|network error/i;

/** messageOf is an error as a sentence for people. */
export function messageOf(error: unknown): string {
  if (error === undefined) return "";
  const { code, message, violations } = toTcmError(error);
  if (code === Code.Unavailable || unreachable.test(message)) {
    return "The server can't be reached. Check that it runs, and that you are online.";
  }
  const rules = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
  const text = rules === "" ? message : rules;
  const sentence = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

/** A place that is being filled: grey lines in the shape of what comes. */
export function Loading({ label, lines = 4 }: { readonly label: string; readonly lines?: number }) {
  return (
    <div className={styles.bones} role="status" aria-label={label}>
      {Array.from({ length: lines }, (_, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the lines are all alike and never move
        <div key={index} className={styles.bone} style={{ width: `${92 - ((index * 37) % 45)}%` }} />
      ))}
    </div>
  );
}
