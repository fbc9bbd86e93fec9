import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { ErrorSchema } from "@tcmanager/gen/tcmanager/v1/error_pb";
import { GetServerInfoResponseSchema, IdentityService } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import {
  RealtimeService,
  SubscribeRequestSchema,
  type SubscribeResponse,
  SubscribeResponseSchema,
} from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { beforeEach, describe, expect, test } from "vitest";
import { createGrpcWebSocketTransport, type GrpcWebSocketTransportOptions } from "./grpc-websocket";

/** A WebSocket whose other end is the test. */
class FakeWebSocket {
  static last: FakeWebSocket | undefined;
  binaryType = "blob";
  buffered = 0;
  /** How often somebody looked whether the buffer drained. */
  looks = 0;
  readyState = 0;
  closedWith: number | undefined;
  readonly sent: Uint8Array[] = [];
  onopen: (() => void) | undefined;
  onmessage: ((event: { data: unknown }) => void) | undefined;
  onerror: (() => void) | undefined;
  onclose: ((event: { code: number; reason: string }) => void) | undefined;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    FakeWebSocket.last = this;
  }

  get bufferedAmount(): number {
    this.looks++;
    return this.buffered;
  }

  send(data: Uint8Array): void {
    this.sent.push(data.slice());
  }

  close(code: number): void {
    this.closedWith = code;
    this.readyState = 2;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  /** The server's bytes, in one message. */
  receive(...parts: Uint8Array[]): void {
    const joined = Uint8Array.from(parts.flatMap((part) => [...part]));
    this.onmessage?.({ data: joined.buffer });
  }

  closeFromServer(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

function transport(options: Partial<GrpcWebSocketTransportOptions> = {}) {
  return createGrpcWebSocketTransport({
    baseUrl: "https://tests.example.org",
    webSocket: FakeWebSocket as unknown as typeof WebSocket,
    ...options,
  });
}

function socket(): FakeWebSocket {
  if (FakeWebSocket.last === undefined) throw new Error("no socket was opened");
  return FakeWebSocket.last;
}

const headers = encodeEnvelope(0x80, text("content-type: application/grpc-web+proto\r\n"));
const trailersOk = encodeEnvelope(0x80, text("grpc-status: 0\r\n"));

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function message(init: MessageInitShape<typeof SubscribeResponseSchema>): Uint8Array {
  return encodeEnvelope(0, toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, init)));
}

/** A Subscribe call that has been opened, with what it said and how it ended. */
class Subscribe {
  readonly received: SubscribeResponse[] = [];
  readonly abort = new AbortController();
  readonly done: Promise<ConnectError | undefined>;
  #push: (() => void) | undefined;
  #queue: (bigint | "end")[] = [];

