import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** How long anything may take that must happen. */
export const patienceMs = 60_000;

/** The root of the repository. */
export const root = fileURLToPath(new URL("../../..", import.meta.url));

/** The path of one of the programs that `make build` makes. TCM_BIN names another directory than bin. */
export function program(name: "tcm" | "tcmanager"): string {
  return join(process.env.TCM_BIN ?? join(root, "bin"), name);
}

/** A program that was started, with what it said. */
export class Process {
  readonly ended: Promise<number>;
  private readonly child: ChildProcess;
  private said = "";
  private readonly listeners = new Set<() => void>();

  /** Starts a program in a process group of its own, so that end() reaches what it starts too. */
  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.child = spawn(command, args, { ...options, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    this.ended = new Promise((resolve) => {
      this.child.on("error", (error) => {
        this.say(`${command}: ${error.message}\n`);
        resolve(-1);
      });
      this.child.on("close", (code) => resolve(code ?? -1));
    });
    void this.ended.then(() => this.wake());
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => this.say(text));
    }
  }

  /** All that the program wrote so far, to both of its outputs. */
  get output(): string {
    return this.said;
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  private say(text: string): void {
    this.said += text;
    this.wake();
  }

  private wake(): void {
    for (const listener of this.listeners) listener();
  }

  /** Waits until the program has written something that fits, and returns the match. */
  async says(pattern: RegExp): Promise<RegExpMatchArray> {
    return await new Promise((resolve, reject) => {
      const done = (act: () => void): void => {
        clearTimeout(timer);
        this.listeners.delete(look);
        act();
      };
      const fail = (why: string): void =>
        done(() => reject(new Error(`${why} without a word of ${pattern}:\n${this.said}`)));
      const look = (): void => {
        const match = this.said.match(pattern);
        if (match !== null) done(() => resolve(match));
        else if (this.child.exitCode !== null) fail("it ended");
      };
      const timer = setTimeout(() => fail(`${patienceMs} ms`), patienceMs);
      this.listeners.add(look);
      look();
    });
  }

  /** Asks the program and what it started to end, and waits until it has; ends it by force if it doesn't. */
  async end(): Promise<number> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.signal("SIGTERM");
    const force = setTimeout(() => this.signal("SIGKILL"), 20_000);
    const code = await this.ended;
    clearTimeout(force);
    return code;
  }

  /** Ends the program and what it started at once: it hears nothing of it. */
  kill(): void {
    this.signal("SIGKILL");
  }

  private signal(name: NodeJS.Signals): void {
    if (this.child.pid === undefined) return;
    try {
      process.kill(-this.child.pid, name);
    } catch {
      // It ended in this moment.
    }
  }
}
