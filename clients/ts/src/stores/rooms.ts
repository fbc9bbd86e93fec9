import type { Client } from "@connectrpc/connect";
import { Code } from "@connectrpc/connect";
import type { CollaborationService } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { ExecutionService } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import type { Notification, NotificationService } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import type { Detail } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { TestCase, TestCaseField } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import type { Environment } from "../environment";
import { TcmError } from "../errors";
import type { ProjectSnapshot } from "../rooms/project";
import type { RunSnapshot } from "../rooms/run";
import type { TestCaseSnapshot } from "../rooms/test-case";
import type { UserSnapshot } from "../rooms/user";
import type { SessionDriver } from "../session/driver";
import type { RoomSnapshot } from "../store";
import type { ProjectStore, RunStore, TestCaseStore, UserStore } from "./client";
import { ProjectNoun } from "./project";
import { type Noun, RoomCore } from "./room-core";
import { RunNoun } from "./run";
import { SharedStores } from "./shared";
import { TestCaseNoun } from "./test-case";
import { UserNoun } from "./user";

/** What rooms need of their client. */
export interface RoomsContext {
  readonly session: SessionDriver;
  readonly environment: Environment;
  readonly execution: Client<typeof ExecutionService>;
  readonly collaboration: Client<typeof CollaborationService>;
  readonly notifications: Client<typeof NotificationService>;
}

type RunCore = RoomCore<RunSnapshot, RunNoun>;
type ProjectCore = RoomCore<ProjectSnapshot, ProjectNoun>;
type TestCaseCore = RoomCore<TestCaseSnapshot, TestCaseNoun>;
type UserCore = RoomCore<UserSnapshot, UserNoun>;

/** The most MarkNotificationsRead takes at a time. */
const maxMarkedAtOnce = 200;

/** ClientRooms opens the rooms of a client, one store a room. */
export class ClientRooms {
  readonly #context: RoomsContext;
  readonly #runs: SharedStores<RunCore>;
  readonly #projects: SharedStores<ProjectCore>;
  readonly #testCases: SharedStores<TestCaseCore>;
  readonly #users: SharedStores<UserCore>;

  constructor(context: RoomsContext) {
    this.#context = context;
    const { environment } = context;
    this.#runs = new SharedStores<RunCore>(environment, hasFailed);
    this.#projects = new SharedStores<ProjectCore>(environment, hasFailed);
    this.#testCases = new SharedStores<TestCaseCore>(environment, hasFailed);
    this.#users = new SharedStores<UserCore>(environment, hasFailed);
  }

  openRun(id: string): RunStore {
    const { execution, environment } = this.#context;
    const { value: core, close } = this.#runs.open(id, () => {
      const made = new RoomCore<RunSnapshot, RunNoun>(
        this.#context,
        (changed) => new RunNoun(id, execution, environment, changed),
      );
      made.start(`testrun:${id}`);
      return made;
    });
    const { details, load } = core.noun;
    return { ...storeOf(core, close), room: core.room, failureDetails: details, reloadRows: load };
  }

  openProject(idOrKey: string, options: { readonly detail?: Detail } = {}): ProjectStore {
    const { value: core, close } = this.#projects.open(idOrKey, () => {
      const { execution, environment } = this.#context;
      const made = new RoomCore<ProjectSnapshot, ProjectNoun>(
        this.#context,
        (changed) => new ProjectNoun(idOrKey, execution, environment, changed),
      );
      made.start(`project:${idOrKey}`, options);
      return made;
    });
    return { ...storeOf(core, close), room: core.room };
  }

  openTestCase(id: string): TestCaseStore {
    const { collaboration, environment, session } = this.#context;
    const { value: core, close } = this.#testCases.open(id, () => {
      const made = new RoomCore<TestCaseSnapshot, TestCaseNoun>(
        this.#context,
        (changed) => new TestCaseNoun(id, collaboration, environment, changed),
      );
      made.start(`testcase:${id}`);
      return made;
    });
    const { room, noun } = core;
    return {
      ...storeOf(core, close),
      room,
      revision: noun.revision,
      edit: (field, value, baseRevision = noun.revision(field)) =>
        this.#edit(noun, { testCaseId: id, field, value, baseRevision }),
      addComment: async (text) => {
        const { comment } = await session.command({ case: "addComment", value: { testCaseId: id, text } });
        if (comment === undefined) throw incomplete("comment");
        noun.commented(comment);
        return comment;
      },
      setActivity: (field, state) => session.sendActivity(room, field, state),
    };
  }

  openUser(): UserStore {
    const { notifications, environment } = this.#context;
    const { value: core, close } = this.#users.open("", () => {
      const made = new RoomCore<UserSnapshot, UserNoun>(
        this.#context,
        (changed) => new UserNoun(notifications, environment, changed),
      );
      this.#startUser(made);
      return made;
    });
    return {
      ...storeOf(core, close),
      get room() {
        return core.room;
      },
      markRead: (ids) => this.#markRead(ids),
      markAllRead: async () => {
        await this.#context.session.command({ case: "markNotificationsRead", value: { all: true } });
      },
      onNotification: (listener) => onNotification(core, listener),
    };
  }

  /** Leaves all rooms. */
  close(): void {
    for (const stores of [this.#runs, this.#projects, this.#testCases, this.#users]) stores.close();
  }

  async #edit(
    noun: TestCaseNoun,
    value: { testCaseId: string; field: TestCaseField; value: string; baseRevision: bigint },
  ): Promise<TestCase> {
    const { testCase } = await this.#context.session.command({ case: "editTestCase", value });
    if (testCase === undefined) throw incomplete("test case");
    noun.edited(testCase);
    return testCase;
  }

  /** A user's room has the user's id in its name, which only the welcome tells. */
  #startUser(core: UserCore): void {
    const { session } = this.#context;
    const userId = session.welcome?.user?.id;
    if (userId !== undefined) return core.start(`user:${userId}`);
    const stopWaiting = session.onStatus(() => {
      const id = session.welcome?.user?.id;
      if (id === undefined) return;
      stopWaiting();
      core.start(`user:${id}`);
    });
    core.onStop(stopWaiting);
    session.start();
  }

  async #markRead(ids: readonly string[]): Promise<void> {
    for (let at = 0; at < ids.length; at += maxMarkedAtOnce) {
      const value = { ids: ids.slice(at, at + maxMarkedAtOnce) };
      await this.#context.session.command({ case: "markNotificationsRead", value });
    }
  }
}

/** A room that was refused is not asked for again by itself; who opens it anew may have the right by now. */
function hasFailed(core: { readonly getSnapshot: () => RoomSnapshot }): boolean {
  return core.getSnapshot().state === "failed";
}

/** What the stores of all rooms have. */
function storeOf<S extends RoomSnapshot>(core: RoomCore<S, Noun<S>>, close: () => void) {
  const { getSnapshot, subscribe, onEvent } = core;
  return { getSnapshot, subscribe, onEvent, close };
}

function onNotification(core: UserCore, listener: (notification: Notification) => void): () => void {
  return core.onEvent(({ payload }) => {
    if (payload.case !== "notificationAdded") return;
    const { notification } = payload.value;
    if (notification !== undefined) listener(notification);
  });
}

function incomplete(what: string): TcmError {
  return new TcmError({ code: Code.Internal, message: `the server's answer has no ${what}` });
}