  constructor(options: Partial<GrpcWebSocketTransportOptions> = {}) {
    const client = createClient(RealtimeService, transport(options));
    const responses = client.subscribe(this.#requests(), { signal: this.abort.signal });
    this.done = this.#read(responses);
  }

  say(item: bigint | "end"): void {
    this.#queue.push(item);
    this.#push?.();
  }

  async *#requests() {
    for (;;) {
      const item = this.#queue.shift();
      if (item === "end") return;
      if (item !== undefined) yield { id: item, frame: { case: "ping" as const, value: {} } };
      else await new Promise<void>((resolve) => (this.#push = resolve));
    }
  }

  async #read(responses: AsyncIterable<SubscribeResponse>): Promise<ConnectError | undefined> {
    try {
      for await (const response of responses) this.received.push(response);
      return undefined;
    } catch (thrown) {
      return ConnectError.from(thrown);
    }
  }
}

async function opened(options: Partial<GrpcWebSocketTransportOptions> = {}): Promise<Subscribe> {
  const call = new Subscribe(options);
  await expect.poll(() => FakeWebSocket.last).toBeDefined();
  socket().open();
  return call;
}

beforeEach(() => {
  FakeWebSocket.last = undefined;
});

describe("a stream", () => {
  test("opens a wss address with the subprotocol, and sends headers, messages and a half-close", async () => {
    const auth: Interceptor = (next) => (req) => {
      req.header.set("authorization", "Bearer T");
      return next(req);
    };
    const call = await opened({ interceptors: [auth] });
    call.say(7n);
    call.say("end");
    await expect.poll(() => socket().sent.length).toBe(3);
    const [head, first, last] = socket().sent;
    expect(socket().url).toBe("wss://tests.example.org/tcmanager.v1.RealtimeService/Subscribe");
    expect(socket().protocols).toEqual(["grpc-websockets"]);
    expect(new TextDecoder().decode(head)).toMatch(/^([a-z-]+: [^\r\n]+\r\n)+$/);
    expect(new TextDecoder().decode(head)).toContain("authorization: Bearer T\r\n");
    expect([...first!.subarray(0, 2)]).toEqual([0, 0]);
    expect(fromBinary(SubscribeRequestSchema, first!.subarray(6)).id).toBe(7n);
    expect([...last!]).toEqual([1]);
  });

  test("yields what comes joined with its headers and trailers, and lets the server close first", async () => {
    const call = await opened();
    socket().receive(headers, message({ replyTo: 1n }), message({ replyTo: 2n }), trailersOk);
    expect(await call.done).toBeUndefined();
    expect(call.received.map(({ replyTo }) => replyTo)).toEqual([1n, 2n]);
    expect(socket().closedWith).toBeUndefined();
    await expect.poll(() => socket().closedWith, { timeout: 5_000 }).toBe(1000);
  });

  test("yields what comes cut anywhere", async () => {
    const call = await opened();
    const bytes = [headers, message({ replyTo: 1n }), message({ replyTo: 300n }), trailersOk].flatMap(
      (part) => [...part],
    );
    for (const byte of bytes) socket().receive(Uint8Array.of(byte));
    expect(await call.done).toBeUndefined();
    expect(call.received.map(({ replyTo }) => replyTo)).toEqual([1n, 300n]);
  });

  test("hands over a message while the client has not ended its side", async () => {
    const call = await opened();
    socket().receive(headers, message({ replyTo: 1n }));
    await expect.poll(() => call.received.length).toBe(1);
    call.say(2n);
    await expect.poll(() => socket().sent.length).toBe(2);
  });

  test("with trailers only gives the server's error with its details", async () => {
    const call = await opened();
    const status = "grpc-status: 7\r\ngrpc-message: not%20yours\r\n";
    socket().receive(encodeEnvelope(0x80, text(status)));
    const error = await call.done;
    expect(error?.code).toBe(Code.PermissionDenied);
    expect(error?.rawMessage).toBe("not yours");
    expect(error?.findDetails(ErrorSchema)).toEqual([]);
  });

  test("whose trailers lack a status counts as unavailable: the server was stopped", async () => {
    const call = await opened();
    socket().receive(headers, message({}), encodeEnvelope(0x80, text("x: y\r\n")));
    expect((await call.done)?.code).toBe(Code.Unavailable);
  });

  test("that is forbidden to the page fails at once, though no close event comes", async () => {
    const call = new Subscribe();
    await expect.poll(() => FakeWebSocket.last).toBeDefined();
    socket().readyState = 3;
    socket().onerror?.();
    expect((await call.done)?.rawMessage).toBe("the websocket is not allowed here");
  });

  test("fails with what the close event says where one comes", async () => {
    const call = await opened();
    socket().readyState = 3;
    socket().onerror?.();
    socket().closeFromServer(1009);
    expect((await call.done)?.code).toBe(Code.ResourceExhausted);
  });

  test("refuses a message over the limit and closes", async () => {
    const call = await opened({ maxMessageBytes: 100 });
    socket().receive(headers, encodeEnvelope(0, new Uint8Array(101)));
    expect((await call.done)?.code).toBe(Code.ResourceExhausted);
    expect(socket().closedWith).toBe(1000);
  });

  test("refuses unknown flags, and text", async () => {
    const compressed = await opened();
    socket().receive(encodeEnvelope(1, Uint8Array.of(1)));
    expect((await compressed.done)?.code).toBe(Code.Internal);
    FakeWebSocket.last = undefined;
    const words = await opened();
    socket().onmessage?.({ data: "hello" });
    expect((await words.done)?.code).toBe(Code.Internal);
  });

  test("ends with a code of its own when more arrives unread than is allowed", async () => {
    const call = await opened({ maxInboundBytes: 1000 });
    // All in one task: the reader has no chance.
    for (let i = 0; i < 11; i++) socket().receive(encodeEnvelope(0, new Uint8Array(95)));
    expect((await call.done)?.code).toBe(Code.ResourceExhausted);
    expect(socket().closedWith).toBe(4008);
  });

  test.each([
    [1006, "unavailable", Code.Unavailable],
    [1001, "going away", Code.Unavailable],
    [1009, "too big", Code.ResourceExhausted],
  ])("that closes with %i is %s", async (closeCode, reason, code) => {
    const call = await opened();
    socket().receive(headers, message({ replyTo: 1n }));
    socket().closeFromServer(closeCode, reason);
    const error = await call.done;
    expect(error?.code).toBe(code);
    expect(error?.rawMessage).toContain(String(closeCode));
    expect(call.received.length, "what arrived before is read first").toBe(1);
  });

  test("that closes inside a message is unavailable, like any other close", async () => {
    const call = await opened();
    socket().receive(message({ replyTo: 1n }).subarray(0, 6));
    socket().closeFromServer(1006);
    expect((await call.done)?.code).toBe(Code.Unavailable);
  });

  test("that can't be opened says so", async () => {
    const call = new Subscribe();
    await expect.poll(() => FakeWebSocket.last).toBeDefined();
    socket().closeFromServer(1006);
    const error = await call.done;
    expect(error?.code).toBe(Code.Unavailable);
    expect(error?.rawMessage).toContain("could not be opened");
  });

  test("ends, and closes its socket, when its signal is aborted", async () => {
    const call = await opened();
    socket().receive(headers, message({ replyTo: 1n }));
    await expect.poll(() => call.received.length).toBe(1);
    call.abort.abort();
    expect((await call.done)?.code).toBe(Code.Canceled);
    expect(socket().closedWith).toBe(1000);
  });

  test("waits with the next message while the socket's buffer is full", async () => {
    const call = await opened({ maxOutboundBytes: 100 });
    await expect.poll(() => socket().sent.length).toBe(1);
    socket().buffered = 101;
    call.say(1n);
    call.say(2n);
    await expect.poll(() => socket().sent.length).toBe(2);
    const { looks } = socket();
    await expect.poll(() => socket().looks).toBeGreaterThan(looks + 2);
    expect(socket().sent.length, "the second waits").toBe(2);
    socket().buffered = 100;
    await expect.poll(() => socket().sent.length).toBe(3);
    call.abort.abort();
  });
});

describe("a unary call", () => {
  const reply = encodeEnvelope(
    0,
    toBinary(GetServerInfoResponseSchema, create(GetServerInfoResponseSchema, { version: "1" })),
  );

  test("returns the one message", async () => {
    const answer = createClient(IdentityService, transport()).getServerInfo({});
    await expect.poll(() => FakeWebSocket.last).toBeDefined();
    socket().open();
    socket().receive(headers, reply, trailersOk);
    expect((await answer).version).toBe("1");
  });

  test.each([
    ["none", []],
    ["two", [reply, reply]],
  ])("with %s fails", async (_, replies) => {
    const answer = createClient(IdentityService, transport()).getServerInfo({}).catch(ConnectError.from);
    await expect.poll(() => FakeWebSocket.last).toBeDefined();
    socket().open();
    socket().receive(headers, ...replies, trailersOk);
    expect(await answer).toMatchObject({ code: Code.Unimplemented });
  });
});
