import type { Environment } from "../environment";

/** How soon the answer to a probe must come: somebody looks at the page and waits. */
const probeTimeoutMs = 5_000;
/** A pong later than this is as good as none, however patient the server is. */
const maxPongTimeoutMs = 20_000;
/** Pings are sent this much earlier than the server asks for, so that a slow network doesn't make them late. */
const intervalMargin = 0.8;

/** What a heartbeat does to its stream. */
export interface HeartbeatActions {
  readonly ping: () => void;
  /** Nothing came in time: the peer is gone, though nobody said so. */
  readonly dead: () => void;
}

/**
 * Heartbeat finds out that a peer is gone while the connection looks open. Any
 * frame is a sign of life, so a pong that waits behind a burst of events does
 * no harm.
 *
 * The next ping is planned when the pong arrives and not when the ping leaves:
 * browsers slow timers that start timers in hidden pages down to one a minute,
 * but not those that a message starts.
 */
export class Heartbeat {
  #cancel: () => void = () => {};
  #intervalMs = 0;
  #pongTimeoutMs = 0;
  #sentAtMs: number | undefined;
  #lastFrameAtMs = 0;

  constructor(
    readonly environment: Environment,
    readonly actions: HeartbeatActions,
  ) {}

  /** Begins with a ping at once: it measures the round trip. */
  start(intervalMs: number, timeoutMs: number): void {
    this.#intervalMs = Math.max(intervalMs, 1_000) * intervalMargin;
    this.#pongTimeoutMs = Math.min(Math.max(timeoutMs, 1_000), maxPongTimeoutMs);
    this.#ping(this.#pongTimeoutMs);
  }

  stop(): void {
    this.#cancel();
    this.#cancel = () => {};
    this.#sentAtMs = undefined;
    this.#intervalMs = 0;
  }

  /** Asks for a sign of life now. */
  probe(): void {
    if (this.#intervalMs > 0) this.#ping(probeTimeoutMs);
  }

  frameArrived(): void {
    this.#lastFrameAtMs = this.environment.now();
  }

  /** Returns the round trip in milliseconds; undefined for a pong that nobody waits for. */
  pongArrived(): number | undefined {
    if (this.#sentAtMs === undefined) return undefined;
    const rttMs = this.environment.now() - this.#sentAtMs;
    this.#sentAtMs = undefined;
    this.#plan(this.#intervalMs, () => this.#ping(this.#pongTimeoutMs));
    return rttMs;
  }

  #ping(timeoutMs: number): void {
    this.#sentAtMs = this.environment.now();
    this.actions.ping();
    this.#plan(timeoutMs, () => this.#check(timeoutMs));
  }

  #check(timeoutMs: number): void {
    const silentMs = this.environment.now() - Math.max(this.#lastFrameAtMs, this.#sentAtMs ?? 0);
    if (silentMs >= timeoutMs) this.actions.dead();
    else this.#ping(timeoutMs);
  }

  #plan(delayMs: number, run: () => void): void {
    this.#cancel();
    this.#cancel = this.environment.after(delayMs, run);
  }
}
