import { create, enumFromJson, isEnumJson, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  CollaborationType,
  type CollaborationUpdateSchema,
  type Comment,
  CommentSchema,
} from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Command, CommandResultSchema } from "@tcmanager/gen/tcmanager/v1/command_pb";
import { ErrorSchema } from "@tcmanager/gen/tcmanager/v1/error_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import {
  EndReason,
  type Run,
  RunChange,
  RunSchema,
  RunState,
  type TestExecutionUpdate,
  type TestExecutionUpdateSchema,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { type User, UserRefSchema } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import {
  type Notification,
  NotificationSchema,
  NotificationType,
} from "@tcmanager/gen/tcmanager/v1/notification_pb";
import { type Project, ProjectSchema, Role } from "@tcmanager/gen/tcmanager/v1/project_pb";
import type { JoinedSchema } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import {
  type EditTestCaseRequest,
  Priority,
  PrioritySchema,
  type TestCase,
  TestCaseField,
  TestCaseSchema,
  TestCaseStatus,
  TestCaseStatusSchema,
} from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { isFailure } from "../rooms/row-table";
import type { Payload } from "./fake-room";
import { FakeRun } from "./fake-run";

type Snapshot = NonNullable<MessageInitShape<typeof JoinedSchema>["snapshot"]>;
type Result = NonNullable<MessageInitShape<typeof CommandResultSchema>["result"]>;
type Publish = (room: string, payload: Payload, options?: { actor?: User | undefined }) => Event;

/** FakeWorld is what a fake server stores: projects, runs, test cases, comments, notifications. */
export class FakeWorld {
  readonly users = new Map<string, User>();
  readonly projects = new Map<string, Project>();
  readonly runs = new Map<string, FakeRun>();
  readonly testCases = new Map<string, TestCase>();
  readonly comments = new Map<string, Comment[]>();
  /** By user id, oldest first. */
  readonly notifications = new Map<string, Notification[]>();
  #lastId = 0;

  /** publish sends an event to a room; nextOffset numbers one that happened before anyone was there. */
  constructor(
    readonly publish: Publish,
    readonly nextOffset: (room: string) => bigint,
  ) {}

  /** A new id, greater than those before it, as UUIDv7s are. */
  id(): string {
    this.#lastId++;
    return `01900000-0000-7000-8000-${this.#lastId.toString(16).padStart(12, "0")}`;
  }

  /** Makes a project. */
  addProject(key: string, name = key): Project {
    const project = create(ProjectSchema, { id: this.id(), key, name, createdAt: now(), myRole: Role.OWNER });
    this.projects.set(project.id, project);
    return project;
  }

  /** The project with an id or key. */
  project(idOrKey: string): Project | undefined {
    return this.projects.get(idOrKey) ?? [...this.projects.values()].find(({ key }) => key === idOrKey);
  }

  /** Starts a run in a project, which is made if need be; with tests that ended already, every failEvery-th failed. */
  addRun(init: { project: string; name?: string; tests?: number; failEvery?: number }): Run {
    const project = this.project(init.project) ?? this.addProject(init.project);
    const run = create(RunSchema, {
      id: this.id(),
      projectId: project.id,
      key: this.id(),
      number: this.runs.size + 1,
      info: { name: init.name ?? "go test ./...", source: "go" },
      state: RunState.RUNNING,
      counts: {},
      suites: {},
      startedAt: now(),
    });
    const fake = new FakeRun(run);
    this.runs.set(run.id, fake);
    fake.seed(init.tests ?? 0, init.failEvery ?? 0, () => this.nextOffset(`testrun:${run.id}`));
    this.#runChanged(fake, RunChange.STARTED);
    return fake.run;
  }

  /** Records a change of a test; readers hear of it. */
  report(
    runId: string,
    update: MessageInitShape<typeof TestExecutionUpdateSchema>,
    actor?: User,
  ): TestExecutionUpdate {
    const run = this.#run(runId);
    const value = run.complete(update);
    const event = this.publish(`testrun:${runId}`, { case: "testExecution", value }, { actor });
    run.apply(value, event.offset);
    if (isFailure(value.status)) {
      this.publish(`project:${run.run.projectId}`, { case: "testExecution", value }, { actor });
    }
    return value;
  }

  /** Tells the readers of a run, and of its project, how far it is. */
  reportProgress(runId: string): void {
    const { run } = this.#run(runId);
    const { counts, suites, expectedTotal } = run;
    const value = { runId, expectedTotal, ...(counts && { counts }), ...(suites && { suites }) };
    for (const room of [`testrun:${runId}`, `project:${run.projectId}`]) {
      this.publish(room, { case: "runProgress", value });
    }
  }

