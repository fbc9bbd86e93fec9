import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, onTestFailed } from "vitest";
import { startBrowser, Visitor } from "./browser";
import { TestServer } from "./server";

/** What every file of tests has: a server, a browser, and visitors who leave at the end of each test. */
export interface Scene {
  readonly server: TestServer;
  readonly browser: Browser;
  visitor(options?: { readonly colorScheme?: "dark" | "light" }): Promise<Visitor>;
  /** Runs at the end of the test, whatever becomes of it. */
  after(act: () => Promise<void>): void;
}

/** Sets the scene for the tests of a file. The server's log is shown when one of them fails. */
export function setScene(args?: readonly string[]): Scene {
  let server: TestServer | undefined;
  let browser: Browser | undefined;
  const cleanups: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    server = await TestServer.start(args);
    browser = await startBrowser();
  });
  beforeEach(() => {
    onTestFailed(() => {
      process.stderr.write(`the server's log:\n${server?.logged}\n`);
    });
  });
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
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
      const visitor = await Visitor.enter(this.browser, this.server, options);
      cleanups.push(() => visitor.leave());
      return visitor;
    },
    after(act) {
      cleanups.push(act);
    },
  };
}
