import {
  createServer as createHttpServer,
  type IncomingMessage,
  request,
  type ServerResponse,
} from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { Valve } from "./valve";

/** What becomes of a websocket: it comes through, or is refused with 403, or is dropped or hangs once it was agreed on. */
export type WebSocketFate = "passed" | "refused" | "dropped" | "hung";

/** A connection of a browser, and the one to the server that goes on with it. */
interface Pair {
  readonly browser: Socket;
  readonly server: Socket;
  /** Nothing passes any more, not even that one side is gone. */
  silent: boolean;
}

/**
 * Network is the way between browsers and a server, and does to it what networks do. It listens on
 * loopback; start the server with its url as an allowed origin, and then lead it to the server.
 */
export class Network {
  /** The address people open. */
  url = "";
  websockets: WebSocketFate = "passed";
  /** Whether answers are held back until they are whole. Such a proxy knows no websockets. */
  buffered = false;
  private target = { host: "", port: 0 };
  private state: "up" | "cut" | "silent" = "up";
  private readonly sockets = new Set<Socket>();
  private readonly forgotten = new Set<Socket>();
  private readonly pairs = new Set<Pair>();
  /** One for what each websocket brings to its browser. */
  private readonly valves = new Set<Valve>();
  private readonly door = createServer((socket) => this.arrive(socket));
  private readonly bufferer = createHttpServer((asked, answer) => this.pass(asked, answer));

  async open(): Promise<void> {
    await new Promise<void>((resolve) => this.door.listen(0, "127.0.0.1", resolve));
    const { port } = this.door.address() as AddressInfo;
    this.url = `http://127.0.0.1:${port}`;
  }

  leadTo(server: { readonly url: string }): void {
    const { hostname, port } = new URL(server.url);
    this.target = { host: hostname, port: Number(port) };
  }

  /** Ends all connections, and lets none begin. */
  cut(): void {
    this.state = "cut";
    for (const socket of this.sockets) socket.destroy();
  }

  /** Lets connections stay, and nothing through: both sides believe that the other is there. */
  silence(): void {
    this.state = "silent";
    this.forget();
  }

  /** As silence, but only for the connections that are there: so do routers that restart. */
  forget(): void {
    for (const pair of this.pairs) {
      pair.silent = true;
      this.swallow(pair.browser.unpipe());
      this.swallow(pair.server.unpipe());
    }
  }

  /** Keeps what the websockets that are there bring to browsers; returns how many bytes that are by now. */
  hold(): () => number {
    for (const valve of this.valves) valve.close();
    return () => [...this.valves].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Lets what was kept go, on each websocket at a rate; resolves when all is on its way. */
  async release(bytesPerSecond: number): Promise<void> {
    await Promise.all([...this.valves].map((valve) => valve.open(bytesPerSecond)));
  }

  /** Begins to work again, and resets the connections that it doesn't know any more. */
  heal(): void {
    this.state = "up";
    for (const socket of this.forgotten) socket.destroy();
    this.websockets = "passed";
    this.buffered = false;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.door.close(resolve));
  }

  private arrive(browser: Socket): void {
    if (this.state === "cut") return void browser.destroy();
    this.keep(browser);
    if (this.state === "silent") return this.swallow(browser);
    if (this.buffered) return void this.bufferer.emit("connection", browser);
    browser.once("data", (head) => this.connect(browser, head));
  }

  private keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on("error", () => socket.destroy()).on("close", () => this.sockets.delete(socket));
  }

  /** Reads on, and tells nobody. */
  private swallow(socket: Socket): void {
    this.forgotten.add(socket);
    socket.on("close", () => this.forgotten.delete(socket)).resume();
  }

  private connect(browser: Socket, head: Buffer): void {
    browser.pause();
    const isWebSocket = /^upgrade: *websocket/im.test(head.toString("latin1"));
    const fate = isWebSocket ? this.websockets : "passed";
    if (this.state === "silent") return this.swallow(browser);
    if (fate === "refused") {
      return void browser.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    const server = connect(this.target);
    this.keep(server);
    const pair: Pair = { browser, server, silent: false };
    this.pairs.add(pair);
    for (const [one, other] of [
      [browser, server],
      [server, browser],
    ] as const) {
      one.on("close", () => {
        this.pairs.delete(pair);
        if (!pair.silent) other.destroy();
      });
    }
    server.write(head);
    if (isWebSocket) server.pipe(this.valve(browser)).pipe(browser);
    else server.pipe(browser);
    if (fate === "passed") browser.pipe(server);
    else browser.resume();
    if (fate === "dropped") browser.once("data", () => browser.destroy());
  }

  private valve(browser: Socket): Valve {
    const valve = new Valve();
    this.valves.add(valve);
    browser.on("close", () => {
      this.valves.delete(valve);
      valve.destroy();
    });
    return valve;
  }

  /** Passes a request on, and its answer when all of it is there. */
  private pass(asked: IncomingMessage, answer: ServerResponse): void {
    if (asked.headers.upgrade !== undefined) return void answer.writeHead(403).end();
    const { method, url: path, headers } = asked;
    const onward = request({ ...this.target, method, path, headers, agent: false }, (told) => {
      const { "transfer-encoding": _, ...rest } = told.headers;
      buffer(told).then(
        (body) =>
          answer.writeHead(told.statusCode ?? 502, { ...rest, "content-length": body.length }).end(body),
        () => answer.destroy(),
      );
    });
    onward.on("error", () => answer.destroy());
    answer.on("close", () => onward.destroy());
    asked.pipe(onward);
  }
}