  /** Ends a run. */
  endRun(runId: string, endReason = EndReason.PASSED): Run {
    const fake = this.#run(runId);
    fake.run = { ...fake.run, state: RunState.ENDED, endReason, endedAt: now() };
    this.#runChanged(fake, RunChange.ENDED);
    return fake.run;
  }

  /** Makes a test case. */
  addTestCase(init: { project: string; title: string; description?: string; priority?: Priority }): TestCase {
    const project = this.project(init.project) ?? this.addProject(init.project);
    const fields = [
      TestCaseField.TITLE,
      TestCaseField.DESCRIPTION,
      TestCaseField.PRIORITY,
      TestCaseField.STATUS,
    ];
    const testCase = create(TestCaseSchema, {
      id: this.id(),
      projectId: project.id,
      key: `TC-${this.testCases.size + 1}`,
      title: init.title,
      description: init.description ?? "",
      priority: init.priority ?? Priority.MEDIUM,
      status: TestCaseStatus.DRAFT,
      revisions: fields.map((field) => ({ field, revision: 1n })),
      createdAt: now(),
    });
    this.testCases.set(testCase.id, testCase);
    const data: Payload["value"] = {
      type: CollaborationType.TEST_CASE_CREATED,
      entityId: testCase.id,
      data: { case: "testCase", value: testCase },
    };
    this.publish(`project:${project.id}`, { case: "collaboration", value: data });
    return testCase;
  }

  /** Sets a field if its revision is the one the editor saw. */
  edit(user: User, request: EditTestCaseRequest): TestCase {
    const known = this.testCases.get(request.testCaseId);
    if (known === undefined) throw denied();
    const { field, value, baseRevision } = request;
    const revision = known.revisions.find((entry) => entry.field === field)?.revision ?? 0n;
    if (revision !== baseRevision) throw mismatch(revision, currentValue(known, field));
    const edited: TestCase = {
      ...known,
      ...parse(field, value),
      revisions: known.revisions.map((entry) =>
        entry.field === field ? { ...entry, revision: revision + 1n } : entry,
      ),
      updatedAt: now(),
      updatedBy: create(UserRefSchema, { id: user.id, name: user.name }),
    };
    this.testCases.set(edited.id, edited);
    const change = {
      field,
      value,
      revision: revision + 1n,
      testCaseKey: edited.key,
      testCaseTitle: edited.title,
    };
    this.#collaborate(edited, user, CollaborationType.TEST_CASE_EDIT, { case: "edit", value: change });
    return edited;
  }

  /** Adds a comment to a test case. */
  addComment(user: User, testCaseId: string, text: string): Comment {
    const testCase = this.testCases.get(testCaseId);
    if (testCase === undefined) throw denied();
    const author = { id: user.id, name: user.name };
    const comment = create(CommentSchema, { id: this.id(), testCaseId, author, text, createdAt: now() });
    this.comments.set(testCaseId, [...(this.comments.get(testCaseId) ?? []), comment]);
    this.#collaborate(testCase, user, CollaborationType.COMMENT_ADDED, { case: "comment", value: comment });
    return comment;
  }

  /** Notifies a user. */
  notify(userId: string, init: MessageInitShape<typeof NotificationSchema> = {}): Notification {
    const notification = create(NotificationSchema, {
      type: NotificationType.INFO,
      title: "Something happened",
      ...init,
      id: this.id(),
      target: { case: "userId", value: userId },
      createdAt: now(),
    });
    this.notifications.set(userId, [...(this.notifications.get(userId) ?? []), notification]);
    const value = { notification, unread: this.unread(userId) };
    this.publish(`user:${userId}`, { case: "notificationAdded", value });
    return notification;
  }

  /** How many of a user's notifications are unread. */
  unread(userId: string): number {
    return (this.notifications.get(userId) ?? []).filter(({ readAt }) => readAt === undefined).length;
  }

  /** Marks a user's notifications read and returns how many are unread then. */
  markRead(user: User, ids: readonly string[], all: boolean): number {
    const marked = (this.notifications.get(user.id) ?? []).map((notification) =>
      all || ids.includes(notification.id)
        ? { ...notification, readAt: notification.readAt ?? now() }
        : notification,
    );
    this.notifications.set(user.id, marked);
    const unread = this.unread(user.id);
    this.publish(`user:${user.id}`, { case: "notificationsRead", value: { ids: [...ids], all, unread } });
    return unread;
  }

  /** The name a room is kept under: a project may be asked for by its key. */
  canonical(room: string): string {
    const [kind, id = ""] = room.split(":", 2);
    return kind === "project" ? `project:${this.project(id)?.id ?? id}` : room;
  }

