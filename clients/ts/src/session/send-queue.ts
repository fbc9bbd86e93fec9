/**
 * SendQueue holds the frames on their way into one stream. It is bounded: push
 * refuses what doesn't fit, and the caller decides what that means.
 */
export class SendQueue<T> implements AsyncIterableIterator<T> {
  #items: T[] = [];
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(readonly maxItems: number) {}

  /** How many items wait. */
  get size(): number {
    return this.#items.length;
  }

  /** Adds an item; false if the queue is full or closed. */
  push(item: T): boolean {
    if (this.#closed || this.#items.length >= this.maxItems) return false;
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** Ends the stream at once: what waits is dropped. */
  close(): void {
    this.#closed = true;
    this.#items = [];
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<T>> {
    for (;;) {
      if (this.#closed) return { done: true, value: undefined };
      const item = this.#items.shift();
      if (item !== undefined) return { done: false, value: item };
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** connect-es calls this on a fresh iterator to say that the call is over, so it must be the same one. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  async return(): Promise<IteratorResult<T>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** The call failed; some transports refuse an iterator that can't be told. */
  throw(): Promise<IteratorResult<T>> {
    return this.return();
  }
}
