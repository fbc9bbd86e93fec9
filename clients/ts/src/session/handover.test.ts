import { describe, expect, test } from "vitest";
import { unavailable } from "../errors";
import { TestEnvironment } from "../testing";
import { Handover } from "./handover";
import { Link } from "./link";

function setup() {
  const environment = new TestEnvironment();
  const opened: Link[] = [];
  const failed: [string, string | undefined][] = [];
  const handover = new Handover(environment, 20_000, {
    open: (candidate) => opened.push(candidate),
    failed: (error, takenOver) => failed.push([error.message, takenOver?.message]),
  });
  return { environment, handover, opened, failed, inUse: new Link() };
}

describe("a handover", () => {
  test("keeps the link in use from saying hello meanwhile, but not for long", () => {
    const { environment, handover, opened, inUse } = setup();
    expect(handover.mayGreet).toBe(true);
    handover.begin(inUse);
    handover.begin(inUse);
    expect(opened.length, "one at a time").toBe(1);
    expect(handover.mayGreet).toBe(false);
    environment.advance(2_000);
    expect(handover.mayGreet).toBe(true);
  });

  test("waits until the link in use was welcomed", () => {
    const { handover, opened, inUse } = setup();
    inUse.pending = true;
    handover.begin(inUse);
    expect(opened.length).toBe(0);
    inUse.pending = false;
    handover.welcomed(inUse);
    handover.welcomed(inUse);
    expect(opened.length).toBe(1);
  });

  test("gives up after a while, and tells whether the link in use ended for it", () => {
    const { environment, handover, failed, inUse } = setup();
    handover.begin(inUse);
    environment.advance(20_000);
    handover.begin(inUse);
    expect(handover.takesOver(unavailable("elsewhere"))).toBe(true);
    handover.failed(unavailable("broke"));
    expect(failed).toEqual([
      ["the websocket was silent for too long", undefined],
      ["broke", "elsewhere"],
    ]);
    expect(handover.takesOver(unavailable("elsewhere")), "there is no candidate").toBe(false);
  });

  test("is over once it is done", () => {
    const { environment, handover, failed, inUse, opened } = setup();
    handover.begin(inUse);
    handover.done();
    environment.advance(60_000);
    expect(failed).toEqual([]);
    expect(handover.is(opened[0]!)).toBe(false);
  });
});
