import type { QuietBrowser } from "../quiet-browser";

/** One line of Chromium's trace; times in microseconds. */
export interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  /** Processor time; missing where it is not known. */
  readonly tdur?: number;
  readonly args: { readonly name?: string };
}

/** Trace is what all threads of a browser did. */
export class Trace {
  private readonly events: TraceEvent[] = [];

  private constructor(private readonly browser: QuietBrowser) {
    browser.on<{ readonly value: readonly TraceEvent[] }>("Tracing.dataCollected", ({ value }) => {
      for (const event of value) this.events.push(event);
    });
  }

  /** Begins; in detail it also says what each task was for, which costs the page some time. */
  static async start(browser: QuietBrowser, inDetail: boolean): Promise<Trace> {
    const trace = new Trace(browser);
    const includedCategories = ["toplevel", "__metadata", ...(inDetail ? ["devtools.timeline", "v8"] : [])];
    await browser.send("Tracing.start", { traceConfig: { includedCategories } });
    return trace;
  }

  async stop(): Promise<readonly TraceEvent[]> {
    const complete = new Promise<void>((done) => this.browser.on("Tracing.tracingComplete", () => done()));
    await this.browser.send("Tracing.end");
    await complete;
    return this.events;
  }
}

/** The processor time of each task of the busiest page's main thread, longest first. */
export function longestTasksMs(events: readonly TraceEvent[]): readonly number[] {
  const tasks = new Map<string, number[]>();
  for (const { name, args, pid, tid } of events) {
    if (name === "thread_name" && args.name === "CrRendererMain") tasks.set(`${pid} ${tid}`, []);
  }
  for (const { name, ph, pid, tid, tdur = 0 } of events) {
    if (ph === "X" && name.endsWith("RunTask")) tasks.get(`${pid} ${tid}`)?.push(tdur / 1000);
  }
  const sum = (list: readonly number[]): number => list.reduce((total, ms) => total + ms, 0);
  const [busiest = []] = [...tasks.values()].sort((a, b) => sum(b) - sum(a));
  return busiest.sort((a, b) => b - a);
}
