import { describe, expect, test } from "vitest";
import { TestEnvironment, TestLocks } from "../testing";
import { Slot } from "./slot";

function tab(locks?: TestLocks) {
  const environment = new TestEnvironment();
  environment.tryLock = locks?.tryLock;
  return new Slot(environment);
}

describe("a slot", () => {
  test("is had by three tabs at a time, and kept", async () => {
    const locks = new TestLocks();
    const tabs = [1, 2, 3, 4].map(() => tab(locks));
    for (const expected of [
      [true, true, true, false],
      [true, true, true, false],
    ]) {
      expect(await Promise.all(tabs.map((slot) => slot.take()))).toEqual(expected);
    }
    tabs[1]?.close();
    expect(await tabs[3]?.take()).toBe(true);
  });

  test("is always there without locks", async () => {
    expect(await tab().take()).toBe(true);
  });

  test("that comes too late is given back", async () => {
    const locks = new TestLocks();
    const slot = tab(locks);
    const taken = slot.take();
    slot.close();
    expect(await taken).toBe(false);
    expect(locks.taken.size).toBe(0);
  });

  test("is not had where asking for it fails", async () => {
    const environment = new TestEnvironment();
    environment.tryLock = () => Promise.reject(new Error("not allowed"));
    expect(await new Slot(environment).take()).toBe(false);
  });
});
