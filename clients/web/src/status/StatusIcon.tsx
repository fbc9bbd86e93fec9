import { memo, type ReactNode } from "react";
import { cx } from "../components/cx";
import styles from "./StatusIcon.module.css";
import type { Tone } from "./status";

const stroke = {
  fill: "none",
  stroke: "currentColor",
  strokeWidth: 1.6,
  strokeLinecap: "round",
  strokeLinejoin: "round",
} as const;
const cut = { ...stroke, stroke: "var(--surface)", strokeWidth: 1.8 } as const;

/** One shape a tone: filled disc for what ended well or badly, outlines for what did not run, motion for what runs. */
const shapes: Readonly<Record<Tone, ReactNode>> = {
  passed: (
    <>
      <circle cx="8" cy="8" r="6.6" fill="currentColor" />
      <path d="m5.2 8.2 2 2 3.7-4.2" {...cut} />
    </>
  ),
  failed: (
    <>
      <circle cx="8" cy="8" r="6.6" fill="currentColor" />
      <path d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4" {...cut} />
    </>
  ),
  errored: (
    <>
      <path d="M8 1.6 14.8 13.6a.7.7 0 0 1-.6 1H1.8a.7.7 0 0 1-.6-1Z" fill="currentColor" />
      <path d="M8 6.2v3.6M8 12.2v.1" {...cut} />
    </>
  ),
  "timed-out": (
    <>
      <circle cx="8" cy="8" r="6.6" fill="currentColor" />
      <path d="M8 4.6V8l2.2 1.5" {...cut} />
    </>
  ),
  aborted: (
    <>
      <rect x="1.6" y="1.6" width="12.8" height="12.8" rx="3" fill="currentColor" />
      <path d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4" {...cut} />
    </>
  ),
  skipped: (
    <>
      <circle cx="8" cy="8" r="5.9" {...stroke} />
      <path d="m6 5.6 2.4 2.4L6 10.4M10.2 5.6v4.8" {...stroke} strokeWidth={1.4} />
    </>
  ),
  blocked: (
    <>
      <circle cx="8" cy="8" r="5.9" {...stroke} />
      <path d="m3.9 3.9 8.2 8.2" {...stroke} />
    </>
  ),
  running: (
    <g className={styles.spin}>
      <circle cx="8" cy="8" r="5.9" {...stroke} opacity=".25" />
      <path d="M8 2.1A5.9 5.9 0 0 1 13.9 8" {...stroke} strokeWidth={2} />
    </g>
  ),
  paused: (
    <>
      <circle cx="8" cy="8" r="5.9" {...stroke} />
      <path d="M6.5 5.8v4.4M9.5 5.8v4.4" {...stroke} />
    </>
  ),
  queued: <circle cx="8" cy="8" r="5.9" {...stroke} strokeDasharray="2.2 2.430" />,
  flaky: (
    <>
      <path d="M3.1 6.3A5.3 5.3 0 0 1 12.6 5M12.9 9.7A5.3 5.3 0 0 1 3.4 11" {...stroke} />
      <path d="M13 2.4V5.3h-2.9M3 13.6v-2.9h2.9" {...stroke} />
    </>
  ),
  unknown: <circle cx="8" cy="8" r="2.2" fill="currentColor" />,
};

/** The icon of a state. It is for the eye alone: the word stands beside it, or in a label around it. */
export const StatusIcon = memo(function StatusIcon({
  tone,
  size = 16,
}: {
  readonly tone: Tone;
  readonly size?: number;
}) {
  return (
    <svg
      className={cx(styles.icon, styles[tone])}
      width={size}
      height={size}
      viewBox="0 0 16 16"
      aria-hidden="true"
    >
      {shapes[tone]}
    </svg>
  );
});
