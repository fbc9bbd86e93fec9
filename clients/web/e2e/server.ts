import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Process, program } from "./processes";

/** A development server of its own, with a store of its own, on free ports. */
export class TestServer {
  private process: Process | undefined;
  private log = "";
  private constructor(
    readonly dir: string,
    private readonly args: readonly string[],
  ) {}

  /** The address people open. */
  url = "";
  /** The address runners connect to. */
  grpcAddr = "";
  private httpAddr = "127.0.0.1:0";

  static async start(args: readonly string[] = ["--dev"]): Promise<TestServer> {
    const server = new TestServer(await mkdtemp(join(tmpdir(), "tcmanager-e2e-")), args);
    server.grpcAddr = "127.0.0.1:0";
    await server.launch();
    return server;
  }

  private async launch(): Promise<void> {
    const options = ["--data-dir", this.dir, "--grpc-addr", this.grpcAddr, "--http-addr", this.httpAddr];
    this.process = new Process(program("tcmanager"), ["serve", ...options, ...this.args]);
    const [, grpcAddr = "", httpAddr = ""] = await this.process.says(
      /"msg":"serving".*"grpc\.addr":"([^"]+)","http\.addr":"([^"]+)"/,
    );
    [this.grpcAddr, this.httpAddr, this.url] = [grpcAddr, httpAddr, `http://${httpAddr}`];
  }

  /** Stops the server; start it again with resume. */
  async stop(): Promise<void> {
    await this.process?.end();
    this.log += this.process?.output ?? "";
    this.process = undefined;
  }

  /** Ends the server without a warning, as kill -9 and power cuts do. */
  async kill(): Promise<void> {
    this.process?.kill();
    await this.stop();
  }

  /** Starts it again at the same addresses, on the same store. */
  async resume(): Promise<void> {
    await this.launch();
  }

  /** The process id, to measure it. */
  get pid(): number | undefined {
    return this.process?.pid;
  }

  /** What the server logged since it was first started. */
  get logged(): string {
    return this.log + (this.process?.output ?? "");
  }

  /** Stops the server for good and removes its store. */
  async close(): Promise<void> {
    await this.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}
