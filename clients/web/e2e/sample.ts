import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Process, program, root } from "./processes";
import type { TestServer } from "./server";

/** The places where the sample's tests wait until they are let go. */
export type Gate = "door" | "together" | "till";

/** A run of the sample module by the real `go test`, streamed by the real `tcm`, through a pipe. */
export class SampleRun {
  private constructor(
    private readonly process: Process,
    private readonly dir: string,
  ) {}

  static async start(server: TestServer): Promise<SampleRun> {
    const dir = await mkdtemp(join(tmpdir(), "tcmanager-sample-"));
    // One package after the other, in the order of their names: arrival, boom, broken, shop.
    const line = `go test -json -p 1 -parallel 2 -count 1 ./... 2>/dev/null | tee "$EVENTS" | ${program("tcm")} stream --project demo`;
    const env = {
      ...process.env,
      SAMPLE_GATES: dir,
      EVENTS: join(dir, "events.json"),
      TCM_SERVER: server.grpcAddr,
      TCM_TOKEN: "",
      GOFLAGS: "",
      GOWORK: "off",
    };
    return new SampleRun(
      new Process("bash", ["-c", line], { cwd: `${root}clients/web/e2e/testdata/sample`, env }),
      dir,
    );
  }

  /** The address of the run's page, which tcm prints before anything else. */
  async address(): Promise<string> {
    return (await this.process.says(/(https?:\/\/\S+\/runs\/[0-9a-f-]+)/))[1] ?? "";
  }

  /** Lets the tests at a gate go on. */
  async open(gate: Gate): Promise<void> {
    await writeFile(join(this.dir, gate), "");
  }

  /** Waits until the pipe has ended, and returns its exit code, which is tcm's. */
  async finished(): Promise<number> {
    return await this.process.ended;
  }

  /** Counts what go test said, without any code of the product. */
  async independentCount(): Promise<Count> {
    return countEvents(await readFile(join(this.dir, "events.json"), "utf8"));
  }

  get output(): string {
    return this.process.output;
  }

  async close(): Promise<void> {
    await this.process.end();
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** How many tests and subtests ended how, and how many packages there were. */
export interface Count {
  readonly total: number;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly tests: ReadonlyMap<string, string>;
}

interface TestEvent {
  readonly Action: string;
  readonly Package?: string;
  readonly Test?: string;
}

export function countEvents(json: string): Count {
  const tests = new Map<string, string>();
  for (const line of json.split("\n")) {
    if (!line.startsWith("{")) continue;
    const event: TestEvent = JSON.parse(line);
    if (event.Test === undefined) continue;
    const name = `${event.Package} ${event.Test}`;
    if (event.Action === "run") tests.set(name, "run");
    if (["pass", "fail", "skip"].includes(event.Action)) tests.set(name, event.Action);
  }
  const ended = (how: string): number => [...tests.values()].filter((action) => action === how).length;
  return { total: tests.size, passed: ended("pass"), failed: ended("fail"), skipped: ended("skip"), tests };
}
