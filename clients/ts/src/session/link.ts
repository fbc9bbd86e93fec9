import type { Room } from "./rooms";
import type { RequestFrame, SessionStream } from "./stream";

/** Which frame an answer belongs to. */
export type Asked =
  | { readonly kind: "hello" }
  | { readonly kind: "join"; readonly room: Room }
  | { readonly kind: "command"; readonly requestId: string };

/** Link is one incarnation of a session: its stream, and what was asked on it. */
export class Link {
  /** Undefined until it is opened. */
  stream: SessionStream | undefined;
  welcomed = false;
  /** Whether its last hello waits for its welcome. */
  pending = false;
  readonly #asked = new Map<bigint, Asked>();

  /** Says a frame and remembers what its answer will be about. */
  ask(asked: Asked, frame: RequestFrame, stream = this.stream): void {
    const id = stream?.send(frame);
    if (id !== undefined) this.#asked.set(id, asked);
  }

  /** What an answer is about; undefined if it answers nothing, or what was given up. */
  answered(replyTo: bigint): Asked | undefined {
    const asked = this.#asked.get(replyTo);
    this.#asked.delete(replyTo);
    return asked;
  }

  /** A stream that is opened anew answers what was asked before only where it is a command. */
  beginAnew(): void {
    for (const [id, { kind }] of this.#asked) if (kind !== "command") this.#asked.delete(id);
  }
}
