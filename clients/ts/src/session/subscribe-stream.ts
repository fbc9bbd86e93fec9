import { type Client, createContextValues } from "@connectrpc/connect";
import type { RealtimeService, SubscribeResponse } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { Environment } from "../environment";
import { toTcmError, unavailable } from "../errors";
import type { TokenSource } from "../session";
import { durationToMs, timestampToMs } from "../time";
import { refreshToken } from "../transport/auth";
import { Heartbeat } from "./heartbeat";
import { SendQueue } from "./send-queue";
import type { AnyFrame, Request, RequestFrame, SessionStream, StreamListener } from "./stream";

/** At most this many frames wait for the network; 256 commands and 100 rooms fit several times. */
const maxQueuedFrames = 1024;
/** Above this, frames that may be lost are. */
const sheddingAbove = 32;

/** What a SubscribeStream is made of. */
export interface SubscribeOptions {
  readonly client: Client<typeof RealtimeService>;
  readonly environment: Environment;
  readonly token: TokenSource;
}

/** SubscribeStream is one Subscribe call, on a websocket: both sides speak at any time, and pings keep it honest. */
export class SubscribeStream implements SessionStream {
  readonly carrier = "websocket";
  readonly #queue = new SendQueue<Request>(maxQueuedFrames);
  readonly #abort = new AbortController();
  readonly #heartbeat: Heartbeat;
  #lastId = 0n;

  /** Opens the call, with a new token if refresh. */
  constructor(
    readonly options: SubscribeOptions,
    refresh: boolean,
    readonly listener: StreamListener,
  ) {
    this.#heartbeat = new Heartbeat(options.environment, {
      ping: () => void this.#push({ case: "ping", value: {} }),
      dead: () => {
        this.close();
        listener.ended(unavailable("the server has been silent for too long"));
      },
    });
    const contextValues = createContextValues().set(refreshToken, refresh);
    const { signal } = this.#abort;
    const responses = options.client.subscribe(this.#queue, { signal, contextValues });
    listener.greet(this);
    void this.#read(responses);
  }

  send(frame: RequestFrame): bigint | undefined {
    return this.#push(frame);
  }

  sendOrDrop(frame: RequestFrame): void {
    if (this.#queue.size < sheddingAbove) this.#push(frame);
  }

  probe(): void {
    this.#heartbeat.probe();
  }

  refreshToken(): void {
    void this.#refreshToken();
  }

  close(): void {
    if (this.#abort.signal.aborted) return;
    this.#heartbeat.stop();
    this.#abort.abort();
    this.#queue.close();
  }

  #push(frame: AnyFrame): bigint | undefined {
    const id = this.#lastId + 1n;
    if (!this.#queue.push({ id, frame })) return undefined;
    this.#lastId = id;
    return id;
  }

  /** If there is no newer token, the stream's end leads to the next attempt, which says why. */
  async #refreshToken(): Promise<void> {
    try {
      const token = await this.options.token({ refresh: true });
      if (token !== "") this.#push({ case: "refreshToken", value: { token } });
    } catch {
      return;
    }
  }

  async #read(responses: AsyncIterable<SubscribeResponse>): Promise<void> {
    let error = unavailable("the server ended the session");
    try {
      for await (const frame of responses) {
        if (this.#abort.signal.aborted) return;
        this.#take(frame);
      }
    } catch (thrown) {
      error = toTcmError(thrown);
    }
    if (this.#abort.signal.aborted) return;
    this.close();
    this.listener.ended(error);
  }

  #take(response: SubscribeResponse): void {
    this.#heartbeat.frameArrived();
    this.listener.frame(response);
    const { frame } = response;
    if (this.#abort.signal.aborted) return;
    if (frame.case === "welcome") {
      const { heartbeatInterval, heartbeatTimeout } = frame.value;
      this.#heartbeat.start(durationToMs(heartbeatInterval, 25_000), durationToMs(heartbeatTimeout, 60_000));
    }
    if (frame.case === "pong") {
      const rttMs = this.#heartbeat.pongArrived();
      if (rttMs !== undefined) this.listener.measured(rttMs, timestampToMs(frame.value.serverTime));
    }
  }
}
