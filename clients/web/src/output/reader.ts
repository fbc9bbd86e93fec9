import type { ReadOutputResponse } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { AnsiLog, type Line } from "../ansi/ansi";

/** What was read of an output so far. */
export interface OutputSnapshot {
  /** The lines, changed in place; version tells that they were. */
  readonly lines: readonly Line[];
  readonly version: number;
  readonly state: "loading" | "ready" | "failed";
  /** Why the state is "failed"; undefined otherwise. */
  readonly error: unknown;
  /** Whether there is more than was read, which is left until it is asked for. */
  readonly more: boolean;
  /** Whether the server dropped something because of its size limit. */
  readonly truncated: boolean;
}

/** Reads the part of an output that begins at a token; the empty token is its beginning. */
export type ReadPart = (token: string, signal: AbortSignal) => Promise<ReadOutputResponse>;

/** How much is read unasked. A screen shows 4 KB; this is enough to scroll and search in. */
export const firstBytes = 1 << 20;

/** How much "load more" reads. */
export const moreBytes = 4 << 20;

/** OutputReader reads one output part by part, as a store. */
export class OutputReader {
  readonly #read: ReadPart;
  readonly #log = new AnsiLog();
  readonly #decoder = new TextDecoder();
  readonly #listeners = new Set<() => void>();
  #token = "";
  #busy = false;
  #again = false;
  #snapshot: OutputSnapshot;

  constructor(read: ReadPart) {
    this.#read = read;
    this.#snapshot = {
      lines: this.#log.lines,
      version: 0,
      state: "loading",
      error: undefined,
      more: false,
      truncated: false,
    };
  }

  readonly getSnapshot = (): OutputSnapshot => this.#snapshot;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /**
   * readOn reads what there is now, at most about budget bytes. A call during
   * another makes that one look once more when it is done: the part it waits for
   * may have been made before the caller's news. It never rejects: trouble is in
   * the snapshot, and the next call goes on where this one stopped.
   */
  async readOn(budget: number, signal: AbortSignal): Promise<void> {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    try {
      do {
        this.#again = false;
        await this.#readBudget(budget, signal);
      } while (this.#again && !signal.aborted);
    } catch (error) {
      if (!signal.aborted) this.#set({ state: "failed", error });
    } finally {
      this.#busy = false;
    }
  }

  async #readBudget(budget: number, signal: AbortSignal): Promise<void> {
    for (let read = 0, more = true; more && read < budget; ) {
      const part = await this.#read(this.#token, signal);
      if (signal.aborted) return;
      this.#take(part);
      read += part.data.length;
      more = part.more;
    }
  }

  #take(part: ReadOutputResponse): void {
    this.#log.write(this.#decoder.decode(part.data, { stream: true }));
    this.#token = part.nextToken;
    const { version, state, more, truncated } = this.#snapshot;
    const same =
      part.data.length === 0 && state === "ready" && more === part.more && truncated === part.truncated;
    if (same) return;
    this.#set({
      version: version + 1,
      state: "ready",
      error: undefined,
      more: part.more,
      truncated: part.truncated,
    });
  }

  #set(change: Partial<OutputSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change };
    for (const listener of this.#listeners) listener();
  }
}

/** readAll is an output as it was printed, every byte of it that the server kept. */
export async function readAll(read: ReadPart, signal: AbortSignal): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let token = "", more = true; more; ) {
    const part = await read(token, signal);
    parts.push(new Uint8Array(part.data));
    token = part.nextToken;
    more = part.more;
  }
  return new Blob(parts, { type: "text/plain" });
}

/** findLines are the indices of the lines that hold a text; case does not matter. None for an empty text. */
export function findLines(lines: readonly Line[], text: string): readonly number[] {
  const wanted = text.toLowerCase();
  if (wanted === "") return [];
  const found: number[] = [];
  for (const [index, line] of lines.entries()) {
    const whole = line.spans.map((span) => span.text).join("");
    if (whole.toLowerCase().includes(wanted)) found.push(index);
  }
  return found;
}
