import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code } from "@connectrpc/connect";
import type { CommandSchema } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { Ack, RealtimeService } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { TcmError, toTcmError, unavailable } from "../errors";

/** A command as it is sent. */
type CommandMessage = MessageInitShape<typeof CommandSchema>;

/** Of a browser's six connections to a server some must stay free for what people look at. */
const maxInFlight = 3;

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
  #dropped = false;

  constructor(
    readonly options: ExecutorOptions,
    readonly listener: ExecutorListener,
  ) {}

  execute(id: bigint, command: CommandMessage): void {
    this.#waiting.push({ id, command, lane: laneOf(command) });
    this.#next();
  }

  /** Sends what is worth nothing later, if nothing of the kind is under way. Nobody hears what came of it. */
  executeOrDrop(command: CommandMessage): void {
    const sessionId = this.options.sessionId();
    if (this.#dropped || sessionId === "") return;
    this.#dropped = true;
    const done = () => {
      this.#dropped = false;
    };
    this.#call(sessionId, command).then(done, done);
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
    default:
      return command?.case ?? "";
  }
}
