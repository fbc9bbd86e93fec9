import { Code } from "@connectrpc/connect";
import type { CommandResult } from "@tcmanager/gen/tcmanager/v1/command_pb";
import { TcmError } from "../errors";
import type { RequestFrame } from "./stream";

/** A command that waits for its answer. */
export interface OutboxEntry {
  readonly requestId: string;
  readonly frame: RequestFrame;
  readonly resolve: (result: CommandResult["result"]) => void;
  readonly reject: (error: TcmError) => void;
}

/**
 * Outbox keeps commands until they are answered. After a reconnect all of them
 * are sent again, in order, under the same request ids: the server gives a
 * repeat the first answer and does nothing twice. It is bounded: beyond
 * maxEntries a command is refused, so that nobody types into a void for hours.
 */
export class Outbox {
  readonly #entries = new Map<string, OutboxEntry>();

  constructor(readonly maxEntries: number) {}

  /** How many commands wait. */
  get size(): number {
    return this.#entries.size;
  }

  /** Keeps a command; throws RESOURCE_EXHAUSTED when full. */
  add(entry: OutboxEntry): void {
    if (this.#entries.size >= this.maxEntries) {
      throw new TcmError({
        code: Code.ResourceExhausted,
        reason: "OUTBOX_FULL",
        message: `${this.maxEntries} changes wait to be saved already: wait until the connection is back`,
      });
    }
    this.#entries.set(entry.requestId, entry);
  }

  /** The commands that wait, oldest first. */
  entries(): readonly OutboxEntry[] {
    return [...this.#entries.values()];
  }

  /** Settles a command with its answer; an answer nobody waits for is a repeat's, and dropped. */
  resolve(requestId: string, result: CommandResult["result"]): void {
    const entry = this.#take(requestId);
    entry?.resolve(result);
  }

  /** Settles a command with an error. */
  reject(requestId: string, error: TcmError): void {
    this.#take(requestId)?.reject(error);
  }

  /** Settles all with error: there will be no answers. */
  rejectAll(error: TcmError): void {
    for (const { requestId } of this.entries()) this.reject(requestId, error);
  }

  #take(requestId: string): OutboxEntry | undefined {
    const entry = this.#entries.get(requestId);
    this.#entries.delete(requestId);
    return entry;
  }
}
