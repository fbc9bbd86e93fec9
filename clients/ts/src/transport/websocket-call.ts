import { Code, ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import {
  trailerFlag,
  trailerParse,
  trailerSerialize,
  validateTrailer,
} from "@connectrpc/connect/protocol-grpc-web";
import { type Frame, FrameReader } from "./framing";
import { Inbox } from "./inbox";

/** The bounds of one call. */
export interface CallLimits {
  readonly outboundBytes: number;
  readonly inboundBytes: number;
  readonly messageBytes: number;
}

/** One call over its own WebSocket. */
export interface WebSocketCall {
  /** Filled when the response's headers arrive; empty until then. */
  readonly header: Headers;
  /** Filled when messages has ended well. */
  readonly trailer: Headers;
  /** The response. Ends when the server said OK, throws a ConnectError otherwise. To be read once. */
  readonly messages: AsyncIterable<Uint8Array>;
}

/** WebSocket.OPEN; the constructor may be a test's. */
const open = 1;
/** WebSocket.CLOSED. */
const closed = 3;
/** The close code for a reader that is too slow; 4000 and above are the application's. */
const closeTooSlow = 4008;
/** How often a full socket is looked at: browsers don't tell when it drains. */
const drainPollMs = 10;

/** How long a server may take to close the socket after its trailers. */
const closeGraceMs = 1_000;

const halfClose = new Uint8Array([1]);

/** openCall opens a socket and runs one call on it until it ends or signal is aborted. */
export function openCall(
  webSocket: typeof WebSocket,
  httpUrl: string,
  header: Headers,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  limits: CallLimits,
): WebSocketCall {
  const call = new Call(new webSocket(toWebSocketUrl(httpUrl), ["grpc-websockets"]), signal, limits);
  call.start(header, body);
  return call;
}

function toWebSocketUrl(httpUrl: string): string {
  const url = new URL(httpUrl, globalThis.location?.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

class Call implements WebSocketCall {
  readonly header = new Headers();
  readonly trailer = new Headers();
  readonly messages: AsyncIterable<Uint8Array>;
  readonly #inbox: Inbox;
  #ended = false;
  #opened = false;

  constructor(
    readonly socket: WebSocket,
    readonly signal: AbortSignal,
    readonly limits: CallLimits,
  ) {
    socket.binaryType = "arraybuffer";
    this.#inbox = new Inbox(limits.inboundBytes);
    this.messages = this.#read();
  }

  start(header: Headers, body: AsyncIterable<Uint8Array>): void {
    this.socket.onmessage = (event) => this.#receive(event.data);
    this.socket.onclose = (event) => this.#closed(closeError(event, this.#opened));
    this.socket.onerror = () => this.#failed();
    this.socket.onopen = () => {
      this.#opened = true;
      this.#send(header, body).catch((thrown: unknown) => this.#end(ConnectError.from(thrown)));
    };
    if (this.signal.aborted) this.#abort();
    else this.signal.addEventListener("abort", this.#abort);
  }

  readonly #abort = (): void => this.#end(ConnectError.from(this.signal.reason, Code.Canceled));

  /** Ends the call: the reader gets error, and the socket is closed. The first end wins. */
  #end(error: unknown, closeCode = 1000): void {
    if (this.#ended) return;
    this.#ended = true;
    this.signal.removeEventListener("abort", this.#abort);
    this.#inbox.abort(error);
    if (this.socket.readyState <= open) this.socket.close(closeCode);
  }

  /**
   * Ends a call that the server has ended with its trailers. The server closes
   * the socket, too: if both do, it answers a close that was already answered,
   * and browsers report that as an error. So it gets a moment to go first.
   */
  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.signal.removeEventListener("abort", this.#abort);
    this.#inbox.finish();
    setTimeout(() => {
      if (this.socket.readyState <= open) this.socket.close(1000);
    }, closeGraceMs);
  }

  #receive(data: unknown): void {
    if (this.#ended) return;
    if (!(data instanceof ArrayBuffer)) {
      this.#end(new ConnectError("the server sent a text message", Code.Internal));
      return;
    }
    if (!this.#inbox.push(new Uint8Array(data))) {
      const message = `more than ${this.limits.inboundBytes} bytes wait unread`;
      this.#end(new ConnectError(message, Code.ResourceExhausted), closeTooSlow);
    }
  }

  /** The socket closed. What arrived before is still read: the trailers may be in it. */
  #closed(error: ConnectError): void {
    this.signal.removeEventListener("abort", this.#abort);
    this.#inbox.finish(error);
    this.#ended = true;
  }

  /**
   * The close event, which says more, comes next; except for a socket that the
   * page's own policy or an extension forbids: of that Chromium tells no more.
   */
  #failed(): void {
    setTimeout(() => {
      if (this.socket.readyState < closed) return;
      this.#closed(new ConnectError("the websocket is not allowed here", Code.Unavailable));
    });
  }

  async #send(header: Headers, body: AsyncIterable<Uint8Array>): Promise<void> {
    this.socket.send(new Uint8Array(trailerSerialize(header)));
    for await (const message of body) {
      if (!this.#writable()) return;
      this.socket.send(withContinuation(encodeEnvelope(0, message)));
      await this.#drain();
      if (!this.#writable()) return;
    }
    if (this.#writable()) this.socket.send(halfClose);
  }

  #writable(): boolean {
    return !this.#ended && this.socket.readyState === open;
  }

  async #drain(): Promise<void> {
    while (this.#writable() && this.socket.bufferedAmount > this.limits.outboundBytes) {
      await new Promise((resolve) => setTimeout(resolve, drainPollMs));
    }
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    try {
      const frames = new FrameReader(this.limits.messageBytes);
      let headersSeen = false;
      for await (const chunk of this.#inbox.chunks()) {
        for (const frame of frames.read(chunk)) {
          if (frame.flags === 0) {
            yield frame.data;
          } else if (this.#block(frame, headersSeen)) {
            return;
          }
          headersSeen = true;
        }
      }
      frames.end();
      throw new ConnectError("the server closed the stream without a status", Code.Unavailable);
    } catch (thrown) {
      this.#end(thrown);
      throw thrown;
    }
  }

  /** Takes a block of headers or of trailers. Returns true at the end of the call; throws if that isn't OK. */
  #block(frame: Frame, headersSeen: boolean): boolean {
    if (frame.flags !== trailerFlag) {
      throw new ConnectError(`a frame has unknown flags ${frame.flags}`, Code.Internal);
    }
    const block = trailerParse(frame.data);
    if (block.has("grpc-status")) {
      copy(block, this.trailer);
      this.#finish();
      validateTrailer(block, this.header);
      return true;
    }
    // A server that is stopped ends its streams with trailers that lack a status.
    if (headersSeen) throw new ConnectError("the server ended the stream without a status", Code.Unavailable);
    copy(block, this.header);
    return false;
  }
}

function copy(from: Headers, to: Headers): void {
  from.forEach((value, key) => {
    to.set(key, value);
  });
}

/** withContinuation puts 0x00 before a frame: another message of the same call. */
function withContinuation(frame: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(frame.byteLength + 1);
  out.set(frame, 1);
  return out;
}

function closeError(event: CloseEvent, opened: boolean): ConnectError {
  const why = `code ${event.code}${event.reason === "" ? "" : `: ${event.reason}`}`;
  // Browsers say 1006 for most of it; the rest is told apart where the server said more.
  if (event.code === 1009) {
    return new ConnectError(`a message is over the server's limit (${why})`, Code.ResourceExhausted);
  }
  if (!opened) return new ConnectError(`the websocket could not be opened (${why})`, Code.Unavailable);
  return new ConnectError(`the websocket was closed (${why})`, Code.Unavailable);
}
