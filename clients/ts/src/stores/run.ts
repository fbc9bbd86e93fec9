import type { Client } from "@connectrpc/connect";
import type {
  ExecutionService,
  GetRunResponse,
  ListResultsResponse,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import type { Environment } from "../environment";
import { toTcmError } from "../errors";
import { RunRoom, type RunSnapshot } from "../rooms/run";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";
import { Recount } from "./recount";
import { retry } from "./retry";
import type { Noun } from "./room-core";

/** The server's default, too: about 700 KB a page. */
const pageSize = 5000;

/**
 * RunNoun is a run's part of its room. Right after the snapshot it reads the
 * rows in pages, while events already arrive; both merge in RunRoom.
 */
export class RunNoun implements Noun<RunSnapshot> {
  readonly #room = new RunRoom();
  readonly #recount: Recount<GetRunResponse>;
  #loading: AbortController | undefined;

  constructor(
    readonly runId: string,
    readonly execution: Client<typeof ExecutionService>,
    readonly environment: Environment,
    readonly changed: () => void,
  ) {
    this.#recount = new Recount(
      environment,
      (signal) => execution.getRun({ runId }, { signal }),
      ({ run }) => {
        this.#room.recounted(run);
        changed();
      },
    );
  }

  readonly apply = (message: RoomMessage): void => {
    this.#room.apply(message);
    this.#recount.hear(message);
    if (message.kind === "failed") this.stop();
    if (message.kind !== "joined") return;
    // A snapshot voids the rows; and what could not be read may be readable now.
    if (!message.joined.recovered || this.#room.snapshot().rowsState === "failed") this.load();
  };

  readonly snapshot = (room: RoomSnapshot): RunSnapshot => ({ ...room, ...this.#room.snapshot() });

  readonly stop = (): void => {
    this.#loading?.abort();
    this.#recount.stop();
  };

  readonly details = (suite: string, name: string): string => this.#room.details(suite, name);

  /** Reads all rows; a reading under way is given up. */
  readonly load = (): void => {
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    this.#room.rowsLoading();
    this.#read(loading.signal).then(
      () => this.#ended(loading, () => this.#room.rowsComplete()),
      (thrown: unknown) => this.#ended(loading, () => this.#room.rowsFailed(toTcmError(thrown))),
    );
  };

  #ended(loading: AbortController, apply: () => void): void {
    if (loading.signal.aborted) return;
    apply();
    this.changed();
  }

  /** Asks for each page before it merges the one before it. */
  async #read(signal: AbortSignal): Promise<void> {
    let pending: Promise<ListResultsResponse> | undefined = this.#page("", signal);
    while (pending !== undefined) {
      const page: ListResultsResponse = await pending;
      if (signal.aborted) return;
      pending = page.nextPageToken === "" ? undefined : this.#page(page.nextPageToken, signal);
      this.#room.addPage(page);
      this.changed();
    }
  }

  #page(pageToken: string, signal: AbortSignal): Promise<ListResultsResponse> {
    const page = retry(this.environment, signal, () =>
      this.execution.listResults({ runId: this.runId, pageSize, pageToken }, { signal }),
    );
    // Whoever awaits it hears of the error; nobody does if the reading was given up.
    page.catch(() => {});
    return page;
  }
}
