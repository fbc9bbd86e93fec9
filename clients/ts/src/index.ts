/**
 * The TypeScript client of TCManager, without a framework: one session with the
 * server, over a websocket or where there is none over fetch, which survives
 * breaks, and a live store for each room.
 */
export type { Carrier, TransportName } from "./carrier";
export type { ConnectionStateName } from "./connection";
export { browserEnvironment, type Environment, type WakeSignal } from "./environment";
export { fromErrorMessage, TcmError, type TcmErrorInit, toTcmError, type Violation } from "./errors";
export type { FieldActivity } from "./rooms/activity";
export { describeEvent } from "./rooms/describe";
export { headcountOf } from "./rooms/presence";
export type { ProjectSnapshot } from "./rooms/project";
export { isFailure, type Row, type RowTable } from "./rooms/row-table";
export type { RowsState, RunSnapshot } from "./rooms/run";
export type { TestCaseSnapshot } from "./rooms/test-case";
export { revisionOf } from "./rooms/test-case";
export type { UserSnapshot } from "./rooms/user";
export type {
  CommandAnswer,
  CommandInit,
  DroppedCommand,
  JoinOptions,
  KeyValueStorage,
  RoomHandle,
  RoomMessage,
  Session,
  TokenSource,
} from "./session";
export type { RoomSnapshot, RoomState, RoomStore, Store } from "./store";
export type {
  ClientOptions,
  ProjectStore,
  RunStore,
  TcmClient,
  TestCaseStore,
  UserStore,
} from "./stores/client";
export { createClient } from "./stores/client";
export type { ConnectionSnapshot, ConnectionStore, EventRecord, Quality } from "./stores/connection";
export { qualityOf } from "./stores/connection";
export { durationToMs, timestampToMs } from "./time";
export { createGrpcWebSocketTransport, type GrpcWebSocketTransportOptions } from "./transport/grpc-websocket";
