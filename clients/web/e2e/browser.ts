import { type Browser, type BrowserContext, chromium, type Locator, type Page } from "playwright-core";
import { patienceMs } from "./processes";
export type Person = "demo-manager" | "demo-tester" | "demo-viewer";

export const chromiumPath = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Starts Debian's Chromium, without a window. */
export async function startBrowser(args: readonly string[] = []): Promise<Browser> {
  return await chromium.launch({
    executablePath: chromiumPath,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-dev-shm-usage",
      ...args,
    ],
  });
}

/** Where the page is: a server, or the network before it. */
export interface Place {
  readonly url: string;
}

/** A person with a browser of their own: nothing is shared with others but the server. */
export class Visitor {
  /** Errors that the pages threw or wrote to the console. */
  readonly errors: string[] = [];

  constructor(
    readonly context: BrowserContext,
    private readonly place: Place,
  ) {
    context.setDefaultTimeout(patienceMs);
  }

  static async enter(
    browser: Browser,
    place: Place,
    options: { readonly colorScheme?: "dark" | "light"; readonly width?: number } = {},
  ): Promise<Visitor> {
    const context = await browser.newContext({
      viewport: { width: options.width ?? 1440, height: 900 },
      colorScheme: options.colorScheme ?? "light",
    });
    return new Visitor(context, place);
  }

  /** Opens another tab, without an address. */
  async tab(): Promise<Page> {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") this.errors.push(message.text());
    });
    return page;
  }

  /** Opens a path in another tab and signs in there if the page asks for it. */
  async open(path: string, as?: Person): Promise<Page> {
    const page = await this.tab();
    await page.goto(new URL(path, this.place.url).href);
    if (as !== undefined) await signIn(page, as);
    return page;
  }

  async leave(): Promise<void> {
    await this.context.close();
  }
}

/** Chooses a development user on the sign-in page, and waits until the session is live. */
export async function signIn(page: Page, who: Person): Promise<void> {
  await byId(page, "sign-in-user", { user: who }).click();
  await isLive(page);
}

export async function isLive(page: Page): Promise<void> {
  await see(byId(page, "connection-state", { state: "live" }));
}

/** What is to be said of a connection; "lost" is reconnecting or, after some attempts, offline. */
export interface Said {
  readonly state?: "live" | "off" | "connecting" | "reconnecting" | "offline" | "lost";
  readonly carrier?: "websocket" | "stream" | "long-poll" | "poll" | "off";
  readonly word?: string;
}

/** Waits until a page says this of its connection. */
export async function says(page: Page, { state, carrier, word = "" }: Said): Promise<void> {
  const states = state === "lost" ? ["reconnecting", "offline"] : state === undefined ? [] : [state];
  const named = states.map((each) => `[data-state="${each}"]`).join(",");
  const over = carrier === undefined ? "" : `[data-carrier="${carrier}"]`;
  const all = page.locator(`[data-testid="connection-state"]${named === "" ? "" : `:is(${named})`}${over}`);
  await see(all.filter({ hasText: word }));
}

/** Notes from now on what a page says of its connection; the function it returns tells what it said, in order. */
export async function noteStates(page: Page): Promise<() => Promise<readonly string[]>> {
  await page.evaluate(() => {
    const said: string[] = [];
    const look = (): void => {
      const { state, carrier } =
        document.querySelector<HTMLElement>('[data-testid="connection-state"]')?.dataset ?? {};
      const now = `${state} ${carrier}`;
      if (said.at(-1) !== now) said.push(now);
    };
    look();
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
    Object.assign(window, { __tcmSaid: said });
  });
  return () => page.evaluate(() => (window as unknown as { __tcmSaid: string[] }).__tcmSaid);
}

/** Finds what carries a handle of src/testids.ts and these data attributes. */
export function byId(page: Page | Locator, id: string, data: Readonly<Record<string, string>> = {}): Locator {
  const conditions = Object.entries(data).map(([name, value]) => `[data-${name}=${JSON.stringify(value)}]`);
  return page.locator(`[data-testid="${id}"]${conditions.join("")}`);
}

/** Waits until something is to be seen. */
export async function see(what: Locator): Promise<void> {
  await what.first().waitFor({ state: "visible" });
}

/** Waits until something is there, be it scrolled out of sight or meant for screen readers. */
export async function there(what: Locator): Promise<void> {
  await what.first().waitFor({ state: "attached" });
}

/** Waits until nothing of the kind is left. */
export async function gone(what: Locator): Promise<void> {
  await what.first().waitFor({ state: "detached" });
}

/** Waits until a condition holds that only asking can tell. */
export async function until(what: string, ask: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + patienceMs;
  while (!(await ask())) {
    if (Date.now() > end) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const marker = "__tcmNotReloaded";

/** Marks a page, so that notReloaded can tell whether it is still the same one. */
export async function mark(page: Page): Promise<void> {
  await page.evaluate((name) => Object.assign(window, { [name]: true }), marker);
}

export async function notReloaded(page: Page): Promise<boolean> {
  return await page.evaluate((name) => name in window, marker);
}

/** A websocket that a page opened, as the browser's own protocol tells of it. */
export interface WebSocketSeen {
  readonly url: string;
  asked: string;
  agreed: string;
  status: number;
}

/** Lists the websockets that a page opens from now on. */
export async function watchWebSockets(page: Page): Promise<ReadonlyMap<string, WebSocketSeen>> {
  const seen = new Map<string, WebSocketSeen>();
  const cdp = await page.context().newCDPSession(page);
  cdp.on("Network.webSocketCreated", ({ requestId, url }) => {
    seen.set(requestId, { url, asked: "", agreed: "", status: 0 });
  });
  cdp.on("Network.webSocketWillSendHandshakeRequest", ({ requestId, request }) => {
    const socket = seen.get(requestId);
    if (socket !== undefined) socket.asked = header(request.headers, "sec-websocket-protocol");
  });
  cdp.on("Network.webSocketHandshakeResponseReceived", ({ requestId, response }) => {
    const socket = seen.get(requestId);
    if (socket === undefined) return;
    socket.agreed = header(response.headers, "sec-websocket-protocol");
    socket.status = response.status;
  });
  await cdp.send("Network.enable");
  return seen;
}

function header(headers: Readonly<Record<string, string>>, name: string): string {
  return Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1] ?? "";
}
