import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import {
  type Run,
  RunChange,
  type RunChanged,
  type RunProgress,
  RunState,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import {
  type Member,
  MemberChange,
  type MemberChanged,
  type Project,
} from "@tcmanager/gen/tcmanager/v1/project_pb";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";

/** The part of a project room that is about the project. */
export interface ProjectState {
  /** The project; undefined while loading. */
  readonly project: Project | undefined;
  /** Its newest runs, newest first: 50 from the snapshot and those that started since, at most 200. */
  readonly runs: readonly Run[];
  /** Its members, by name. */
  readonly members: readonly Member[];
}

/** ProjectSnapshot is the live state of a project. Its activity feed is `recent`. */
export interface ProjectSnapshot extends RoomSnapshot, ProjectState {}

const maxRuns = 200;

/** What a project is before its first message. */
export const emptyProject: ProjectState = { project: undefined, runs: [], members: [] };

/** reduceProject applies what its room heard. */
export function reduceProject(state: ProjectState, message: RoomMessage): ProjectState {
  switch (message.kind) {
    case "joined": {
      const { snapshot } = message.joined;
      if (snapshot.case !== "project") return state;
      const { project, runs, members } = snapshot.value;
      return { project, runs: newestFirst(runs), members: byName(members) };
    }
    case "events":
      return message.events.reduce(reduceEvent, state);
    case "reset":
    case "stale":
    case "failed":
      return state;
    default:
      message satisfies never;
      return state;
  }
}

function reduceEvent(state: ProjectState, { payload }: Event): ProjectState {
  switch (payload.case) {
    case "runChanged":
      return { ...state, runs: changeRun(state.runs, payload.value) };
    case "runProgress":
      return { ...state, runs: progress(state.runs, payload.value) };
    case "memberChanged":
      return { ...state, members: changeMember(state.members, payload.value) };
    default:
      return state;
  }
}

/** recounted takes how far the runs are from a call's answer. */
export function recounted(state: ProjectState, answer: readonly Run[]): ProjectState {
  const runs = answer.reduce((known, run) => progress(known, { ...run, runId: run.id }), state.runs);
  return { ...state, runs };
}

type Counted = Pick<RunProgress, "counts" | "suites" | "expectedTotal">;

/** applyProgress returns a run with newer counts. An ended run's counts are final: a progress that comes later is older. */
export function applyProgress(run: Run, { counts, suites, expectedTotal }: Counted): Run {
  if (run.state === RunState.ENDED || counts === undefined) return run;
  return {
    ...run,
    counts,
    ...(suites === undefined ? {} : { suites }),
    expectedTotal: expectedTotal || run.expectedTotal,
  };
}

function progress(runs: readonly Run[], update: Counted & Pick<RunProgress, "runId">): readonly Run[] {
  const at = runs.findIndex(({ id }) => id === update.runId);
  const run = runs[at];
  return run === undefined ? runs : runs.with(at, applyProgress(run, update));
}

function changeRun(runs: readonly Run[], { change, run }: RunChanged): readonly Run[] {
  if (run === undefined) return runs;
  if (change === RunChange.DELETED) return runs.filter(({ id }) => id !== run.id);
  const at = runs.findIndex(({ id }) => id === run.id);
  if (at >= 0) return runs.with(at, run);
  return newestFirst([...runs, run]).slice(0, maxRuns);
}

function newestFirst(runs: readonly Run[]): readonly Run[] {
  return [...runs].sort((a, b) => b.number - a.number);
}

function changeMember(members: readonly Member[], { change, member }: MemberChanged): readonly Member[] {
  const userId = member?.user?.id;
  if (member === undefined || userId === undefined) return members;
  const others = members.filter(({ user }) => user?.id !== userId);
  return change === MemberChange.LEFT ? others : byName([...others, member]);
}

function byName(members: readonly Member[]): readonly Member[] {
  return [...members].sort((a, b) => (a.user?.name ?? "").localeCompare(b.user?.name ?? ""));
}
