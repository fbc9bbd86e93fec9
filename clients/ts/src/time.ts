import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** durationToMs returns a span in milliseconds; unset when it is unset. */
export function durationToMs(duration: Duration | undefined, unset = 0): number {
  return duration === undefined ? unset : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** timestampToMs returns a moment in milliseconds since 1970; 0 when it is unset. */
export function timestampToMs(timestamp: Timestamp | undefined): number {
  return timestamp === undefined ? 0 : Number(timestamp.seconds) * 1000 + timestamp.nanos / 1e6;
}
