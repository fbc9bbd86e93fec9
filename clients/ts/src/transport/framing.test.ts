import { Code, ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { describe, expect, test } from "vitest";
import { type Frame, FrameReader } from "./framing";

function frame(flags: number, ...bytes: number[]): Uint8Array {
  return encodeEnvelope(flags, Uint8Array.from(bytes));
}

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function readAll(chunks: Iterable<Uint8Array>, maxBytes = 1000): Frame[] {
  const reader = new FrameReader(maxBytes);
  const frames: Frame[] = [];
  for (const chunk of chunks)
    for (const { flags, data } of reader.read(chunk)) frames.push({ flags, data: data.slice() });
  reader.end();
  return frames;
}

describe("FrameReader", () => {
  const stream = join(frame(0, 1, 2, 3), frame(0), frame(0x80, 9), frame(0, ...Array(300).fill(7)));
  const frames = readAll([stream]);

  test("reads frames that came joined", () => {
    expect(frames.map(({ flags, data }) => [flags, data.byteLength])).toEqual([
      [0, 3],
      [0, 0],
      [0x80, 1],
      [0, 300],
    ]);
    expect([...frames[0]!.data]).toEqual([1, 2, 3]);
  });

  test("reads the same however the stream was cut", () => {
    for (let size = 1; size <= stream.byteLength; size++) {
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < stream.byteLength; at += size) chunks.push(stream.subarray(at, at + size));
      expect(readAll(chunks), `cut into ${size} bytes`).toEqual(frames);
    }
  });

  test("reads the same with empty chunks in between", () => {
    const chunks = [...stream].flatMap((byte) => [Uint8Array.of(), Uint8Array.of(byte)]);
    expect(readAll(chunks)).toEqual(frames);
  });

  test("refuses a frame over the limit before its data arrive", () => {
    const reader = new FrameReader(10);
    const header = frame(0, ...Array(11).fill(0)).subarray(0, 5);
    expect(() => [...reader.read(header)]).toThrow(ConnectError);
    expect(() => [...new FrameReader(11).read(header)]).not.toThrow();
  });

  test("notices a stream that ends inside a header or a body", () => {
    for (const cut of [1, 4, 5, 7]) {
      const error = catchError(() => readAll([frame(0, 1, 2, 3).subarray(0, cut)]));
      expect(error.code).toBe(Code.DataLoss);
    }
  });

  test("takes time in proportion to the bytes, not to their square, when a large frame comes in small pieces", () => {
    const big = encodeEnvelope(0, new Uint8Array(4 << 20));
    const reader = new FrameReader(8 << 20);
    let copied = 0;
    for (let at = 0; at < big.byteLength; at += 1024) {
      for (const { data } of reader.read(big.subarray(at, at + 1024))) copied += data.byteLength;
    }
    // 4,096 pieces; copying all before each would move 8 GiB and time out.
    expect(copied).toBe(4 << 20);
  }, 5_000);
});

function catchError(run: () => unknown): ConnectError {
  try {
    run();
  } catch (thrown) {
    return ConnectError.from(thrown);
  }
  throw new Error("nothing was thrown");
}
