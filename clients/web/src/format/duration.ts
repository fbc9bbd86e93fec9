/**
 * formatDuration is a measured time in at most two units, as short as it stays
 * precise: "0.4 ms", "18 ms", "1.24 s", "12.4 s", "3 m 07 s", "2 h 05 m".
 * A negative or unknown time is an en dash.
 */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "–";
  if (ms === 0) return "0 ms";
  if (ms < 9.95) return `${trim(ms.toFixed(1))} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return formatClock(Math.round(seconds) * 1000);
}

/** formatClock is a running time in whole seconds, cut and not rounded, so that it never runs ahead: "0 s", "59 s", "3 m 07 s", "2 h 05 m", "3 d 04 h". */
export function formatClock(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "0 s";
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ${two(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${two(minutes % 60)} m`;
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

/** formatAgo says how long ago a moment was: "now", "42 s ago", "5 m ago", "3 h ago", then the day. A moment in the future (clocks differ) is "now". */
export function formatAgo(thenMs: number, nowMs: number): string {
  const seconds = Math.floor((nowMs - thenMs) / 1000);
  if (seconds < 5) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ago`;
  if (seconds < 24 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return formatDay(thenMs, nowMs);
}

// Made once: making one takes longer than all else that a line of a list does.
const dayAndMonth = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const dayMonthYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const timeOfDay = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const inFull = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

function formatDay(thenMs: number, nowMs: number): string {
  const sameYear = new Date(thenMs).getFullYear() === new Date(nowMs).getFullYear();
  return (sameYear ? dayAndMonth : dayMonthYear).format(thenMs);
}

/** formatTime is the time of day in the reader's zone, with seconds: "14:03:09". */
export function formatTime(ms: number): string {
  return timeOfDay.format(ms);
}

/** formatMoment is a moment in full, for a tooltip. */
export function formatMoment(ms: number): string {
  return inFull.format(ms);
}

const grouped = new Intl.NumberFormat("en");

/** formatCount is a whole number with its thousands apart: "46,287". */
export function formatCount(n: number): string {
  return grouped.format(n);
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}

function trim(text: string): string {
  return text.endsWith(".0") ? text.slice(0, -2) : text;
}
