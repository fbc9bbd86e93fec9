import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";

/** msOf is a moment in milliseconds since 1970; undefined stays so. */
export function msOf(timestamp: Timestamp | undefined): number | undefined {
  return timestamp === undefined ? undefined : timestampMs(timestamp);
}
