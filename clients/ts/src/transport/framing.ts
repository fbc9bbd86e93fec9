import { Code, ConnectError } from "@connectrpc/connect";

/** Bytes before each frame's data: one of flags and four of length, big endian. */
const headerBytes = 5;

/** Frame is one length-prefixed message of gRPC, or a block of headers in grpc-web. */
export interface Frame {
  readonly flags: number;
  readonly data: Uint8Array;
}

/**
 * FrameReader cuts a byte stream into frames, however the stream itself was
 * cut. A frame that lies within one chunk is not copied; one that doesn't is
 * copied once, so reading n bytes costs n steps whatever the chunks.
 */
export class FrameReader {
  readonly #header = new Uint8Array(headerBytes);
  #headerFilled = 0;
  #body: Uint8Array | undefined;
  #bodyFilled = 0;

  /** maxBytes is the largest frame accepted; a larger one throws ResourceExhausted. */
  constructor(readonly maxBytes: number) {}

  /** Returns the frames that chunk completes. They may share chunk's memory. */
  *read(chunk: Uint8Array): Generator<Frame> {
    let at = 0;
    while (at < chunk.byteLength) {
      at += this.#body === undefined ? this.#fillHeader(chunk, at) : this.#fillBody(this.#body, chunk, at);
      if (this.#headerFilled < headerBytes) return;
      const length = this.#body?.byteLength ?? this.#length();
      if (this.#body === undefined && chunk.byteLength - at >= length) {
        yield this.#frame(chunk.subarray(at, at + length));
        at += length;
      } else if (this.#body === undefined) {
        this.#body = new Uint8Array(length);
      } else if (this.#bodyFilled === length) {
        yield this.#frame(this.#body);
      }
    }
  }

  /** Throws DataLoss if the stream ended inside a frame. */
  end(): void {
    if (this.#headerFilled > 0) throw new ConnectError("the stream ended inside a frame", Code.DataLoss);
  }

  #fillHeader(chunk: Uint8Array, at: number): number {
    const part = chunk.subarray(at, at + headerBytes - this.#headerFilled);
    this.#header.set(part, this.#headerFilled);
    this.#headerFilled += part.byteLength;
    return part.byteLength;
  }

  #fillBody(body: Uint8Array, chunk: Uint8Array, at: number): number {
    const part = chunk.subarray(at, at + body.byteLength - this.#bodyFilled);
    body.set(part, this.#bodyFilled);
    this.#bodyFilled += part.byteLength;
    return part.byteLength;
  }

  #length(): number {
    const length = new DataView(this.#header.buffer).getUint32(1);
    if (length > this.maxBytes) {
      throw new ConnectError(
        `a frame of ${length} bytes is over the limit of ${this.maxBytes}`,
        Code.ResourceExhausted,
      );
    }
    return length;
  }

  #frame(data: Uint8Array): Frame {
    this.#headerFilled = 0;
    this.#body = undefined;
    this.#bodyFilled = 0;
    return { flags: this.#header[0] ?? 0, data };
  }
}
