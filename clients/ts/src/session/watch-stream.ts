import { create } from "@bufbuild/protobuf";
import { type Client, createContextValues } from "@connectrpc/connect";
import {
  type RealtimeService,
  type SubscribeResponse,
  SubscribeResponseSchema,
  WatchMode,
  type Welcome,
} from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { Carrier, Way } from "../carrier";
import type { Environment } from "../environment";
import { type TcmError, toTcmError, unavailable } from "../errors";
import { durationToMs, timestampToMs } from "../time";
import { refreshToken } from "../transport/auth";
import { Executor } from "./executor";
import { Slot } from "./slot";
import type { Request, RequestFrame, SessionStream, StreamListener } from "./stream";

/** Rooms that come and go together are asked for together. */
const gatherMs = 50;
/** How soon the answer to a probe must come. */
const probeTimeoutMs = 5_000;
/** Not more often than this, whatever the server does: a stream, and a long poll with news. */
const streamEveryMs = 1_000;
const longPollEveryMs = 250;
/** How often a tab without a connection of its own asks; nobody looks at a hidden one. */
const pollVisibleMs = 2_000;
const pollHiddenMs = 15_000;
/** How soon to look again whether the session was taken over. */
const holdMs = 250;
/** How often a server is asked on which real-time is switched off. */
const pollOffMs = 30_000;

/** What a WatchStream is made of. */
export interface WatchOptions {
  readonly client: Client<typeof RealtimeService>;
  readonly environment: Environment;
  readonly way: Exclude<Way, "websocket">;
  /** How long to wait for a welcome. */
  readonly timeoutMs: number;
}

/**
 * WatchStream is a session over fetch: Watch calls one after the other, each
 * with all rooms and their positions, and a call for each command. It looks like
 * one stream to its listener: that one Watch ended and the next began shows in
 * nothing but another welcome, and the rooms' joins answered again.
 */
export class WatchStream implements SessionStream {
  readonly #abort = new AbortController();
  readonly #slot: Slot;
  readonly #executor: Executor;
  #carrier: Carrier;
  #lastId = 0n;
  /** The frames of the Watch that is being opened; undefined otherwise. */
  #frames: Request[] | undefined;
  #call = new AbortController();
  #wake: () => void = () => {};
  #cancelGather: () => void = () => {};
  #refresh: boolean;
  #probing = false;
  /** Whether the last Watch had news. */
  #hadNews = false;
  /** Whether the next Watch asks for what should be answered at once, rather than with the next news. */
  #asksNew = true;
  #welcome: Welcome | undefined;

  /** Opens the first Watch, with a new token if refresh. */
  constructor(
    readonly options: WatchOptions,
    refresh: boolean,
    readonly listener: StreamListener,
  ) {
    const { client, environment, timeoutMs, way } = options;
    this.#carrier = way;
    this.#refresh = refresh;
    this.#slot = new Slot(environment);
    const { signal } = this.#abort;
    this.#executor = new Executor(
      { client, timeoutMs, signal, sessionId: () => this.#welcome?.sessionId ?? "" },
      {
        acked: (id, ack) => listener.frame(answer(id, { case: "ack", value: ack })),
        refused: listener.refused,
      },
    );
    void this.#run();
  }

  get carrier(): Carrier {
    return this.#carrier;
  }

  send(frame: RequestFrame): bigint | undefined {
    switch (frame.case) {
      case "command":
        if (this.#frames !== undefined) return this.#say(frame);
        this.#lastId++;
        this.#executor.execute(this.#lastId, frame.value);
        return this.#lastId;
      case "hello":
      case "join":
        return this.#frames === undefined ? this.#roomsChanged() : this.#say(frame);
      case "leave":
        return this.#roomsChanged();
      default:
        frame satisfies never;
        return undefined;
    }
  }

  sendOrDrop(frame: RequestFrame): void {
    if (frame.case === "command") this.#executor.executeOrDrop(frame.value);
  }

  /** Another Watch proves that the server is there. */
  probe(): void {
    this.#probing = true;
    this.#reopen();
  }

  refreshToken(): void {
    this.#refresh = true;
    this.#reopen();
  }

  close(): void {
    this.#abort.abort();
    this.#cancelGather();
    this.#slot.close();
    this.#reopen();
  }

  get #closed(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Says a frame in the Watch that is being opened. */
  #say(frame: RequestFrame): bigint {
    this.#lastId++;
    this.#frames?.push({ id: this.#lastId, frame });
    return this.#lastId;
  }

