import { emptyProject, type ProjectSnapshot, reduceProject } from "../rooms/project";
import type { Noun } from "./room-core";

/** projectNoun is a project's part of its room. */
export function projectNoun(): Noun<ProjectSnapshot> {
  let state = emptyProject;
  return {
    apply: (message) => {
      state = reduceProject(state, message);
    },
    snapshot: (room) => ({ ...room, ...state }),
    stop: () => {},
  };
}
