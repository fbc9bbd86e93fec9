import type { Environment } from "../environment";
import type { RoomMessage } from "../session";
import { retry } from "./retry";

/** Counts follow results at most 100 ms later. Those that don't in this time were told while no stream was there to hear them. */
export const countsLateMs = 500;

/**
 * Recount asks how far a run is when its counts don't follow its results. They are
 * of class LATEST: a room that goes on where it was gets the results it missed,
 * but not the counts that were told meanwhile, and if the run rests just then,
 * for example on a test that takes long, no others come.
 */
export class Recount<T> {
  #doubts = 0;
  #call: AbortController | undefined;
  #cancel: () => void = () => {};

  /** apply takes an answer, which is newer than all that was heard. */
  constructor(
    readonly environment: Environment,
    readonly ask: (signal: AbortSignal) => Promise<T>,
    readonly apply: (answer: T) => void,
  ) {}

  /** Takes what a run's room heard. */
  hear(message: RoomMessage): void {
    if (message.kind === "joined" && !message.joined.recovered) return this.stop();
    if (message.kind === "joined" && this.#doubts > 0) return this.#plan();
    if (message.kind !== "events") return;
    for (const { payload } of message.events.toReversed()) {
      if (payload.case === "testExecution" || payload.case === "suiteExecution") return this.doubt();
      if (payload.case === "runProgress" || payload.case === "runChanged") return this.stop();
    }
  }

  /** The counts may be old. */
  doubt(): void {
    this.#doubts++;
    if (this.#doubts === 1) this.#plan();
  }

  /** The counts are new, or of no interest any more. */
  stop(): void {
    this.#doubts = 0;
    this.#cancel();
    this.#call?.abort();
    this.#call = undefined;
  }

  /** Counts were heard that an answer under way may be older than: asks anew. */
  askAnew(): void {
    if (this.#call === undefined) return;
    this.#call.abort();
    this.#call = undefined;
    this.#plan();
  }

  #plan(): void {
    this.#cancel();
    if (this.#call === undefined) this.#cancel = this.environment.after(countsLateMs, () => this.#recount());
  }

  #recount(): void {
    const call = new AbortController();
    const { signal } = call;
    const doubts = this.#doubts;
    this.#call = call;
    const done = (): boolean => {
      if (signal.aborted) return false;
      this.#call = undefined;
      return true;
    };
    retry(this.environment, signal, () => this.ask(signal)).then(
      (answer) => {
        if (!done()) return;
        this.apply(answer);
        // What came meanwhile the answer may not know.
        const again = this.#doubts > doubts;
        this.#doubts = again ? 1 : 0;
        if (again) this.#plan();
      },
      // The next join asks again.
      () => void done(),
    );
  }
}
