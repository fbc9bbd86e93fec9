import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { type Command, type CommandResult, CommandSchema } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { Welcome } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { backoffMs } from "../connection";
import type { Environment } from "../environment";
import { TcmError } from "../errors";
import type { Answer, CommandAnswer, CommandInit, DroppedCommand, KeyValueStorage } from "../session";
import { durationToMs } from "../time";
import { callSafely } from "./call-safely";
import { Outbox, type SavedCommand } from "./outbox";

/** Commands that may wait for their answers: nobody should type into a void for hours. */
const maxWaiting = 256;
/** What a server remembers that doesn't say. */
const defaultWindowMs = 24 * 3_600_000;
/** Of the time for which the server remembers request ids, this much is relied on: clocks and networks are slow. */
const windowMargin = 0.9;

/** Who waits for an answer. */
interface Waiter {
  readonly resolve: (result: CommandResult["result"]) => void;
  readonly reject: (error: TcmError) => void;
}

/** What Commands are made of. */
export interface CommandsOptions {
  readonly environment: Environment;
  readonly storage: KeyValueStorage | undefined;
  readonly delayMs: number;
  /** Sends a command, if a stream is up. */
  readonly send: (command: Command) => void;
  /** How many wait has changed. */
  readonly changed: () => void;
}

/**
 * Commands carries out what the application wants done, each once: a command is
 * sent again after each reconnect, and after a reload of the page, until it is
 * answered, in order and under one request id. The server gives a repeat the
 * first answer and does nothing twice, for as long as it remembers; what is
 * older is given up and reported rather than done twice.
 */
export class Commands {
  readonly #outbox: Outbox;
  /** By request id. Commands of a page before this one have nobody who waits. */
  readonly #waiters = new Map<string, Waiter>();
  readonly #dropListeners = new Set<(dropped: DroppedCommand) => void>();
  /** Commands that are put off, with how often that happened. */
  readonly #putOff = new Map<string, { readonly times: number; readonly cancel: () => void }>();
  #userId = "";

  constructor(readonly options: CommandsOptions) {
    this.#outbox = new Outbox(options.storage, maxWaiting);
  }

  /** How many wait for their answers. */
  get size(): number {
    return this.#outbox.size;
  }

  /** Calls listener with each command of an earlier page that was not carried out. Returns the function that ends it. */
  onDropped(listener: (dropped: DroppedCommand) => void): () => void {
    this.#dropListeners.add(listener);
    return () => {
      this.#dropListeners.delete(listener);
    };
  }

  /** Sends a command and settles with its answer. Rejects with OUTBOX_FULL when too many wait. */
  async carryOut<C extends CommandInit>(init: C): Promise<CommandAnswer<C["case"]>> {
    const requestId = this.options.environment.uuid();
    const command = create(CommandSchema, { requestId, command: init });
    const result = await new Promise<CommandResult["result"]>((resolve, reject) => {
      if (this.#outbox.full) throw outboxFull();
      this.#waiters.set(requestId, { resolve, reject });
      this.#outbox.put({ requestId, command, userId: this.#userId, atMs: this.options.environment.now() });
      this.options.send(command);
      this.options.changed();
    });
    const kind: C["case"] = init.case;
    if (result.case !== undefined && answers(result, kind)) return result.value;
    throw new TcmError({ code: Code.Internal, message: `the server answered ${kind} with ${result.case}` });
  }

  /** A stream is up: all that waits is sent, without what is another user's, or too old to be repeated. */
  welcomed(welcome: Welcome): void {
    this.#userId = welcome.user?.id ?? "";
    this.#outbox.claim(this.#userId, new Set(this.#waiters.keys()));
    const windowMs = windowMargin * durationToMs(welcome.requestWindow, defaultWindowMs);
    for (const saved of this.#outbox.all()) {
      const why = this.#unfit(saved, windowMs);
      if (why === undefined) this.options.send(saved.command);
      else this.#settle(saved.requestId, why);
    }
  }

  /** The stream is gone: what was put off is sent with all the rest. */
  lost(): void {
    for (const { cancel } of this.#putOff.values()) cancel();
    this.#putOff.clear();
  }

  /** The answer to a command; one that nobody waits for is a repeat's, and dropped. */
  acked(requestId: string, result: CommandResult["result"]): void {
    this.#forget(requestId);
    const waiter = this.#waiters.get(requestId);
    this.#waiters.delete(requestId);
    waiter?.resolve(result);
    this.options.changed();
  }

  /** A command was refused: for good, or it is sent again after a while. */
  refused(requestId: string, error: TcmError): void {
    const saved = this.#outbox.get(requestId);
    if (saved === undefined) return;
    if (isTransient(error)) this.#sendLater(saved, error);
    else this.#settle(requestId, error);
  }

  /** There will be no answers. Nothing is kept: what was told to have failed must not happen later. */
  rejectAll(error: TcmError): void {
    this.lost();
    for (const requestId of [...this.#waiters.keys()]) this.#settle(requestId, error);
  }

  #unfit({ userId, atMs }: SavedCommand, windowMs: number): TcmError | undefined {
    if (userId !== this.#userId) {
      return new TcmError({
        code: Code.Canceled,
        reason: "OTHER_USER",
        message: "it was given by somebody else, or before it was known by whom",
      });
    }
    if (this.options.environment.now() - atMs < windowMs) return undefined;
    const message = "it waited for so long that it might be done twice";
    return new TcmError({ code: Code.DeadlineExceeded, reason: "REQUEST_TOO_OLD", message });
  }

  #sendLater({ requestId, command }: SavedCommand, error: TcmError): void {
    const { environment, delayMs, send } = this.options;
    const times = (this.#putOff.get(requestId)?.times ?? 0) + 1;
    this.#putOff.get(requestId)?.cancel();
    const waitMs = Math.max(error.retryAfterMs ?? 0, backoffMs(times, environment.random(), delayMs));
    const cancel = environment.after(waitMs, () => send(command));
    this.#putOff.set(requestId, { times, cancel });
  }

  #settle(requestId: string, error: TcmError): void {
    const saved = this.#outbox.get(requestId);
    this.#forget(requestId);
    const waiter = this.#waiters.get(requestId);
    this.#waiters.delete(requestId);
    if (waiter !== undefined) waiter.reject(error);
    else if (saved !== undefined) this.#report({ command: saved.command, error });
    this.options.changed();
  }

  #forget(requestId: string): void {
    this.#putOff.get(requestId)?.cancel();
    this.#putOff.delete(requestId);
    this.#outbox.remove(requestId);
  }

  #report(dropped: DroppedCommand): void {
    for (const listener of [...this.#dropListeners]) callSafely(() => listener(dropped));
  }
}

function outboxFull(): TcmError {
  return new TcmError({
    code: Code.ResourceExhausted,
    reason: "OUTBOX_FULL",
    message: `${maxWaiting} changes wait to be saved already: wait until the connection is back`,
  });
}

/** isTransient says whether the same command may be taken later: the server says when, or could not be had. */
function isTransient({ code, retryAfterMs }: TcmError): boolean {
  return retryAfterMs !== undefined || code === Code.Unavailable || code === Code.DeadlineExceeded;
}

function answers<K extends CommandInit["case"]>(
  answer: Answer,
  kind: K,
): answer is Answer & { readonly case: K; readonly value: CommandAnswer<K> } {
  return answer.case === kind;
}
