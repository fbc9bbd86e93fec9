import { Code } from "@connectrpc/connect";
import { TcmError } from "@tcmanager/client";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { Draft, type Stored, saveDelayMs } from "./draft";

interface Call {
  readonly value: string;
  readonly base: bigint;
  readonly answer: (stored: Stored) => Promise<void>;
  readonly refuse: (error: Error) => Promise<void>;
}

/** A draft over "one" at revision 1, with the saves it asked for. */
function edited(check: (value: string) => Error | undefined = () => undefined) {
  const calls: Call[] = [];
  const save = (value: string, base: bigint): Promise<Stored> =>
    new Promise((resolve, reject) => {
      const settled = async (act: () => void): Promise<void> => {
        act();
        await vi.advanceTimersByTimeAsync(0);
      };
      calls.push({
        value,
        base,
        answer: (stored) => settled(() => resolve(stored)),
        refuse: (error) => settled(() => reject(error)),
      });
    });
  const draft = new Draft({ value: "one", revision: 1n }, save, check);
  return { draft, calls };
}

const mismatch = (revision: bigint, value: string): TcmError =>
  new TcmError({
    code: Code.Aborted,
    message: "somebody was faster",
    reason: "REVISION_MISMATCH",
    metadata: { current_revision: String(revision), current_value: value },
  });

