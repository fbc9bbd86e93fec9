import { createClient, type TcmClient } from "@tcmanager/client";
import { FakeServer } from "@tcmanager/client/testing";
import type { ReactNode } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { afterEach, describe, expect, it } from "vitest";
import {
  ClientProvider,
  useClient,
  useConnection,
  useEvents,
  usePresence,
  useRoom,
  useSelected,
  useSnapshot,
} from "./client";

const clients: TcmClient[] = [];

function connect(server: FakeServer): TcmClient {
  const client = createClient({ baseUrl: "", token: () => "", transport: server.connect() });
  clients.push(client);
  return client;
}

/** The text that a component shows at this moment. */
function shown(client: TcmClient, children: ReactNode): string {
  return renderToStaticMarkup(<ClientProvider client={client}>{children}</ClientProvider>);
}

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

function Connection() {
  const state = useConnection((connection) => connection.state);
  const carrier = useConnection((connection) => connection.carrier);
  return `${state} over ${carrier ?? "nothing"}`;
}

function Project() {
  const store = useRoom("project:demo", (client) => client.openProject("demo"));
  const people = usePresence(store).map(({ user }) => user?.name);
  const events = useEvents(store).map(({ payload }) => payload.case);
  const { project } = useSnapshot(store);
  const runs = useSelected(store, (snapshot) => snapshot.runs.length);
  return `${project?.key ?? "?"}: ${people.join()}; ${events.join()}; ${runs} runs`;
}

function Lost() {
  return useClient() === undefined ? "" : "found";
}

describe("the hooks", () => {
  it("show the state of the connection, and what carries it", async () => {
    const server = new FakeServer();
    server.world.addProject("demo");
    const client = connect(server);
    expect(shown(client, <Connection />)).toBe("idle over nothing");
    client.openProject("demo");
    await expect.poll(() => shown(client, <Connection />)).toBe("live over websocket");
  });

  it("show a room, who is in it, and what happened", async () => {
    const server = new FakeServer();
    server.world.addProject("demo");
    const client = connect(server);
    expect(shown(client, <Project />)).toBe("?: ; ; 0 runs");
    await expect.poll(() => shown(client, <Project />)).toBe("demo: Ada; ; 0 runs");
    server.world.addRun({ project: "demo" });
    await expect.poll(() => shown(client, <Project />)).toBe("demo: Ada; runChanged; 1 runs");
  });

  it("give the same part of a snapshot until that part is another", async () => {
    const server = new FakeServer();
    server.world.addProject("demo");
    const store = connect(server).openProject("demo");
    await expect.poll(() => store.getSnapshot().state).toBe("live");
    const before = store.getSnapshot();
    server.world.addRun({ project: "demo" });
    await expect.poll(() => store.getSnapshot().runs.length).toBe(1);
    expect(store.getSnapshot().presence, "nobody renders anew for it").toBe(before.presence);
  });

  it("say what is missing without a client around them", () => {
    expect(() => renderToStaticMarkup(<Lost />)).toThrow("ClientProvider");
  });
});
