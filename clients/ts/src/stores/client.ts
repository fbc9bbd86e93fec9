import {
  type Client,
  createClient as createServiceClient,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import {
  type ActivityState,
  CollaborationService,
  type Comment,
} from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { ExecutionService } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { IdentityService } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import { type Notification, NotificationService } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import { ProjectService } from "@tcmanager/gen/tcmanager/v1/project_pb";
import { type Detail, RealtimeService } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { type TestCase, type TestCaseField, TestCaseService } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import type { TransportName } from "../carrier";
import { defaultAttempts, defaultDelayMs } from "../connection";
import { browserEnvironment, type Environment } from "../environment";
import type { ProjectSnapshot } from "../rooms/project";
import type { RunSnapshot } from "../rooms/run";
import type { TestCaseSnapshot } from "../rooms/test-case";
import type { UserSnapshot } from "../rooms/user";
import type { KeyValueStorage, Session, TokenSource } from "../session";
import { SessionDriver } from "../session/driver";
import type { RoomStore } from "../store";
import { bearerToken } from "../transport/auth";
import { createTransport } from "../transport/transport";
import type { ConnectionStore } from "./connection";
import { createConnectionStore } from "./connection";
import { ClientRooms } from "./rooms";

/** How to make a client. */
export interface ClientOptions {
  /** Where the server is, for example location.origin. Unused with a transport. */
  readonly baseUrl: string;
  /** Gives the bearer token. */
  readonly token: TokenSource;
  /** What is connecting, for the server's logs; "ts/0.1.0" by default. */
  readonly clientName?: string;
  /** Where session, positions and unanswered commands outlive a reload: pass sessionStorage. None by default. */
  readonly storage?: KeyValueStorage;
  /** Replaces the network, for tests: see @tcmanager/client/testing. */
  readonly transport?: Transport;
  /** Interceptors for every call, outside the one that adds the token. */
  readonly interceptors?: readonly Interceptor[];
  /** Replaces clock, chance and page, for tests. */
  readonly environment?: Environment;
  /**
   * How the live session may travel: "websocket", or "watch" (over fetch, for
   * networks that block websockets). Both by default: the websocket where it can
   * be had.
   */
  readonly transports?: readonly TransportName[];
  /**
   * Asks for each event as soon as there is one; false by default: while more than
   * one comes in some 12 ms, the server sends those of that time together, and the
   * first after a pause at once all the same. It saves those milliseconds in a busy
   * room, and costs both ends a frame for each event.
   */
  readonly noDelay?: boolean;
  /** How long an attempt may take until the server's welcome; 20,000 by default. */
  readonly timeoutMs?: number;
  /** After how many failed attempts in a row the connection counts as offline; 5 by default. Attempts go on. */
  readonly attempts?: number;
  /** The longest wait before the first attempt to reconnect; 1,000 by default. Each next one may wait twice as long. */
  readonly delayMs?: number;
}

/** RunStore is a run, live. */
export interface RunStore extends RoomStore<RunSnapshot> {
  /** The details of a failure that arrived lately (the newest 200 are kept): assertion or stack trace; "" if unknown. */
  readonly failureDetails: (suite: string, name: string) => string;
  /** Reads the rows again after rowsState "failed". */
  readonly reloadRows: () => void;
}

/** ProjectStore is a project, live. */
export type ProjectStore = RoomStore<ProjectSnapshot>;

/** TestCaseStore is a test case, live. */
export interface TestCaseStore extends RoomStore<TestCaseSnapshot> {
  /**
   * Sets a field if its revision is still baseRevision; by default the one in
   * the snapshot. Rejects with a TcmError of reason REVISION_MISMATCH, whose
   * metadata has current_revision and current_value, when somebody was faster.
   */
  readonly edit: (field: TestCaseField, value: string, baseRevision?: bigint) => Promise<TestCase>;
  /** Adds a comment. */
  readonly addComment: (text: string) => Promise<Comment>;
  /** Tells the others what this session does in a field. Sent at once or never: it may be lost. */
  readonly setActivity: (field: string, state: ActivityState) => void;
  /** The revision of a field in the snapshot; 0n while loading. */
  readonly revision: (field: TestCaseField) => bigint;
}

/** UserStore is the signed-in user's own room. */
export interface UserStore extends RoomStore<UserSnapshot> {
  /** Marks notifications read, here and on all of the user's tabs. */
  readonly markRead: (ids: readonly string[]) => Promise<void>;
  /** Marks all notifications read. */
  readonly markAllRead: () => Promise<void>;
  /** Calls listener with each notification as it arrives, once; for toasts. Returns the function that ends it. */
  readonly onNotification: (listener: (notification: Notification) => void) => () => void;
}

/** TcmClient is one connection to a server and everything over it. Make one a page. */
export interface TcmClient {
  readonly session: Session;
  readonly connection: ConnectionStore;
  readonly identity: Client<typeof IdentityService>;
  readonly projects: Client<typeof ProjectService>;
  readonly execution: Client<typeof ExecutionService>;
  readonly testCases: Client<typeof TestCaseService>;
  readonly collaboration: Client<typeof CollaborationService>;
  readonly notifications: Client<typeof NotificationService>;
  /** Opens a run by id. Stores of one room are shared; each holder closes its own. */
  openRun(id: string): RunStore;
  /** Opens a project by id or key. While it is shared, the first holder's detail counts. */
  openProject(idOrKey: string, options?: { readonly detail?: Detail }): ProjectStore;
  /** Opens a test case by id. */
  openTestCase(id: string): TestCaseStore;
  /** Opens the signed-in user's own room. */
  openUser(): UserStore;
  /** Ends the session and all stores. The client can't be used afterwards. */
  close(): void;
}

/** createClient makes a client. Nothing is sent before the first call or open. */
export function createClient(options: ClientOptions): TcmClient {
  const transport = options.transport ?? networkTransport(options);
  const environment = options.environment ?? browserEnvironment();
  const session = new SessionDriver({
    client: createServiceClient(RealtimeService, transport),
    token: options.token,
    environment,
    clientName: options.clientName ?? "ts/0.1.0",
    storage: options.storage,
    noDelay: options.noDelay ?? false,
    transports: options.transports ?? ["websocket", "watch"],
    timeoutMs: options.timeoutMs ?? defaultTimeoutMs,
    attempts: options.attempts ?? defaultAttempts,
    delayMs: options.delayMs ?? defaultDelayMs,
  });
  const connection = createConnectionStore(session, environment);
  const services = {
    identity: createServiceClient(IdentityService, transport),
    projects: createServiceClient(ProjectService, transport),
    execution: createServiceClient(ExecutionService, transport),
    testCases: createServiceClient(TestCaseService, transport),
    collaboration: createServiceClient(CollaborationService, transport),
    notifications: createServiceClient(NotificationService, transport),
  };
  const rooms = new ClientRooms({ session, environment, ...services });
  return {
    session,
    connection,
    ...services,
    openRun: (id) => rooms.openRun(id),
    openProject: (idOrKey, projectOptions) => rooms.openProject(idOrKey, projectOptions),
    openTestCase: (id) => rooms.openTestCase(id),
    openUser: () => rooms.openUser(),
    close: () => {
      rooms.close();
      session.stop();
      connection.close();
    },
  };
}

const defaultTimeoutMs = 20_000;

function networkTransport({ baseUrl, token, interceptors = [] }: ClientOptions): Transport {
  return createTransport({ baseUrl, interceptors: [...interceptors, bearerToken(token)] });
}