describe("Draft", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    return () => vi.useRealTimers();
  });

  it("saves once typing pauses, over the revision the typing began from", async () => {
    const { draft, calls } = edited();
    draft.type("tw");
    vi.advanceTimersByTime(saveDelayMs - 1);
    draft.type("two");
    vi.advanceTimersByTime(saveDelayMs - 1);
    expect(calls).toHaveLength(0);
    expect(draft.getSnapshot()).toEqual({ value: "two", state: { kind: "typing" } });
    vi.advanceTimersByTime(1);
    expect(calls).toMatchObject([{ value: "two", base: 1n }]);
    expect(draft.getSnapshot().state.kind).toBe("saving");
    await calls[0]?.answer({ value: "two", revision: 2n });
    expect(draft.getSnapshot()).toEqual({ value: "two", state: { kind: "saved" } });
  });

  it("saves at once on leaving the field", () => {
    const { draft, calls } = edited();
    draft.type("two");
    draft.flush();
    expect(calls).toHaveLength(1);
    vi.advanceTimersByTime(saveDelayMs);
    expect(calls).toHaveLength(1);
  });

  it("shows others' edits while nothing is typed", () => {
    const { draft } = edited();
    draft.setStored({ value: "theirs", revision: 2n });
    expect(draft.getSnapshot()).toEqual({ value: "theirs", state: { kind: "saved" } });
  });

  it("is never at odds with its own edit, whichever of event and answer comes first", async () => {
    for (const eventFirst of [true, false]) {
      const { draft, calls } = edited();
      const shown: string[] = [];
      draft.subscribe(() => shown.push(`${draft.getSnapshot().value} ${draft.getSnapshot().state.kind}`));
      draft.type("two");
      draft.flush();
      if (eventFirst) draft.setStored({ value: "two", revision: 2n });
      await calls[0]?.answer({ value: "two", revision: 2n });
      if (!eventFirst) draft.setStored({ value: "two", revision: 2n });
      expect(new Set(shown)).toEqual(new Set(["two typing", "two saving", "two saved"]));
    }
  });

  it("saves what was typed during a save, over that save's revision", async () => {
    const { draft, calls } = edited();
    draft.type("two");
    draft.flush();
    draft.type("two and more");
    vi.advanceTimersByTime(saveDelayMs);
    expect(calls).toHaveLength(1);
    await calls[0]?.answer({ value: "two", revision: 2n });
    expect(calls[1]).toMatchObject({ value: "two and more", base: 2n });
    await calls[1]?.answer({ value: "two and more", revision: 3n });
    expect(draft.getSnapshot()).toEqual({ value: "two and more", state: { kind: "saved" } });
  });

  it("takes its own edit's event for no conflict when more was typed meanwhile", async () => {
    const { draft, calls } = edited();
    draft.type("two");
    draft.flush();
    draft.type("two and more");
    draft.setStored({ value: "two", revision: 2n });
    expect(draft.getSnapshot().state.kind).toBe("saving");
    await calls[0]?.answer({ value: "two", revision: 2n });
    expect(calls[1]).toMatchObject({ value: "two and more", base: 2n });
  });

  it("keeps the editor's text in a conflict, saves nothing, and then saves over the other's on demand", () => {
    const { draft, calls } = edited();
    draft.type("mine");
    draft.setStored({ value: "theirs", revision: 2n });
    expect(draft.getSnapshot()).toMatchObject({
      value: "mine",
      state: { kind: "conflict", theirs: { value: "theirs" } },
    });
    draft.type("mine!");
    draft.flush();
    vi.advanceTimersByTime(saveDelayMs);
    expect(calls).toHaveLength(0);
    draft.keepMine();
    expect(calls).toMatchObject([{ value: "mine!", base: 2n }]);
  });

  it("takes the other's value on demand", () => {
    const { draft, calls } = edited();
    draft.type("mine");
    draft.setStored({ value: "theirs", revision: 2n });
    draft.takeTheirs();
    expect(draft.getSnapshot()).toEqual({ value: "theirs", state: { kind: "saved" } });
    vi.advanceTimersByTime(saveDelayMs);
    expect(calls).toHaveLength(0);
  });

  it("learns of a conflict from the answer when the event is late", async () => {
    const { draft, calls } = edited();
    draft.type("mine");
    draft.flush();
    await calls[0]?.refuse(mismatch(4n, "theirs"));
    expect(draft.getSnapshot()).toMatchObject({
      value: "mine",
      state: { kind: "conflict", theirs: { value: "theirs", revision: 4n } },
    });
    draft.keepMine();
    expect(calls[1]).toMatchObject({ value: "mine", base: 4n });
  });

  it("sees no conflict when both wrote the same", async () => {
    const { draft, calls } = edited();
    draft.type("same");
    draft.flush();
    await calls[0]?.refuse(mismatch(2n, "same"));
    expect(draft.getSnapshot()).toEqual({ value: "same", state: { kind: "saved" } });
  });

  it("keeps the text when the server fails, and saves it on the next try", async () => {
    const { draft, calls } = edited();
    draft.type("mine");
    draft.flush();
    await calls[0]?.refuse(new TcmError({ code: Code.Unavailable, message: "away" }));
    expect(draft.getSnapshot()).toMatchObject({ value: "mine", state: { kind: "failed" } });
    draft.flush();
    expect(calls[1]).toMatchObject({ value: "mine", base: 1n });
  });

  it("does not send what can't be right", () => {
    const { draft, calls } = edited((value) => (value === "" ? new Error("A title is needed") : undefined));
    draft.type("");
    draft.flush();
    expect(calls).toHaveLength(0);
    expect(draft.getSnapshot().state).toMatchObject({
      kind: "failed",
      error: { message: "A title is needed" },
    });
  });

  it("passes over news that is older than what it knows", async () => {
    const { draft, calls } = edited();
    draft.type("two");
    draft.flush();
    await calls[0]?.answer({ value: "two", revision: 3n });
    draft.setStored({ value: "old", revision: 2n });
    expect(draft.getSnapshot().value).toBe("two");
  });

  it("lets go of a text that was typed back to what is stored", () => {
    const { draft, calls } = edited();
    draft.type("two");
    draft.type("one");
    vi.advanceTimersByTime(saveDelayMs);
    expect(calls).toHaveLength(0);
    expect(draft.getSnapshot()).toEqual({ value: "one", state: { kind: "saved" } });
  });
});
