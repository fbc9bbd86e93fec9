import { PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Environment, WakeSignal } from "../environment";

/** Without a hand on the machine for this long, its user counts as away. */
const idleAfterMs = 5 * 60_000;
/** A glance at another tab is no absence. */
const hiddenIdleAfterMs = 3_000;

/** What a user at a machine can be. */
type OwnPresence = PresenceState.ONLINE | PresenceState.IDLE;

/**
 * PresenceWatch watches whether somebody is at the machine: idle is a page that is
 * hidden, or that nobody touched for a while.
 */
export class PresenceWatch {
  #state: OwnPresence = PresenceState.ONLINE;
  #cancel: () => void = () => {};

  /** changed hears each change. */
  constructor(
    readonly environment: Environment,
    readonly changed: (state: OwnPresence) => void,
  ) {
    this.#plan();
  }

  get state(): OwnPresence {
    return this.#state;
  }

  signal(signal: WakeSignal): void {
    switch (signal) {
      case "visible":
      case "input":
        this.#set(PresenceState.ONLINE);
        return this.#plan();
      case "hidden":
        return this.#plan();
      case "online":
      case "offline":
      case "page-hide":
        return;
      default:
        signal satisfies never;
    }
  }

  stop(): void {
    this.#cancel();
  }

  #plan(): void {
    this.#cancel();
    const delayMs = this.environment.visible() ? idleAfterMs : hiddenIdleAfterMs;
    this.#cancel = this.environment.after(delayMs, () => this.#set(PresenceState.IDLE));
  }

  #set(state: OwnPresence): void {
    if (state === this.#state) return;
    this.#state = state;
    this.changed(state);
  }
}
