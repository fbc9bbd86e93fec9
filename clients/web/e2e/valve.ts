import { Transform, type TransformCallback } from "node:stream";

/** How often a valve that was opened lets something through. */
const everyMs = 5;

/** Valve is a pipe that can be closed, and opened again so that what it kept flows out at a given rate. */
export class Valve extends Transform {
  private kept: Buffer[] = [];
  private shut = false;
  private ended: TransformCallback | undefined;
  /** Bytes that wait. */
  bytes = 0;

  /** Keeps what comes from now on. */
  close(): void {
    this.shut = true;
  }

  /** Lets what was kept flow out; resolves when all of it is on its way. What comes meanwhile follows it. */
  async open(bytesPerSecond: number): Promise<void> {
    const began = performance.now();
    let sent = 0;
    while (this.bytes > 0 && !this.destroyed) {
      await new Promise((resolve) => setTimeout(resolve, everyMs));
      const due = (bytesPerSecond * (performance.now() - began)) / 1000;
      while (sent < due && this.bytes > 0) sent += this.letOne(due - sent);
    }
    this.shut = false;
    this.ended?.(null);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (!this.shut) return done(null, chunk);
    this.kept.push(chunk);
    this.bytes += chunk.length;
    done();
  }

  /** What was kept comes before the end. */
  override _flush(done: TransformCallback): void {
    if (this.shut) this.ended = done;
    else done(null);
  }

  private letOne(atMost: number): number {
    const [first] = this.kept;
    if (first === undefined) return 0;
    const part = first.subarray(0, Math.ceil(atMost));
    if (part.length === first.length) this.kept.shift();
    else this.kept[0] = first.subarray(part.length);
    this.bytes -= part.length;
    this.push(part);
    return part.length;
  }
}
