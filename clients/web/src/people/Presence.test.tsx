import { create } from "@bufbuild/protobuf";
import { MantineProvider } from "@mantine/core";
import { PresenceSchema, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";
import { PresenceList, PresenceRow } from "./Presence";

it("says in words and in a mark of its own how present each person is", () => {
  const { ONLINE, IDLE, RECONNECTING } = PresenceState;
  const presence = [ONLINE, IDLE, RECONNECTING].map((state, i) =>
    create(PresenceSchema, { state, sessions: 1, user: { id: `u${i}`, name: `User ${i}` } }),
  );
  const html = renderToStaticMarkup(<PresenceList presence={presence} count={3} me="u0" />);
  const people = [...html.matchAll(/<li[^>]*data-state="([a-z]+)".*?<\/li>/g)].map(
    ([item, state]) =>
      `${state}: ${item.replace(/<span[^>]*aria-hidden.*?<\/span>/, "").replace(/<[^>]+>/g, " ")}`,
  );
  expect(people.map((each) => each.replace(/\s+/g, " ").trim())).toEqual([
    "online: User 0 you",
    "idle: User 1 idle",
    "reconnecting: User 2 reconnecting",
  ]);
});

describe("how many people are here", () => {
  const people = (n: number) =>
    Array.from({ length: n }, (_, i) =>
      create(PresenceSchema, {
        state: PresenceState.ONLINE,
        sessions: 1,
        user: { id: `u${i}`, name: `User ${i}` },
      }),
    );
  const words = (html: string) => html.replace(/<[^>]+>/g, " ").replace(/\s+/g, " ");
  const heard = (html: string) => words(html.replace(/<li[^>]*aria-hidden.*?<\/li>/g, ""));

  it.each([
    [3, 3, "", undefined],
    [7, 7, "+2", undefined],
    [201, 5012, "+5,007", "and 4,811 more"],
    [2, 5012, "+5,010", "and 5,010 more"],
  ])("is told of %i of %i", (listed, count, seen, said) => {
    const row = renderToStaticMarkup(
      <MantineProvider>
        <PresenceRow presence={people(listed)} count={count} me="u0" />
      </MantineProvider>,
    );
    const more = [...row.matchAll(/<li[^>]*data-testid="presence-more"[^>]*>(.*?)<\/li>/g)].map(
      ([, text]) => text,
    );
    expect(more.join("").replaceAll("<!-- -->", "")).toBe(seen);
    const list = renderToStaticMarkup(<PresenceList presence={people(listed)} count={count} me="u0" />);
    for (const html of [row, list]) {
      expect(heard(html).includes(said ?? " more")).toBe(said !== undefined);
    }
  });
});
