/** What a page took to show a burst, by its own clock. Times are in milliseconds, memory in MB. */
export interface Figures {
  /** From the first test that came to the last, and how many came a second. */
  readonly shownInMs: number;
  readonly perSecond: number;
  /** Tasks of 50 ms and more, as the browser counts them, and by how much they were longer. */
  readonly longTasks: number;
  readonly longestTaskMs: number;
  readonly blockedMs: number;
  /** Between two frames. */
  readonly frames: number;
  readonly longestFrameMs: number;
  readonly framesOver50Ms: number;
  /** From a click until its effect was painted. */
  readonly clicks: number;
  readonly longestClickMs: number;
  readonly heapMB: number;
  readonly peakHeapMB: number;
  /** The most elements that the page had. */
  readonly elements: number;
  /** How often a connection was opened since the meter runs. */
  readonly connections: number;
}

export interface Meter {
  /** Begins anew. */
  start(): void;
  /** Ends, and tells. */
  stop(): Figures;
}

declare global {
  interface Window {
    meter: Meter;
    gc?: () => void;
  }
}

/** installMeter runs in the page, before anything else does: it may use nothing from out here. */
function installMeter(): void {
  let tasks: number[] = [];
  let clicks: number[] = [];
  let gaps: number[] = [];
  let heaps: number[] = [];
  let known: { readonly atMs: number; readonly tests: number }[] = [];
  let elements = 0;
  let connections = 0;
  let running = false;
  const heap = (): number => {
    const { memory } = performance as unknown as { readonly memory?: { readonly usedJSHeapSize: number } };
    return (memory?.usedJSHeapSize ?? 0) / 2 ** 20;
  };
  const longTasks = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) if (running) tasks.push(duration);
  });
  const events = new PerformanceObserver((list) => {
    for (const { name, duration } of list.getEntries()) {
      if (running && (name === "click" || name === "pointerdown")) clicks.push(duration);
    }
  });
  longTasks.observe({ type: "longtask" });
  events.observe({ type: "event", durationThreshold: 16 } as PerformanceObserverInit);
  const BrowserWebSocket = window.WebSocket;
  window.WebSocket = class extends BrowserWebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      connections++;
    }
  };
  let last = 0;
  const frame = (now: number): void => {
    if (!running) return;
    gaps.push(now - last);
    last = now;
    const tests = Number(
      document.querySelector<HTMLElement>('[data-testid="tests-known"]')?.dataset.value ?? 0,
    );
    if (known.at(-1)?.tests !== tests) known.push({ atMs: now, tests });
    requestAnimationFrame(frame);
  };
  setInterval(() => {
    if (!running) return;
    heaps.push(heap());
    elements = Math.max(elements, document.getElementsByTagName("*").length);
  }, 100);
  window.meter = {
    start: () => {
      window.gc?.();
      [tasks, clicks, gaps, heaps, known] = [[], [], [], [heap()], []];
      [elements, connections, running, last] = [0, 0, true, performance.now()];
      requestAnimationFrame(frame);
    },
    stop: () => {
      running = false;
      for (const { duration } of longTasks.takeRecords()) tasks.push(duration);
      window.gc?.();
      const max = (values: readonly number[]): number => Math.round(Math.max(0, ...values));
      const [first, end] = [known[0], known.at(-1)];
      const shownInMs = (end?.atMs ?? 0) - (first?.atMs ?? 0);
      return {
        shownInMs: Math.round(shownInMs),
        perSecond: Math.round((((end?.tests ?? 0) - (first?.tests ?? 0)) / (shownInMs || 1)) * 1000),
        longTasks: tasks.length,
        longestTaskMs: max(tasks),
        blockedMs: Math.round(tasks.reduce((sum, ms) => sum + Math.max(0, ms - 50), 0)),
        frames: gaps.length,
        longestFrameMs: max(gaps),
        framesOver50Ms: gaps.filter((ms) => ms > 50).length,
        clicks: clicks.length,
        longestClickMs: max(clicks),
        heapMB: Math.round(heap()),
        peakHeapMB: max(heaps),
        elements,
        connections,
      };
    },
  };
}

/** The meter as a script for a page. */
export const meterScript = `(${installMeter.toString()})()`;
