import type { Environment } from "../environment";
import { type TcmError, unavailable } from "../errors";
import { Link } from "./link";

/** A websocket that is not welcomed by then may hang for long, and the rooms want to hear. */
const holdMs = 2_000;

/** What a Handover does to its session. */
export interface HandoverActions {
  /** Opens the candidate's stream. */
  readonly open: (candidate: Link) => void;
  /** The candidate was not welcomed; takenOver is why the link in use ended meanwhile, if it did. */
  readonly failed: (error: TcmError, takenOver: TcmError | undefined) => void;
}

/**
 * Handover is the move from a link in use to a websocket that is opened beside
 * it, the candidate, in the same session. The server ends the link in use when
 * the candidate's hello arrives, and would end the candidate if a Watch said
 * hello after that: so neither begins while the other waits for its welcome.
 */
export class Handover {
  #candidate: Link | undefined;
  #takenOver: TcmError | undefined;
  #holdUntilMs = 0;
  #due = false;
  #cancel: () => void = () => {};

  constructor(
    readonly environment: Environment,
    readonly timeoutMs: number,
    readonly actions: HandoverActions,
  ) {}

  /** Whether link is the candidate. */
  is(link: Link): boolean {
    return link === this.#candidate;
  }

  /** Whether the link in use may say hello anew. */
  get mayGreet(): boolean {
    return this.#candidate === undefined || this.environment.now() >= this.#holdUntilMs;
  }

  /** Opens a candidate; at the next welcome if the link in use waits for it. */
  begin(inUse: Link): void {
    if (this.#candidate !== undefined) return;
    this.#due = inUse.pending;
    if (this.#due) return;
    const candidate = new Link();
    this.#candidate = candidate;
    this.#holdUntilMs = this.environment.now() + holdMs;
    this.#cancel = this.environment.after(this.timeoutMs, () =>
      this.failed(unavailable("the websocket was silent for too long")),
    );
    this.actions.open(candidate);
  }

  /** The link in use was welcomed. */
  welcomed(inUse: Link): void {
    if (this.#due) this.begin(inUse);
  }

  /** The link in use was ended by the server for another's sake; true if that is the candidate, whose welcome is on the way. */
  takesOver(error: TcmError): boolean {
    if (this.#candidate === undefined) return false;
    this.#takenOver = error;
    return true;
  }

  /** The candidate won't be welcomed. */
  failed(error: TcmError): void {
    const takenOver = this.#takenOver;
    this.drop();
    this.actions.failed(error, takenOver);
  }

  /** The candidate was welcomed and is the link in use from now on. */
  done(): void {
    this.#candidate = undefined;
    this.drop();
  }

  /** Gives the candidate up, if there is one. */
  drop(): void {
    this.#cancel();
    this.#candidate?.stream?.close();
    this.#candidate = undefined;
    this.#takenOver = undefined;
    this.#due = false;
  }
}
