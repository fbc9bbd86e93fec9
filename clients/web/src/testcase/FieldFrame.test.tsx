import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";
import { Typing } from "./FieldFrame";

it.each([
  [0, ""],
  [1, "U0 is typing…"],
  [2, "U0, U1 are typing…"],
  [5, "U0, U1, U2, U3, U4 are typing…"],
  [1205, "U0, U1, U2, U3, U4 and 1,200 more are typing…"],
])("says who is typing when %i are", (n, want) => {
  const others = Array.from({ length: n }, (_, i) => ({
    userId: `u${i}`,
    userName: `U${i}`,
    sessionId: `s${i}`,
    field: "title",
    state: ActivityState.TYPING as const,
    expiresAtMs: undefined,
  }));
  const html = renderToStaticMarkup(<Typing testId="typing" others={others} />);
  expect(html.replace(/<!--.*?-->|<[^>]+>/g, "")).toBe(want);
});
