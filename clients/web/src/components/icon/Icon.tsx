import type { ReactNode } from "react";

/** The names of the drawn signs of the page, states of tests apart (see StatusIcon). */
export type IconName =
  | "bell"
  | "branch"
  | "check"
  | "chevron"
  | "clock"
  | "close"
  | "collapse"
  | "commit"
  | "download"
  | "expand"
  | "external"
  | "moon"
  | "offline"
  | "plus"
  | "search"
  | "sun"
  | "system"
  | "terminal"
  | "warning";

const paths: Readonly<Record<IconName, ReactNode>> = {
  bell: <path d="M4 7a4 4 0 0 1 8 0c0 3.5 1.3 4.3 1.3 4.3H2.7S4 10.5 4 7ZM6.6 13.6a1.5 1.5 0 0 0 2.8 0" />,
  branch: (
    <path d="M4.5 5.5v5M11.5 6.2c0 2.6-7 1.4-7 4.3M4.5 2.6a1.4 1.4 0 1 0 0 2.9 1.4 1.4 0 0 0 0-2.9ZM4.5 10.5a1.4 1.4 0 1 0 0 2.9 1.4 1.4 0 0 0 0-2.9ZM11.5 3.3a1.4 1.4 0 1 0 0 2.9 1.4 1.4 0 0 0 0-2.9Z" />
  ),
  check: <path d="m3.2 8.6 3 3 6.6-7.2" />,
  chevron: <path d="m6 3.8 4.2 4.2L6 12.2" />,
  clock: <path d="M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 0 0 8 2.2ZM8 4.9V8l2 1.4" />,
  close: <path d="m4 4 8 8m0-8-8 8" />,
  collapse: <path d="m5 2.5 3 3 3-3M5 13.5l3-3 3 3M2.5 8h11" />,
  commit: <path d="M8 5.4a2.6 2.6 0 1 0 0 5.2 2.6 2.6 0 0 0 0-5.2ZM1.5 8h3.9M10.6 8h3.9" />,
  download: <path d="M8 2.5v7.5M4.8 7.2 8 10.3l3.2-3.1M3 13.3h10" />,
  expand: <path d="m5 5.5 3-3 3 3M5 10.5l3 3 3-3" />,
  external: <path d="M6.5 3.5h-3v9h9v-3M9.5 2.8h3.7v3.7M13 3 7.5 8.5" />,
  moon: <path d="M13.3 9.6A5.7 5.7 0 0 1 6.4 2.7a5.7 5.7 0 1 0 6.9 6.9Z" />,
  offline: (
    <path d="m2.5 2.5 11 11M5 8.8a4.3 4.3 0 0 1 1.8-1M2.8 6.3a7.5 7.5 0 0 1 2-1.4M9.5 5a7.4 7.4 0 0 1 3.7 1.3M8 12.3h0" />
  ),
  plus: <path d="M8 3v10M3 8h10" />,
  search: <path d="M7 2.8a4.2 4.2 0 1 0 0 8.4 4.2 4.2 0 0 0 0-8.4ZM10.1 10.1l3.4 3.4" />,
  sun: (
    <path d="M8 5.3a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.4ZM8 1.6v1.3M8 13.1v1.3M1.6 8h1.3M13.1 8h1.3M3.5 3.5l.9.9M11.6 11.6l.9.9M12.5 3.5l-.9.9M4.4 11.6l-.9.9" />
  ),
  system: <path d="M2.5 3.5h11v7.5h-11ZM6 13.5h4M8 11v2.5" />,
  terminal: <path d="m3 4.5 3.5 3.5L3 11.5M8 11.5h5" />,
  warning: <path d="M8 2.3 14 13H2ZM8 6.5v3M8 11.3v.1" />,
};

/** A drawn sign. It says nothing to a screen reader: the control around it has the name. */
export function Icon({ name, size = 16 }: { readonly name: IconName; readonly size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.4"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      style={{ flex: "none", display: "block" }}
    >
      {paths[name]}
    </svg>
  );
}
