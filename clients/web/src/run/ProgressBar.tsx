import { cx } from "../components/cx";
import { formatCount } from "../format/duration";
import { testids } from "../testids";
import styles from "./ProgressBar.module.css";
import type { Progress } from "./state";

const parts = ["passed", "failed", "flaky", "skipped", "running"] as const;

/** How a run's tests divide, as one bar. Its label says the same in words. */
export function ProgressBar({
  progress,
  thin = false,
}: {
  readonly progress: Progress;
  readonly thin?: boolean;
}) {
  const total = Math.max(progress.total, 1);
  return (
    <div
      className={cx(styles.bar, thin && styles.thin)}
      role="img"
      aria-label={progressText(progress)}
      data-testid={testids.progress}
    >
      {parts.map(
        (part) =>
          progress[part] > 0 && (
            <div
              key={part}
              className={cx(styles.part, styles[part])}
              data-part={part}
              style={{ width: `${(progress[part] / total) * 100}%` }}
            />
          ),
      )}
    </div>
  );
}

/** progressText is a run's progress in words: "1,204 of about 1,310: 1,190 passed, 3 failed, ...". */
export function progressText(progress: Progress): string {
  const named = parts
    .filter((part) => progress[part] > 0)
    .map((part) => `${formatCount(progress[part])} ${part}`);
  return [doneText(progress), ...(named.length > 0 ? [named.join(", ")] : [])].join(": ");
}

/** doneText says how much of a run is over: exactly once it ended, "of about" while more is expected. */
export function doneText(progress: Progress): string {
  if (!progress.estimated) return `${formatCount(progress.total)} ${progress.total === 1 ? "test" : "tests"}`;
  if (progress.total === 0) return "no tests yet";
  if (progress.remaining === 0) return `${formatCount(progress.done)} so far`;
  return `${formatCount(progress.done)} of about ${formatCount(progress.total)}`;
}