  /** What a joined frame shows of a room; undefined if there is no such room. */
  snapshot(room: string, user: User): Snapshot | undefined {
    const [kind, id = ""] = room.split(":", 2);
    switch (kind) {
      case "project":
        return this.#projectSnapshot(this.project(id));
      case "testrun": {
        const run = this.runs.get(id);
        return run && { case: "run", value: run.snapshot() };
      }
      case "testcase": {
        const testCase = this.testCases.get(id);
        return testCase && { case: "testCase", value: { testCase } };
      }
      case "user":
        return id === user.id ? { case: "user", value: { unread: this.unread(id) } } : undefined;
      default:
        return undefined;
    }
  }

  /** Carries out a command and returns its answer; throws a ConnectError. */
  carryOut(user: User, { command }: Command): Result {
    switch (command.case) {
      case "editTestCase":
        return { case: "editTestCase", value: { testCase: this.edit(user, command.value) } };
      case "addComment": {
        const comment = this.addComment(user, command.value.testCaseId, command.value.text);
        return { case: "addComment", value: { comment } };
      }
      case "markNotificationsRead": {
        const unread = this.markRead(user, command.value.ids, command.value.all);
        return { case: "markNotificationsRead", value: { unread } };
      }
      case "startRun": {
        const { project, info } = command.value;
        return { case: "startRun", value: { run: this.addRun({ project, name: info?.name ?? "" }) } };
      }
      case "reportResult": {
        const { runId, update } = command.value;
        return { case: "reportResult", value: { update: this.report(runId, update ?? {}, user) } };
      }
      case "finishRun":
        return { case: "finishRun", value: { run: this.endRun(command.value.runId) } };
      case "updateActivity":
      case "updatePresence":
      case undefined:
        throw new ConnectError("no such command", Code.InvalidArgument);
      default:
        command satisfies never;
        throw new ConnectError("no such command", Code.InvalidArgument);
    }
  }

  #run(runId: string): FakeRun {
    const run = this.runs.get(runId);
    if (run === undefined) throw denied();
    return run;
  }

  #runChanged({ run }: FakeRun, change: RunChange): void {
    for (const room of [`testrun:${run.id}`, `project:${run.projectId}`]) {
      this.publish(room, { case: "runChanged", value: { change, run } });
    }
  }

  #collaborate(testCase: TestCase, actor: User, type: CollaborationType, data: CollaborationData): void {
    const user = { id: actor.id, name: actor.name };
    const value = { type, entityId: testCase.id, user, data, timestamp: now() };
    for (const room of [`testcase:${testCase.id}`, `project:${testCase.projectId}`]) {
      this.publish(room, { case: "collaboration", value }, { actor });
    }
  }

  #projectSnapshot(project: Project | undefined): Snapshot | undefined {
    if (project === undefined) return undefined;
    const runs = [...this.runs.values()].map(({ run }) => run).filter((run) => run.projectId === project.id);
    const members = [...this.users.values()].map((user) => ({ user, role: Role.TESTER }));
    return { case: "project", value: { project, runs: runs.reverse().slice(0, 50), members } };
  }
}

type CollaborationData = NonNullable<MessageInitShape<typeof CollaborationUpdateSchema>["data"]>;

function now() {
  return timestampFromMs(Date.now());
}

/** The same answer for what is not there and for what is not yours. */
function denied(): ConnectError {
  return new ConnectError("not found, or not yours", Code.PermissionDenied);
}

function mismatch(revision: bigint, value: string): ConnectError {
  const message = "somebody else changed this field meanwhile";
  const detail = {
    code: Code.Aborted,
    reason: "REVISION_MISMATCH",
    message,
    metadata: { current_revision: String(revision), current_value: value },
  };
  return new ConnectError(message, Code.Aborted, undefined, [{ desc: ErrorSchema, value: detail }]);
}

function currentValue(testCase: TestCase, field: TestCaseField): string {
  switch (field) {
    case TestCaseField.TITLE:
      return testCase.title;
    case TestCaseField.DESCRIPTION:
      return testCase.description;
    case TestCaseField.PRIORITY:
      return PrioritySchema.value[testCase.priority]?.name ?? "";
    case TestCaseField.STATUS:
      return TestCaseStatusSchema.value[testCase.status]?.name ?? "";
    default:
      return "";
  }
}

function parse(field: TestCaseField, value: string): Partial<TestCase> {
  switch (field) {
    case TestCaseField.TITLE:
      return { title: value };
    case TestCaseField.DESCRIPTION:
      return { description: value };
    case TestCaseField.PRIORITY:
      if (isEnumJson(PrioritySchema, value)) return { priority: enumFromJson(PrioritySchema, value) };
      break;
    case TestCaseField.STATUS:
      if (isEnumJson(TestCaseStatusSchema, value))
        return { status: enumFromJson(TestCaseStatusSchema, value) };
      break;
    default:
      break;
  }
  throw new ConnectError(`${value} is no value of the field`, Code.InvalidArgument);
}
