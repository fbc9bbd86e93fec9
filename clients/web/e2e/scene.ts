import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, onTestFailed } from "vitest";
import { startBrowser, Visitor } from "./browser";
import type { Network } from "./network";
import { TestServer } from "./server";

interface VisitorOptions {
  readonly colorScheme?: "dark" | "light";
  readonly width?: number;
  /** Another server, or the network before it. */
  readonly at?: { readonly url: string };
}

/** What every file of tests has: a server, a browser, and visitors who leave at the end of each test. */
export interface Scene {
  readonly server: TestServer;
  readonly browser: Browser;
  /** Somebody who comes to the server itself, if no other place is named. */
  visitor(options?: VisitorOptions): Promise<Visitor>;
  /** Runs at the end of the test, whatever becomes of it. */
  after(act: () => Promise<void>): void;
}

/**
 * Sets the scene for the tests of a file, with a network before the server if one is given, which each test finds
 * whole. The server's log is shown when a test fails.
 */
export function setScene(args: readonly string[] = ["--dev"], network?: Network): Scene {
  let server: TestServer | undefined;
  let browser: Browser | undefined;
  const cleanups: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    await network?.open();
    const origins = network === undefined ? [] : ["--allowed-origins", network.url];
    server = await TestServer.start([...args, ...origins]);
    network?.leadTo(server);
    browser = await startBrowser();
  });
  beforeEach(() => {
    onTestFailed(() => {
      process.stderr.write(`the server's log:\n${server?.logged}\n`);
    });
  });
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
    network?.heal();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await network?.close();
  });
  return {
    get server() {
      if (server === undefined) throw new Error("the server is not started yet");
      return server;
    },
    get browser() {
      if (browser === undefined) throw new Error("the browser is not started yet");
      return browser;
    },
    async visitor(options) {
      const visitor = await Visitor.enter(this.browser, options?.at ?? this.server, options);
      cleanups.push(() => visitor.leave());
      return visitor;
    },
    after(act) {
      cleanups.push(act);
    },
  };
}
