/**
 * Inbox hands chunks from a socket, which can't be told to wait, to a reader
 * that takes its time. It is bounded in bytes: push says when it is full, and
 * the caller ends the stream then.
 */
export class Inbox {
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #end: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(readonly maxBytes: number) {}

  /** Adds a chunk; false if that makes more than maxBytes wait. After finish it does nothing. */
  push(chunk: Uint8Array): boolean {
    if (this.#end !== undefined) return true;
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    this.#wake?.();
    return this.#bytes <= this.maxBytes;
  }

  /** Ends the stream after what was pushed, with error unless that is undefined. The first call wins. */
  finish(error?: unknown): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  /** Ends the stream at once: what was pushed is dropped. */
  abort(error: unknown): void {
    this.#chunks = [];
    this.finish(error);
  }

  /** Yields the chunks in order. There may be one reader. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const batch = this.#chunks;
      this.#chunks = [];
      for (const chunk of batch) {
        yield chunk;
        // Counted as waiting until the reader came back for more.
        this.#bytes -= chunk.byteLength;
      }
      if (this.#chunks.length > 0) continue;
      if (this.#end !== undefined) {
        if (this.#end.error !== undefined) throw this.#end.error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
