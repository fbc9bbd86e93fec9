import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { chromiumPath } from "./browser";

interface Answer {
  readonly id?: number;
  readonly method?: string;
  readonly params?: unknown;
  readonly error?: { readonly message: string };
  readonly result?: unknown;
}

/**
 * QuietBrowser is a Chromium that is told a word now and then, and tells nothing by itself. Test drivers are told of
 * each frame of each websocket, and what a page takes to show a burst is not to be measured through that.
 */
export class QuietBrowser {
  private asked = 0;
  private heard = "";
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private readonly listeners = new Map<string, (params: unknown) => void>();

  private constructor(
    private readonly child: ReturnType<typeof spawn>,
    private readonly dir: string,
    private readonly into: Writable,
    from: Readable,
  ) {
    from.setEncoding("utf8").on("data", (text: string) => this.hear(text));
    child.on("close", () => {
      for (const answer of this.waiting.values()) answer({ error: { message: "the browser ended" } });
    });
  }

  static async start(args: readonly string[] = []): Promise<QuietBrowser> {
    const dir = await mkdtemp(join(tmpdir(), "tcmanager-quiet-"));
    const switches = [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--no-first-run",
    ];
    const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
    const measured = ["--enable-precise-memory-info", "--js-flags=--expose-gc"];
    const where = [`--user-data-dir=${dir}`, "--remote-debugging-pipe", "about:blank"];
    const child = spawn(chromiumPath, [...switches, ...quiet, ...measured, ...args, ...where], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    const [into, from] = [child.stdio[3] as Writable, child.stdio[4] as Readable];
    return new QuietBrowser(child, dir, into, from);
  }

  /** Opens a page that runs script before all that is its own. */
  async open(url: string, script: string, size: Size): Promise<QuietPage> {
    const { targetId } = await this.send<{ targetId: string }>("Target.createTarget", { url: "about:blank" });
    const attach = { targetId, flatten: true };
    const { sessionId } = await this.send<{ sessionId: string }>("Target.attachToTarget", attach);
    const page = new QuietPage(this, sessionId);
    await page.resize(size);
    await page.send("Page.addScriptToEvaluateOnNewDocument", { source: script });
    await page.send("Page.enable");
    await page.send("Page.navigate", { url });
    return page;
  }

  async send<T>(method: string, params: object = {}, sessionId?: string): Promise<T> {
    const id = ++this.asked;
    const answered = new Promise<Answer>((resolve) => this.waiting.set(id, resolve));
    this.into.write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`);
    const { error, result } = await answered;
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result as T;
  }

  /** Hears of a kind of event from now on; one listener a kind. */
  on<T>(method: string, listener: (params: T) => void): void {
    this.listeners.set(method, listener as (params: unknown) => void);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once("close", resolve));
    await this.send("Browser.close").catch(() => this.child.kill("SIGKILL"));
    await ended;
    await rm(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  private hear(text: string): void {
    const parts = (this.heard + text).split("\0");
    this.heard = parts.pop() ?? "";
    for (const part of parts) {
      const answer: Answer = JSON.parse(part);
      if (answer.id === undefined) {
        this.listeners.get(answer.method ?? "")?.(answer.params);
        continue;
      }
      this.waiting.get(answer.id)?.(answer);
      this.waiting.delete(answer.id);
    }
  }
}

export interface Size {
  readonly width: number;
  readonly height: number;
  readonly dark?: boolean;
}

/** A page of a QuietBrowser. */
export class QuietPage {
  constructor(
    private readonly browser: QuietBrowser,
    private readonly sessionId: string,
  ) {}

  async send<T>(method: string, params: object = {}): Promise<T> {
    return await this.browser.send<T>(method, params, this.sessionId);
  }

  async resize({ width, height, dark = false }: Size): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.send("Emulation.setDeviceMetricsOverride", metrics);
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await this.send("Emulation.setEmulatedMedia", { features });
  }

  /** What an expression, or its promise, comes to. */
  async evaluate<T>(expression: string): Promise<T> {
    const asked = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.send<{
      readonly result: { readonly value: T };
      readonly exceptionDetails?: { readonly exception?: { readonly description?: string } };
    }>("Runtime.evaluate", asked);
    if (exceptionDetails !== undefined)
      throw new Error(exceptionDetails.exception?.description ?? expression);
    return result.value;
  }

  /** Waits until an expression is true. */
  async until(expression: string, withinMs = 60_000): Promise<void> {
    const end = Date.now() + withinMs;
    while (!(await this.evaluate<boolean>(`Boolean(${expression})`))) {
      if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Clicks the middle of what a selector finds first, as a hand does. */
  async click(selector: string): Promise<void> {
    const at = `(() => { const { x, y, width, height } =
      document.querySelector(${JSON.stringify(selector)}).getBoundingClientRect();
      return { x: x + width / 2, y: y + height / 2 } })()`;
    await this.press(await this.evaluate<{ x: number; y: number }>(at));
  }

  /** Clicks at a point, without asking the page anything. */
  async press({ x, y }: { readonly x: number; readonly y: number }): Promise<void> {
    const mouse = { x, y, button: "left", clickCount: 1 };
    await this.send("Input.dispatchMouseEvent", { ...mouse, type: "mousePressed" });
    await this.send("Input.dispatchMouseEvent", { ...mouse, type: "mouseReleased" });
  }

  /** Saves a picture of the page. */
  async picture(path: string): Promise<void> {
    const { data } = await this.send<{ data: string }>("Page.captureScreenshot", { format: "png" });
    await writeFile(path, Buffer.from(data, "base64"));
  }
}
