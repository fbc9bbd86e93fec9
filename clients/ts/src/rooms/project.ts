import type { Run } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import type { Member, Project } from "@tcmanager/gen/tcmanager/v1/project_pb";
import type { RoomSnapshot } from "../store";

/** ProjectSnapshot is the live state of a project. Its activity feed is `recent`. */
export interface ProjectSnapshot extends RoomSnapshot {
  /** The project; undefined while loading. */
  readonly project: Project | undefined;
  /** Its newest runs, newest first: 50 from the snapshot and those that started since, at most 200. */
  readonly runs: readonly Run[];
  /** Its members, by name. */
  readonly members: readonly Member[];
}
