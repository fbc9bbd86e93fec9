import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Command } from "@tcmanager/gen/tcmanager/v1/command_pb";
import { RealtimeService } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { describe, expect, test } from "vitest";
import type { TcmError } from "../errors";
import { Executor } from "./executor";

/** What is asked when somebody does something in a field. */
function signalName(session: string, command: Command["command"] | undefined): string {
  if (command?.case !== "updateActivity") return "";
  return `${ActivityState[command.value.state]} ${command.value.field} in ${session}`;
}

/** An executor whose calls end when the test says so. */
function setup(sessionId = "s1") {
  const underWay = new Map<string, (error?: unknown) => void>();
  const asked: string[] = [];
  const transport = createRouterTransport((router) => {
    router.service(RealtimeService, {
      execute: async ({ command, sessionId: session }) => {
        const requestId = command?.requestId || signalName(session, command?.command);
        asked.push(requestId);
        await new Promise<void>((resolve, reject) => {
          underWay.set(requestId, (error) => (error === undefined ? resolve() : reject(error)));
        });
        return { ack: { requestId } };
      },
    });
  });
  const acked: bigint[] = [];
  const refused: [bigint, TcmError][] = [];
  const stop = new AbortController();
  const executor = new Executor(
    {
      client: createClient(RealtimeService, transport),
      sessionId: () => sessionId,
      timeoutMs: 20_000,
      signal: stop.signal,
    },
    { acked: (id) => acked.push(id), refused: (id, error) => refused.push([id, error]) },
  );
  let lastId = 0n;
  const comment = (testCaseId: string, requestId: string) =>
    executor.execute(++lastId, {
      requestId,
      command: { case: "addComment", value: { testCaseId, text: requestId } },
    });
  const signal = (field: string, state: keyof typeof ActivityState) =>
    executor.executeOrDrop({
      command: { case: "updateActivity", value: { field, state: ActivityState[state] } },
    });
  const end = (requestId: string, error?: unknown) => {
    underWay.get(requestId)?.(error);
    underWay.delete(requestId);
  };
  return { executor, comment, signal, end, asked, acked, refused, stop };
}

describe("commands by calls", () => {
  test("about one thing go one after the other; others pass", async () => {
    const { comment, end, asked, acked } = setup();
    comment("a", "a1");
    comment("a", "a2");
    comment("b", "b1");
    await expect.poll(() => asked).toEqual(["a1", "b1"]);
    end("b1");
    await expect.poll(() => acked).toEqual([3n]);
    expect(asked).toEqual(["a1", "b1"]);
    end("a1");
    await expect.poll(() => asked).toEqual(["a1", "b1", "a2"]);
    end("a2");
    await expect.poll(() => acked).toEqual([3n, 1n, 2n]);
  });

  test("leave connections free: three are under way at most", async () => {
    const { comment, end, asked } = setup();
    for (const id of ["a", "b", "c", "d"]) comment(id, id);
    await expect.poll(() => asked).toEqual(["a", "b", "c"]);
    end("b");
    await expect.poll(() => asked).toEqual(["a", "b", "c", "d"]);
  });

  test("that could not be made count as unavailable, and hold nobody up", async () => {
    const { comment, end, asked, refused } = setup();
    comment("a", "a1");
    comment("a", "a2");
    await expect.poll(() => asked).toEqual(["a1"]);
    end("a1", new TypeError("Failed to fetch"));
    await expect.poll(() => asked).toEqual(["a1", "a2"]);
    end("a2", new ConnectError("no", Code.PermissionDenied));
    await expect
      .poll(() => refused.map(([id, { code }]) => [id, code]))
      .toEqual([
        [1n, Code.Unavailable],
        [2n, Code.PermissionDenied],
      ]);
  });

  test("of typing go one at a time, and only the newest of a field waits", async () => {
    const { signal, end, asked } = setup();
    signal("title", "FOCUSED");
    signal("title", "TYPING");
    signal("title", "LEFT");
    signal("priority", "FOCUSED");
    await expect.poll(() => asked).toEqual(["FOCUSED title in s1"]);
    end("FOCUSED title in s1");
    await expect.poll(() => asked.slice(1)).toEqual(["LEFT title in s1"]);
    end("LEFT title in s1", new TypeError("Failed to fetch"));
    await expect.poll(() => asked.slice(2)).toEqual(["FOCUSED priority in s1"]);
  });

  test("of typing are few, whatever happens: the oldest are dropped", async () => {
    const { signal, end, asked } = setup();
    for (let i = 0; i <= 40; i++) signal(`field${i}`, "FOCUSED");
    for (let i = 0; i <= 32; i++) {
      await expect.poll(() => asked.length).toBe(i + 1);
      end(asked[i] ?? "");
    }
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked.length).toBe(33);
    expect(asked.slice(1)).toEqual(Array.from({ length: 32 }, (_, i) => `FOCUSED field${i + 9} in s1`));
  });

  test("of typing are dropped before there is a session", async () => {
    const { signal, comment, asked } = setup("");
    signal("title", "FOCUSED");
    comment("a", "a1");
    await expect.poll(() => asked).toEqual(["a1"]);
  });

  test("end with their stream, and nobody hears of them", async () => {
    const { comment, asked, acked, refused, stop } = setup();
    comment("a", "a1");
    comment("a", "a2");
    await expect.poll(() => asked).toEqual(["a1"]);
    stop.abort();
    await new Promise((resolve) => setImmediate(resolve));
    expect([asked, acked, refused]).toEqual([["a1"], [], []]);
  });
});
