import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import type {
  ContextValues,
  Interceptor,
  StreamRequest,
  StreamResponse,
  Transport,
  UnaryRequest,
  UnaryResponse,
} from "@connectrpc/connect";
import { Code, ConnectError, createContextValues } from "@connectrpc/connect";
import {
  createClientMethodSerializers,
  createMethodUrl,
  runStreamingCall,
  runUnaryCall,
} from "@connectrpc/connect/protocol";
import { requestHeader } from "@connectrpc/connect/protocol-grpc-web";
import { type CallLimits, openCall } from "./websocket-call";

/** How to make the transport. */
export interface GrpcWebSocketTransportOptions {
  /** Where the server is: http or https. */
  readonly baseUrl: string;
  readonly interceptors?: readonly Interceptor[];
  /** Above this many bytes in the socket's own buffer, the next message waits; 1 MiB by default. */
  readonly maxOutboundBytes?: number;
  /** Above this many unread bytes the call fails: a WebSocket can't be told to wait. 16 MiB by default. */
  readonly maxInboundBytes?: number;
  /** The largest message accepted from the server; 16 MiB by default. */
  readonly maxMessageBytes?: number;
  /** Replaces the browser's WebSocket, for tests. */
  readonly webSocket?: typeof WebSocket;
}

const mebibyte = 1 << 20;

/**
 * createGrpcWebSocketTransport makes a Transport that carries each call over a
 * WebSocket of its own, in the "grpc-websockets" subprotocol of
 * improbable-eng/grpc-web, so that both sides can speak at any time.
 *
 *     client to server  the first message: request headers as a block of lines
 *                       each further message: 0x00, then a gRPC frame
 *                       the last message: 0x01, the half-close
 *     server to client  a stream of frames, cut into messages anywhere:
 *                       0x80 a block of response headers; 0x00 a message;
 *                       0x80 a block of trailers (it may be the only block)
 *
 * Leaving a `for await` over a response does not close the socket, since
 * connect-es hides the iterator's return: abort the call's signal.
 */
export function createGrpcWebSocketTransport(options: GrpcWebSocketTransportOptions): Transport {
  const limits: CallLimits = {
    outboundBytes: options.maxOutboundBytes ?? mebibyte,
    inboundBytes: options.maxInboundBytes ?? 16 * mebibyte,
    messageBytes: options.maxMessageBytes ?? 16 * mebibyte,
  };
  const interceptors = [...(options.interceptors ?? [])];
  const open = (url: string, header: Headers, body: AsyncIterable<Uint8Array>, signal: AbortSignal) =>
    openCall(options.webSocket ?? WebSocket, url, header, body, signal, limits);

  return {
    async unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      message: MessageInitShape<I>,
      contextValues?: ContextValues,
    ): Promise<UnaryResponse<I, O>> {
      const { serialize, parse } = createClientMethodSerializers(method, true);
      const next = async (req: UnaryRequest<I, O>): Promise<UnaryResponse<I, O>> => {
        const call = open(req.url, req.header, single(serialize(req.message)), req.signal);
        const reply = await only(call.messages);
        return {
          stream: false,
          service: method.parent,
          method,
          header: call.header,
          trailer: call.trailer,
          message: parse(reply),
        };
      };
      return runUnaryCall<I, O>({
        interceptors,
        next,
        ...withSignal(signal),
        ...withTimeout(timeoutMs),
        req: {
          stream: false,
          service: method.parent,
          method,
          requestMethod: "POST",
          url: createMethodUrl(options.baseUrl, method),
          header: requestHeader(true, timeoutMs, header, false),
          contextValues: contextValues ?? createContextValues(),
          message,
        },
      });
    },

    async stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: AsyncIterable<MessageInitShape<I>>,
      contextValues?: ContextValues,
    ): Promise<StreamResponse<I, O>> {
      const { serialize, parse } = createClientMethodSerializers(method, true);
      const next = async (req: StreamRequest<I, O>): Promise<StreamResponse<I, O>> => {
        const call = open(req.url, req.header, map(req.message, serialize), req.signal);
        // The response's headers are not awaited: a server that waits for the
        // client's first message sends none until then.
        return {
          stream: true,
          service: method.parent,
          method,
          header: call.header,
          trailer: call.trailer,
          message: map(call.messages, parse),
        };
      };
      return runStreamingCall<I, O>({
        interceptors,
        next,
        ...withSignal(signal),
        ...withTimeout(timeoutMs),
        req: {
          stream: true,
          service: method.parent,
          method,
          requestMethod: "POST",
          url: createMethodUrl(options.baseUrl, method),
          header: requestHeader(true, timeoutMs, header, false),
          contextValues: contextValues ?? createContextValues(),
          message: input,
        },
      });
    },
  };
}

function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

function withTimeout(timeoutMs: number | undefined): { timeoutMs?: number } {
  return timeoutMs === undefined || timeoutMs <= 0 ? {} : { timeoutMs };
}

async function* single(message: Uint8Array): AsyncGenerator<Uint8Array> {
  yield message;
}

/** only returns the one message of a stream that must have exactly one. */
async function only(messages: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  let found: Uint8Array | undefined;
  for await (const message of messages) {
    if (found !== undefined)
      throw new ConnectError("more than one message in the answer", Code.Unimplemented);
    found = message;
  }
  if (found === undefined) throw new ConnectError("no message in the answer", Code.Unimplemented);
  return found;
}

async function* map<A, B>(source: AsyncIterable<A>, change: (item: A) => B): AsyncGenerator<B> {
  for await (const item of source) yield change(item);
}
