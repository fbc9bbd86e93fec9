import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { chromiumPath, type Place, Visitor } from "./browser";
import { Process } from "./processes";

/**
 * A browser as people have it, in a process of its own. In those that startBrowser starts every tab
 * believes that it is looked at; here a tab is hidden when another comes before it, and can be frozen.
 */
export class OwnBrowser {
  private constructor(
    private readonly process: Process,
    private readonly dir: string,
    private readonly browser: Browser,
    readonly visitor: Visitor,
  ) {}

  static async start(place: Place): Promise<OwnBrowser> {
    const dir = await mkdtemp(join(tmpdir(), "tcmanager-browser-"));
    const switches = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
    const quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update"];
    const where = [`--user-data-dir=${dir}`, "--remote-debugging-port=0", "--window-size=1440,900"];
    const process = new Process(chromiumPath, [...switches, ...quiet, ...where, "about:blank"]);
    const [, endpoint = ""] = await process.says(/DevTools listening on (\S+)/);
    const browser = await chromium.connectOverCDP(endpoint, { noDefaults: true });
    const [context] = browser.contexts();
    if (context === undefined) throw new Error("the browser has no window");
    return new OwnBrowser(process, dir, browser, new Visitor(context, place));
  }

  /** Brings another tab before the one in front, which is hidden by that. */
  async cover(): Promise<void> {
    const page = await this.visitor.context.newPage();
    await page.bringToFront();
  }

  /** Freezes a hidden tab, as browsers do to save energy: nothing in it runs. */
  async freeze(page: Page): Promise<void> {
    await this.setLifecycle(page, "frozen");
  }

  async thaw(page: Page): Promise<void> {
    await this.setLifecycle(page, "active");
  }

  private async setLifecycle(page: Page, state: "frozen" | "active"): Promise<void> {
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Page.setWebLifecycleState", { state });
    await cdp.detach();
  }

  /** Ends all of its processes at once: no page says goodbye. */
  async kill(): Promise<void> {
    this.process.kill();
    await this.process.ended;
  }

  async close(): Promise<void> {
    await this.browser.close();
    await this.process.end();
    await rm(this.dir, { recursive: true, force: true });
  }
}
