/**
 * A server in memory and a clock to turn by hand, for tests of programs that
 * use @tcmanager/client, and for developing pages without a server.
 */
export { TestEnvironment } from "./environment";
export { FakeRoom, type Payload } from "./fake-room";
export { FakeRun } from "./fake-run";
export { FakeServer, type FakeServerOptions } from "./fake-server";
export { FakeWorld } from "./fake-world";
