import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import type { ContextValues, Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { createGrpcWebSocketTransport } from "./grpc-websocket";

/** How to make the transport. */
export interface TransportOptions {
  /** Where the server is: http or https. */
  readonly baseUrl: string;
  readonly interceptors?: readonly Interceptor[];
}

/**
 * createTransport makes the transport of browsers: unary calls and server
 * streams by grpc-web over fetch, streams in which the client speaks too over
 * a websocket.
 */
export function createTransport(options: TransportOptions): Transport {
  const fetched = createGrpcWebTransport({
    baseUrl: options.baseUrl,
    interceptors: [...(options.interceptors ?? [])],
  });
  const duplex = createGrpcWebSocketTransport(options);
  return {
    unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: MessageInitShape<I>,
      contextValues?: ContextValues,
    ) {
      return fetched.unary(method, signal, timeoutMs, header, input, contextValues);
    },
    stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: AsyncIterable<MessageInitShape<I>>,
      contextValues?: ContextValues,
    ) {
      const carrier = method.methodKind === "server_streaming" ? fetched : duplex;
      return carrier.stream(method, signal, timeoutMs, header, input, contextValues);
    },
  };
}
