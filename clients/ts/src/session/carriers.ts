import type { Client } from "@connectrpc/connect";
import type { RealtimeService } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import {
  type Choice,
  choose,
  type Decision,
  firstChoice,
  type Outcome,
  type TransportName,
} from "../carrier";
import type { Environment } from "../environment";
import type { KeyValueStorage, TokenSource } from "../session";
import type { SessionStream, StreamListener } from "./stream";
import { SubscribeStream } from "./subscribe-stream";
import { WatchStream } from "./watch-stream";

/** A streamed answer that shows nothing for so long is held back on its way. */
const streamSilentMs = 5_000;

const storageKey = "tcmanager.carrier";

/** What Carriers are made of. */
export interface CarriersOptions {
  readonly client: Client<typeof RealtimeService>;
  readonly environment: Environment;
  readonly token: TokenSource;
  readonly storage: KeyValueStorage | undefined;
  readonly transports: readonly TransportName[];
  readonly timeoutMs: number;
}

/** Carriers open streams over the carrier that carrier.ts chooses, and remember for the next page which one worked. */
export class Carriers {
  #choice: Choice;
  #cancelReturn: () => void = () => {};

  constructor(readonly options: CarriersOptions) {
    this.#choice = firstChoice(options.transports, read(options.storage));
  }

  /** How long a stream that is opened now may take until its welcome. */
  get welcomeWithinMs(): number {
    const { timeoutMs } = this.options;
    return this.#choice.way === "stream" ? Math.min(timeoutMs, streamSilentMs) : timeoutMs;
  }

  /** Opens a stream, with a new token if refresh. */
  open(refresh: boolean, listener: StreamListener): SessionStream {
    const { way } = this.#choice;
    if (way === "websocket") return new SubscribeStream(this.options, refresh, listener);
    return new WatchStream({ ...this.options, way }, refresh, listener);
  }

  /** Opens a websocket beside the stream in use. */
  openWebSocket(listener: StreamListener): SessionStream {
    return new SubscribeStream(this.options, false, listener);
  }

  /** Learns what came of a stream; says when to open the next. */
  decide(outcome: Outcome): Decision["next"] {
    const { choice, next } = choose(this.#choice, outcome);
    this.#choice = choice;
    if (outcome.kind === "welcomed" || outcome.kind === "returned") {
      write(this.options.storage, choice.way === "off" ? "websocket" : choice.way);
    }
    return next;
  }

  /** Plans to try the websocket beside another way, if that may be. Replaces an earlier plan. */
  planReturn(run: () => void): void {
    this.cancelReturn();
    const { way, allowed, returnMs } = this.#choice;
    if (way === "websocket" || !allowed.includes("websocket")) return;
    this.#cancelReturn = this.options.environment.after(returnMs, run);
  }

  cancelReturn(): void {
    this.#cancelReturn();
    this.#cancelReturn = () => {};
  }
}

function read(storage: KeyValueStorage | undefined): string | null {
  try {
    return storage?.getItem(storageKey) ?? null;
  } catch {
    return null;
  }
}

function write(storage: KeyValueStorage | undefined, way: string): void {
  try {
    if (way === "websocket") storage?.removeItem(storageKey);
    else storage?.setItem(storageKey, way);
  } catch {
    // Not allowed: the next page finds out by itself.
  }
}
