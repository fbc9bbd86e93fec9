import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, createContextValues } from "@connectrpc/connect";
import type {
  RealtimeService,
  SubscribeRequestSchema,
  SubscribeResponse,
} from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { TcmError, toTcmError } from "../errors";
import { refreshToken } from "../transport/auth";
import { SendQueue } from "./send-queue";

/** What a client may say in a stream. */
export type RequestFrame = NonNullable<MessageInitShape<typeof SubscribeRequestSchema>["frame"]>;

type Request = MessageInitShape<typeof SubscribeRequestSchema>;

/** Who hears a stream. Neither is called after close. */
export interface StreamListener {
  readonly frame: (frame: SubscribeResponse) => void;
  readonly ended: (error: TcmError) => void;
}

/** At most this many frames wait for the network; 256 commands and 100 rooms fit several times. */
const maxQueuedFrames = 1024;
/** Above this, frames that may be lost are. */
const sheddingAbove = 32;

/** SessionStream is one Subscribe call: one incarnation of a session. */
export class SessionStream {
  readonly #queue = new SendQueue<Request>(maxQueuedFrames);
  readonly #abort = new AbortController();
  #lastId = 0n;

  /** Opens the call, with a new token if refresh. */
  constructor(
    client: Client<typeof RealtimeService>,
    refresh: boolean,
    readonly listener: StreamListener,
  ) {
    const contextValues = createContextValues().set(refreshToken, refresh);
    const responses = client.subscribe(this.#queue, { signal: this.#abort.signal, contextValues });
    void this.#read(responses);
  }

  /** Queues a frame and returns its number, which answers repeat; undefined if the queue is full. */
  send(frame: RequestFrame): bigint | undefined {
    const id = this.#lastId + 1n;
    if (!this.#queue.push({ id, frame })) return undefined;
    this.#lastId = id;
    return id;
  }

  /** Queues a frame that is worth nothing later: with others waiting it is dropped. */
  sendOrDrop(frame: RequestFrame): void {
    if (this.#queue.size < sheddingAbove) this.send(frame);
  }

  /** Ends the call. */
  close(): void {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    this.#queue.close();
  }

  async #read(responses: AsyncIterable<SubscribeResponse>): Promise<void> {
    let error = new TcmError({ code: Code.Unavailable, message: "the server ended the session" });
    try {
      for await (const frame of responses) {
        if (this.#abort.signal.aborted) return;
        this.listener.frame(frame);
      }
    } catch (thrown) {
      error = toTcmError(thrown);
    }
    if (this.#abort.signal.aborted) return;
    this.close();
    this.listener.ended(error);
  }
}
