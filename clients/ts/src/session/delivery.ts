import { getOption } from "@bufbuild/protobuf";
import { DeliveryClass, delivery } from "@tcmanager/gen/tcmanager/v1/delivery_pb";
import { type Event, EventSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { timestampToMs } from "../time";

/** Delivery classes by the kind of event, as the schema declares them. */
export const classes: ReadonlyMap<string, DeliveryClass> = new Map(
  EventSchema.oneofs
    .filter(({ name }) => name === "payload")
    .flatMap(({ fields }) => fields.map((field) => [field.localName, getOption(field, delivery)])),
);

/**
 * faultOf says what is wrong with an event by its class: without its number or
 * key it can't be delivered as promised. Kinds of a newer server are never wrong.
 */
export function faultOf({ payload, offset, key }: Event): string | undefined {
  if (payload.case === undefined) return undefined;
  switch (classes.get(payload.case)) {
    case DeliveryClass.DURABLE:
      return offset > 0n ? undefined : `a ${payload.case} came without a number`;
    case DeliveryClass.LATEST:
      if (offset > 0n) return `a ${payload.case} came with a number`;
      return key === "" ? `a ${payload.case} came without a key` : undefined;
    case DeliveryClass.EPHEMERAL:
      return offset > 0n ? `a ${payload.case} came with a number` : undefined;
    default:
      return `a ${payload.case} has no delivery class`;
  }
}

/** A room has about one key for each of its people and runs; more are forgotten, oldest first. */
const maxKeys = 1_000;
/** An event older by more than this is no straggler: the server's clock was set back. */
const stragglesMs = 60_000;

/** Latest knows the newest event of each kind and key in a room, so that an older one doesn't replace it. */
export class Latest {
  readonly #newestMs = new Map<string, number>();

  /** Takes an event of class LATEST; false for one that is older than one taken before. Others pass. */
  take({ payload, key, time }: Event): boolean {
    if (payload.case === undefined || classes.get(payload.case) !== DeliveryClass.LATEST) return true;
    const name = `${payload.case} ${key}`;
    const timeMs = timestampToMs(time);
    const olderMs = (this.#newestMs.get(name) ?? 0) - timeMs;
    if (olderMs > 0 && olderMs < stragglesMs) return false;
    this.#newestMs.delete(name);
    this.#newestMs.set(name, timeMs);
    if (this.#newestMs.size > maxKeys) this.#forgetOldest();
    return true;
  }

  #forgetOldest(): void {
    for (const name of this.#newestMs.keys()) {
      this.#newestMs.delete(name);
      return;
    }
  }
}
