import { create } from "@bufbuild/protobuf";
import { PresenceSchema, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";
import { PresenceList } from "./Presence";

it("says in words and in a mark of its own how present each person is", () => {
  const { ONLINE, IDLE, RECONNECTING } = PresenceState;
  const presence = [ONLINE, IDLE, RECONNECTING].map((state, i) =>
    create(PresenceSchema, { state, sessions: 1, user: { id: `u${i}`, name: `User ${i}` } }),
  );
  const html = renderToStaticMarkup(<PresenceList presence={presence} me="u0" />);
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
