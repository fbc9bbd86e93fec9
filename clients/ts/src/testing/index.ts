/**
 * A server in memory and a clock to turn by hand, for tests of programs that
 * use @tcmanager/client, and for developing pages without a server.
 */
export { TestEnvironment, TestLocks } from "./environment";
export { FakeRoom, type Payload } from "./fake-room";
export { FakeRun } from "./fake-run";
export { FakeServer, type FakeServerOptions, switchedOff, websocketBlocked } from "./fake-server";
export { FakeWorld } from "./fake-world";
