import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import { useClient } from "../live/client";
import { firstBytes, moreBytes, OutputReader, type OutputSnapshot, type ReadPart } from "./reader";

/** Which output is meant. */
export interface OutputName {
  readonly runId: string;
  /** The suite; empty for the run's own output. */
  readonly suite: string;
  /** The test; empty for the suite's own output. */
  readonly name: string;
  /** The attempt; 0 means the last. */
  readonly attempt: number;
}

/** How often an output is asked for more while its test runs. */
const tailMs = 1000;

/** An output as it is read. */
export interface Output extends OutputSnapshot {
  readonly loadMore: () => void;
  readonly read: ReadPart;
}

/** useOutput reads an output, and goes on reading while it is live. */
export function useOutput({ runId, suite, name, attempt }: OutputName, live: boolean): Output {
  const { execution } = useClient();
  const read = useCallback<ReadPart>(
    (pageToken, signal) => execution.readOutput({ runId, suite, name, attempt, pageToken }, { signal }),
    [execution, runId, suite, name, attempt],
  );
  const reader = useMemo(() => new OutputReader(read), [read]);
  const stop = useMemo(() => ({ reader, controller: new AbortController() }), [reader]);
  useEffect(() => () => stop.controller.abort(), [stop]);
  useEffect(() => {
    // Once when it is shown, each second while it is live, and once more when it no longer is: what was printed last.
    const { signal } = stop.controller;
    void reader.readOn(firstBytes, signal);
    if (!live) return;
    const timer = setInterval(() => {
      if (!reader.getSnapshot().more) void reader.readOn(firstBytes, signal);
    }, tailMs);
    return () => clearInterval(timer);
  }, [reader, stop, live]);
  const loadMore = useCallback(() => void reader.readOn(moreBytes, stop.controller.signal), [reader, stop]);
  const snapshot = useSyncExternalStore(reader.subscribe, reader.getSnapshot);
  return useMemo(() => ({ ...snapshot, loadMore, read }), [snapshot, loadMore, read]);
}
