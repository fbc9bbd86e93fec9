import type { Client } from "@connectrpc/connect";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import {
  type ExecutionService,
  type ListRunsResponse,
  RunState,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import type { Environment } from "../environment";
import {
  emptyProject,
  type ProjectSnapshot,
  type ProjectState,
  recounted,
  reduceProject,
} from "../rooms/project";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";
import { Recount } from "./recount";
import type { Noun } from "./room-core";

/** ProjectNoun is a project's part of its room. */
export class ProjectNoun implements Noun<ProjectSnapshot> {
  readonly #recount: Recount<ListRunsResponse>;
  #state: ProjectState = emptyProject;

  constructor(
    readonly project: string,
    readonly execution: Client<typeof ExecutionService>,
    readonly environment: Environment,
    readonly changed: () => void,
  ) {
    this.#recount = new Recount(
      environment,
      (signal) => execution.listRuns({ project }, { signal }),
      ({ runs }) => {
        this.#state = recounted(this.#state, runs);
        changed();
      },
    );
  }

  /** Results of a run are told in its own room: here its counts may be old whenever the room went on where it was. */
  readonly apply = (message: RoomMessage): void => {
    this.#state = reduceProject(this.#state, message);
    if (message.kind === "events" && message.events.some(isCounted)) this.#recount.askAnew();
    if (message.kind !== "joined") return;
    if (message.joined.recovered && this.#state.runs.some(isRunning)) this.#recount.doubt();
    else this.#recount.stop();
  };

  readonly snapshot = (room: RoomSnapshot): ProjectSnapshot => ({ ...room, ...this.#state });

  readonly stop = (): void => this.#recount.stop();
}

function isCounted({ payload }: Event): boolean {
  return payload.case === "runProgress" || payload.case === "runChanged";
}

function isRunning({ state }: { readonly state: RunState }): boolean {
  return state === RunState.RUNNING;
}