  /** Its answer comes with the next Watch, under another number. */
  #roomsChanged(): undefined {
    this.#cancelGather();
    this.#cancelGather = this.options.environment.after(gatherMs, () => this.#reopen());
  }

  /** Ends the Watch under way, if any, for the next one. */
  #reopen(): void {
    this.#asksNew = true;
    this.#call.abort();
    this.#wake();
  }

  async #run(): Promise<void> {
    // What is sent right after this was made belongs to the first Watch.
    await Promise.resolve();
    while (!this.#closed) {
      const mode = await this.#nextMode();
      if (this.#closed) return;
      const frames = this.#greeting();
      if (frames === undefined) {
        await this.#sleep(holdMs);
        continue;
      }
      const beganAtMs = this.options.environment.now();
      const error = await this.#watch(mode, frames);
      if (this.#closed) return;
      if (error !== undefined) {
        this.close();
        return this.listener.ended(error);
      }
      await this.#pause(mode, beganAtMs);
    }
  }

  /** Decides how the next Watch ends, which depends on whether this tab may hold a connection. */
  async #nextMode(): Promise<WatchMode> {
    const { way } = this.options;
    const carrier = way === "off" || (await this.#slot.take()) ? way : "poll";
    if (carrier !== this.#carrier && !this.#closed) {
      this.#carrier = carrier;
      this.listener.carrierChanged();
    }
    switch (carrier) {
      case "stream":
        return WatchMode.STREAM;
      case "long-poll":
        return this.#asksNew ? WatchMode.POLL : WatchMode.LONG_POLL;
      case "poll":
      case "off":
        return WatchMode.POLL;
      default:
        carrier satisfies never;
        return WatchMode.POLL;
    }
  }

  /** Runs one Watch to its end. Returns why it can't go on; undefined if it can. */
  async #watch(mode: WatchMode, frames: Request[]): Promise<TcmError | undefined> {
    const call = new AbortController();
    this.#call = call;
    const limit = new Limit(this.options.environment, call);
    const contextValues = createContextValues().set(refreshToken, this.#refresh);
    const welcomeWithinMs = this.#probing ? probeTimeoutMs : this.options.timeoutMs;
    limit.set(mode === WatchMode.LONG_POLL ? this.#silentMs(mode) : welcomeWithinMs);
    this.#refresh = false;
    this.#probing = false;
    this.#asksNew = false;
    this.#hadNews = false;
    const openedAtMs = this.options.environment.now();
    let welcomed = false;
    try {
      const { signal } = call;
      for await (const frame of this.options.client.watch({ frames, mode }, { signal, contextValues })) {
        if (signal.aborted) break;
        this.#hadNews ||= frame.events.length > 0;
        this.listener.frame(frame);
        if (frame.frame.case === "welcome") {
          welcomed = true;
          this.#welcomed(frame.frame.value, mode, openedAtMs);
        }
        if (welcomed) limit.set(this.#silentMs(mode));
      }
      if (call.signal.aborted) return limit.error;
      return welcomed ? undefined : unavailable("the server ended the session");
    } catch (thrown) {
      return call.signal.aborted ? limit.error : toTcmError(thrown);
    } finally {
      limit.cancel();
      call.abort();
    }
  }

  #greeting(): Request[] | undefined {
    const frames: Request[] = [];
    this.#cancelGather();
    this.#frames = frames;
    const said = this.listener.greet(this);
    this.#frames = undefined;
    return said ? frames : undefined;
  }

  #welcomed(welcome: Welcome, mode: WatchMode, openedAtMs: number): void {
    this.#welcome = welcome;
    // A long poll's welcome may have been held back with the rest.
    if (mode === WatchMode.LONG_POLL || this.#closed) return;
    this.listener.measured(this.options.environment.now() - openedAtMs, timestampToMs(welcome.serverTime));
  }

  /** How long the server may be silent: while a Watch lasts it gives a sign of life each heartbeat interval, or ends it. */
  #silentMs(mode: WatchMode): number {
    const { timeoutMs } = this.options;
    if (mode === WatchMode.POLL) return timeoutMs;
    const { heartbeatInterval, heartbeatTimeout } = this.#welcome ?? {};
    // No more patient than the server is, as on a websocket.
    const lateMs = Math.min(Math.max(durationToMs(heartbeatTimeout, 60_000), 1_000), timeoutMs);
    return durationToMs(heartbeatInterval, 25_000) + lateMs;
  }

  /** Waits until the next Watch is due, or there is a reason for it. */
  async #pause(mode: WatchMode, beganAtMs: number): Promise<void> {
    if (this.#asksNew) return;
    const waitMs = this.#everyMs(mode) - (this.options.environment.now() - beganAtMs);
    if (waitMs > 0) await this.#sleep(waitMs);
  }

  async #sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.options.environment.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
    this.#wake = () => {};
  }

  #everyMs(mode: WatchMode): number {
    switch (this.#carrier) {
      case "off":
        return pollOffMs;
      case "poll":
        return this.options.environment.visible() ? pollVisibleMs : pollHiddenMs;
      default:
        if (mode === WatchMode.STREAM) return streamEveryMs;
        if (mode === WatchMode.POLL) return 0; // It was for what is new; the long poll comes now.
        return this.#hadNews ? longPollEveryMs : pollVisibleMs;
    }
  }
}

/** Limit ends a call that takes too long. */
class Limit {
  /** Set when it did. */
  error: TcmError | undefined;
  cancel: () => void = () => {};

  constructor(
    readonly environment: Environment,
    readonly call: AbortController,
  ) {}

  set(ms: number): void {
    this.cancel();
    this.cancel = this.environment.after(ms, () => {
      this.error = unavailable("the server has been silent for too long");
      this.call.abort();
    });
  }
}

function answer(replyTo: bigint, frame: SubscribeResponse["frame"]): SubscribeResponse {
  return { ...create(SubscribeResponseSchema, { replyTo }), frame };
}
