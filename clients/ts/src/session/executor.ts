import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code } from "@connectrpc/connect";
import type { CommandSchema } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { Ack, RealtimeService } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { TcmError, toTcmError, unavailable } from "../errors";

/** A command as it is sent. */
type CommandMessage = MessageInitShape<typeof CommandSchema>;

/** Of a browser's six connections to a server some must stay free for what people look at. */
const maxInFlight = 3;

/** A page has fewer fields. */
const maxSignals = 32;

interface Waiting {
  readonly id: bigint;
  readonly command: CommandMessage;
  readonly lane: string;
}

/** What came of a command. */
export interface ExecutorListener {
  readonly acked: (id: bigint, ack: Ack) => void;
  readonly refused: (id: bigint, error: TcmError) => void;
}

/** What an Executor is made of. */
export interface ExecutorOptions {
  readonly client: Client<typeof RealtimeService>;
  /** The session for typing and presence; empty before the first welcome. */
  readonly sessionId: () => string;
  readonly timeoutMs: number;
  /** Ends all calls. */
  readonly signal: AbortSignal;
}

/**
 * Executor carries out commands by a call each, a few at a time. Those about the
 * same thing go one after the other, in the order in which they were given.
 */
export class Executor {
  readonly #waiting: Waiting[] = [];
  /** What the commands under way are about. */
  readonly #lanes = new Set<string>();
  /** What waits to be told of what people do, by what it is about. */
  readonly #signals = new Map<string, CommandMessage>();
  #signalling = false;

  constructor(
    readonly options: ExecutorOptions,
    readonly listener: ExecutorListener,
  ) {}

  execute(id: bigint, command: CommandMessage): void {
    this.#waiting.push({ id, command, lane: laneOf(command) });
    this.#next();
  }

  /**
   * Tells what may be lost, one at a time. Of those about the same thing only the
   * newest waits: whoever left a field at once was in it only for a moment, but
   * must not be shown in it for ever. Nobody hears what came of it.
   */
  executeOrDrop(command: CommandMessage): void {
    if (this.options.sessionId() === "") return;
    const about = laneOf(command);
    this.#signals.delete(about); // The newest is the last.
    this.#signals.set(about, command);
    for (const oldest of this.#signals.keys()) {
      if (this.#signals.size <= maxSignals) break;
      this.#signals.delete(oldest);
    }
    this.#nextSignal();
  }

  #nextSignal(): void {
    if (this.#signalling || this.options.signal.aborted) return;
    for (const [about, command] of this.#signals) {
      this.#signals.delete(about);
      this.#signalling = true;
      const done = () => {
        this.#signalling = false;
        this.#nextSignal();
      };
      this.#call(this.options.sessionId(), command).then(done, done);
      return;
    }
  }

  #next(): void {
    while (this.#lanes.size < maxInFlight && !this.options.signal.aborted) {
      const at = this.#waiting.findIndex(({ lane }) => !this.#lanes.has(lane));
      const [waiting] = at < 0 ? [] : this.#waiting.splice(at, 1);
      if (waiting === undefined) return;
      void this.#run(waiting);
    }
  }

  async #run({ id, command, lane }: Waiting): Promise<void> {
    this.#lanes.add(lane);
    try {
      const { ack } = await this.#call("", command);
      if (this.options.signal.aborted) return;
      if (ack === undefined) throw new TcmError({ code: Code.Internal, message: "the answer has no ack" });
      this.listener.acked(id, ack);
    } catch (thrown) {
      if (!this.options.signal.aborted) this.listener.refused(id, refusal(thrown));
    } finally {
      this.#lanes.delete(lane);
      this.#next();
    }
  }

  #call(sessionId: string, command: CommandMessage) {
    const { client, signal, timeoutMs } = this.options;
    return client.execute({ sessionId, command }, { signal, timeoutMs });
  }
}

/** A fetch that failed is told as UNKNOWN or INTERNAL. The server never says either without a reason. */
function refusal(thrown: unknown): TcmError {
  const error = toTcmError(thrown);
  const isNetwork = error.reason === "" && (error.code === Code.Unknown || error.code === Code.Internal);
  return isNetwork ? unavailable(error.message) : error;
}

/** What a command is about. */
function laneOf({ command }: CommandMessage): string {
  switch (command?.case) {
    case "editTestCase":
    case "addComment":
      return `case ${command.value.testCaseId}`;
    case "reportResult":
    case "finishRun":
      return `run ${command.value.runId}`;
    case "updateActivity":
      return `field ${command.value.field} of ${command.value.room}`;
    default:
      return command?.case ?? "";
  }
}
