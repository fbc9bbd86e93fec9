import { createWriteStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { Process, program } from "./processes";
import type { TestServer } from "./server";

/** In so many packages; a window of usual height shows them all. */
const packages = 24;
/** One test of so many fails, if nothing else is said. */
const usualFailures = 200;

/** A package of the burst, and how its tests end. */
export interface PackageCount {
  readonly suite: string;
  readonly total: number;
  readonly failed: number;
}

/**
 * BurstRun is a run of many tests that are over at once: `tcm` reads them from a file, as fast as the server takes
 * them. First comes one test of each package; the others wait until fire.
 */
export class BurstRun {
  private constructor(
    private readonly process: Process,
    private readonly dir: string,
    readonly results: number,
    private readonly failsEvery: number,
  ) {}

  /** Starts a run that will have so many results, each of a test of its own; one of failsEvery fails. */
  static async start(server: TestServer, results: number, failsEvery = usualFailures): Promise<BurstRun> {
    const dir = await mkdtemp(join(tmpdir(), "tcmanager-burst-"));
    await write(join(dir, "first.json"), 0, packages, failsEvery);
    await write(join(dir, "rest.json"), packages, results, failsEvery);
    const wait = (gate: string): string => `until [ -e ${gate} ]; do sleep 0.05; done`;
    const lines = `cat first.json; ${wait("fire")}; cat rest.json; ${wait("end")}`;
    const command = `(${lines}) | ${program("tcm")} stream --project demo --name burst 3>&1 >/dev/null 2>&3`;
    const env = { ...process.env, TCM_SERVER: server.grpcAddr, TCM_TOKEN: "" };
    return new BurstRun(new Process("bash", ["-c", command], { cwd: dir, env }), dir, results, failsEvery);
  }

  /** The path of the run's page. */
  async path(): Promise<string> {
    const [, address = ""] = await this.process.says(/(https?:\/\/\S+\/runs\/[0-9a-f-]+)/);
    return new URL(address).pathname;
  }

  async id(): Promise<string> {
    return (await this.path()).split("/").at(-1) ?? "";
  }

  /** How many of the tests fail. */
  get failures(): number {
    return this.counts.reduce((sum, { failed }) => sum + failed, 0);
  }

  /** How many tests each package will have, in the order of their first test. */
  get counts(): readonly PackageCount[] {
    const counts = Array.from({ length: packages }, (_, at) => ({ suite: suiteOf(at), total: 0, failed: 0 }));
    for (let test = 0; test < this.results; test++) {
      const count = counts[test % packages];
      if (count === undefined) continue;
      count.total++;
      if (fails(test, this.failsEvery)) count.failed++;
    }
    return counts;
  }

  /** Lets the results come. */
  async fire(): Promise<void> {
    await writeFile(join(this.dir, "fire"), "");
  }

  /** Lets the run end, and waits until `tcm` has. */
  async end(): Promise<void> {
    await this.fire();
    await writeFile(join(this.dir, "end"), "");
    await this.process.ended;
  }

  async close(): Promise<void> {
    await this.process.end();
    await rm(this.dir, { recursive: true, force: true });
  }
}

function suiteOf(test: number): string {
  return `example.org/burst/package${String(test % packages).padStart(2, "0")}`;
}

function fails(test: number, failsEvery: number): boolean {
  return test % failsEvery === failsEvery - 1;
}

/** Writes how tests ended, as `go test -json` says it. */
async function write(path: string, from: number, to: number, failsEvery: number): Promise<void> {
  const file = createWriteStream(path);
  for (let test = from; test < to; test++) {
    const [Package, Test] = [suiteOf(test), `TestBurst_${String(test).padStart(6, "0")}`];
    const Action = fails(test, failsEvery) ? "fail" : "pass";
    const lines: object[] = [{ Action, Package, Test, Elapsed: (test % 90) / 10 }];
    if (Action === "fail") {
      lines.unshift({
        Action: "output",
        Package,
        Test,
        Output: `    burst_test.go:${test}: got ${test}, want 7\n`,
      });
    }
    for (const line of lines) file.write(`${JSON.stringify(line)}\n`);
  }
  file.end();
  await finished(file);
}
