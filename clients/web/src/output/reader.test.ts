import { create } from "@bufbuild/protobuf";
import { ReadOutputResponseSchema } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { describe, expect, it } from "vitest";
import { findLines, OutputReader, type ReadPart, readAll } from "./reader";

const never = new AbortController().signal;

/** An output that is served in parts of the given size, and may grow. */
function served(size: number, output: { bytes: Uint8Array }): ReadPart {
  return async (token) => {
    const from = Number(token);
    const data = output.bytes.subarray(from, from + size);
    const next = from + data.length;
    return create(ReadOutputResponseSchema, {
      data,
      nextToken: String(next),
      more: next < output.bytes.length,
    });
  };
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (reader: OutputReader): string =>
  reader
    .getSnapshot()
    .lines.map((line) => line.spans.map((span) => span.text).join(""))
    .join("\n");

describe("OutputReader", () => {
  it("reads a character whole that is cut between two parts", async () => {
    const reader = new OutputReader(served(1, { bytes: bytesOf("größe ✓\n") }));
    await reader.readOn(1000, never);
    expect(textOf(reader)).toBe("größe ✓\n");
  });

  it("leaves what is beyond its budget until it is asked for", async () => {
    const reader = new OutputReader(served(4, { bytes: bytesOf("0123456789") }));
    await reader.readOn(5, never);
    expect(reader.getSnapshot()).toMatchObject({ more: true });
    expect(textOf(reader)).toBe("01234567");
    await reader.readOn(5, never);
    expect(reader.getSnapshot()).toMatchObject({ more: false });
    expect(textOf(reader)).toBe("0123456789");
  });

  it("goes on from where it was when the output has grown, and tells of nothing new otherwise", async () => {
    const output = { bytes: bytesOf("one\n") };
    const reader = new OutputReader(served(100, output));
    await reader.readOn(1000, never);
    const before = reader.getSnapshot();
    await reader.readOn(1000, never);
    expect(reader.getSnapshot()).toBe(before);
    output.bytes = bytesOf("one\ntwo\n");
    await reader.readOn(1000, never);
    expect(textOf(reader)).toBe("one\ntwo\n");
  });

  it("reads no part twice when it is asked again while it reads", async () => {
    const reader = new OutputReader(served(2, { bytes: bytesOf("abcdef") }));
    await Promise.all([reader.readOn(100, never), reader.readOn(100, never)]);
    expect(textOf(reader)).toBe("abcdef");
  });

  it("looks once more when it was asked during its last part, so that nothing printed meanwhile is missed", async () => {
    const output = { bytes: bytesOf("one\n") };
    const read = served(100, output);
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const reader = new OutputReader(async (token, signal) => {
      const part = await read(token, signal);
      await gate;
      return part;
    });
    const first = reader.readOn(1000, never);
    await Promise.resolve();
    output.bytes = bytesOf("one\ntwo\n");
    const second = reader.readOn(1000, never);
    open();
    await Promise.all([first, second]);
    expect(textOf(reader)).toBe("one\ntwo\n");
  });

  it("keeps what it has when reading fails, and goes on after", async () => {
    const output = served(2, { bytes: bytesOf("abcd") });
    let broken = false;
    const reader = new OutputReader(async (token, signal) => {
      if (broken) throw new Error("away");
      return output(token, signal);
    });
    await reader.readOn(1, never);
    broken = true;
    await reader.readOn(100, never);
    expect(reader.getSnapshot().state).toBe("failed");
    expect(textOf(reader)).toBe("ab");
    broken = false;
    await reader.readOn(100, never);
    expect(reader.getSnapshot().state).toBe("ready");
    expect(textOf(reader)).toBe("abcd");
  });
});

describe("readAll", () => {
  it("gives every byte as it was printed, colours and broken text included", async () => {
    const bytes = Uint8Array.from([0x1b, 0x5b, 0x33, 0x31, 0x6d, 0xff, 0xfe, 0x0a]);
    const blob = await readAll(served(3, { bytes }), never);
    expect(new Uint8Array(await blob.arrayBuffer())).toEqual(bytes);
  });
});

describe("findLines", () => {
  it("finds a text across colours, in any case", async () => {
    const reader = new OutputReader(served(100, { bytes: bytesOf("a\n\u001b[31mEr\u001b[0mror\nb") }));
    await reader.readOn(1000, never);
    expect(findLines(reader.getSnapshot().lines, "error")).toEqual([1]);
    expect(findLines(reader.getSnapshot().lines, "")).toEqual([]);
  });
});
