import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { CollaborationService } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { ExecutionService } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { IdentityService, type User } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import { NotificationService } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import { ProjectService } from "@tcmanager/gen/tcmanager/v1/project_pb";
import { RealtimeService } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { TestCaseService } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import type { FakeServer } from "./fake-server";

/** routes answers a user's calls from a fake server. Methods that aren't here are UNIMPLEMENTED. */
export function routes(router: ConnectRouter, server: FakeServer, user: User): void {
  const { world } = server;
  /** Refuses the call, if the server was told to refuse. */
  const check = () => {
    if (server.refuse !== undefined) throw server.refuse;
  };
  router.service(RealtimeService, {
    subscribe: (requests, context) => server.subscribe(requests, user, context.signal),
    watch: (request, context) => server.watch(request, user, context.signal),
    execute: (request) => server.execute(request, user),
  });
  router.service(IdentityService, {
    getServerInfo: () => ({ version: "fake", dev: true, devUsers: [...world.users.values()] }),
    signInDev: ({ userId }) => ({ token: `fake-${userId}`, user: world.users.get(userId) ?? user }),
    getMe: () => ({ user }),
  });
  router.service(ProjectService, {
    createProject: ({ key, name }) => ({ project: world.addProject(key, name || key) }),
    getProject: ({ project }) => ({ project: found(world.project(project)) }),
    listProjects: () => ({ projects: [...world.projects.values()] }),
  });
  router.service(ExecutionService, {
    startRun: ({ project, info }) => ({ run: world.addRun({ project, name: info?.name ?? "" }) }),
    reportResult: ({ runId, update }) => ({ update: world.report(runId, update ?? {}, user) }),
    finishRun: ({ runId }) => ({ run: world.endRun(runId) }),
    getRun: ({ runId }) => {
      const run = found(world.runs.get(runId));
      return { run: run.run, suites: run.suites() };
    },
    listRuns: ({ project }) => {
      const projectId = found(world.project(project)).id;
      const runs = [...world.runs.values()].map(({ run }) => run);
      return { runs: runs.filter((run) => run.projectId === projectId).reverse() };
    },
    listResults: ({ runId, pageSize, pageToken }) => {
      check();
      return found(world.runs.get(runId)).page(pageSize, pageToken);
    },
    readOutput: () => ({ data: new TextEncoder().encode("=== output of a seeded test\n") }),
  });
  router.service(TestCaseService, {
    createTestCase: ({ project, title, description, priority }) => ({
      testCase: world.addTestCase({ project, title, description, ...(priority && { priority }) }),
    }),
    getTestCase: ({ testCaseId }) => ({ testCase: found(world.testCases.get(testCaseId)) }),
    listTestCases: ({ project }) => {
      const projectId = found(world.project(project)).id;
      return {
        testCases: [...world.testCases.values()].filter((testCase) => testCase.projectId === projectId),
      };
    },
    editTestCase: (request) => ({ testCase: world.edit(user, request) }),
  });
  router.service(CollaborationService, {
    addComment: ({ testCaseId, text }) => ({ comment: world.addComment(user, testCaseId, text) }),
    listComments: ({ testCaseId }) => ({ comments: world.comments.get(testCaseId) ?? [] }),
  });
  router.service(NotificationService, {
    listNotifications: () => ({
      notifications: (world.notifications.get(user.id) ?? []).toReversed(),
      unread: world.unread(user.id),
    }),
    markNotificationsRead: ({ ids, all }) => ({ unread: world.markRead(user, ids, all) }),
  });
}

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new ConnectError("not found, or not yours", Code.PermissionDenied);
  return value;
}
