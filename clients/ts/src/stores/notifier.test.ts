import { expect, test, vi } from "vitest";
import { TestEnvironment } from "../testing";
import { Notifier } from "./notifier";

/** A notifier whose frames come when the test says so. */
function setup() {
  const frames: (() => void)[] = [];
  const environment = Object.assign(new TestEnvironment(), {
    frame: (run: () => void) => void frames.push(run),
  });
  const refresh = vi.fn();
  const notifier = new Notifier(environment, refresh);
  return { notifier, refresh, frames, next: () => frames.shift()?.() };
}

test("a thousand changes in a frame are told once, after the snapshot was made", () => {
  const { notifier, refresh, frames, next } = setup();
  const listener = vi.fn(() => expect(refresh).toHaveBeenCalledTimes(1));
  notifier.subscribe(listener);
  for (let i = 0; i < 1000; i++) notifier.changed();
  expect(frames.length).toBe(1);
  expect(listener).not.toHaveBeenCalled();
  next();
  expect(listener).toHaveBeenCalledTimes(1);
});

test("a change after a frame is told in the next", () => {
  const { notifier, next } = setup();
  const listener = vi.fn();
  notifier.subscribe(listener);
  for (let i = 1; i <= 3; i++) {
    notifier.changed();
    next();
    expect(listener).toHaveBeenCalledTimes(i);
  }
});

test("a listener that was subscribed twice is told twice, and once after it left once", () => {
  const { notifier, next } = setup();
  const listener = vi.fn();
  const leave = notifier.subscribe(listener);
  notifier.subscribe(listener);
  leave();
  notifier.changed();
  next();
  expect(listener).toHaveBeenCalledTimes(1);
});

test("nobody is told after the end", () => {
  const { notifier, refresh, next } = setup();
  const listener = vi.fn();
  notifier.subscribe(listener);
  notifier.changed();
  notifier.close();
  next();
  expect(listener).not.toHaveBeenCalled();
  expect(refresh).not.toHaveBeenCalled();
});
