import {
  Code,
  ConnectError,
  createClient,
  createContextValues,
  createRouterTransport,
} from "@connectrpc/connect";
import { IdentityService } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import { expect, test } from "vitest";
import type { TokenSource } from "../session";
import { bearerToken, refreshToken } from "./auth";

/** A client of a server that accepts one token and notes what it got. */
function setup(source: TokenSource, accepted = "good") {
  const seen: (string | null)[] = [];
  const transport = createRouterTransport(
    (router) => {
      router.service(IdentityService, {
        getMe: (_, { requestHeader }) => {
          const header = requestHeader.get("authorization");
          seen.push(header);
          if (header !== `Bearer ${accepted}`) throw new ConnectError("who are you?", Code.Unauthenticated);
          return { user: { id: "u1" } };
        },
      });
    },
    { transport: { interceptors: [bearerToken(source)] } },
  );
  return { client: createClient(IdentityService, transport), seen };
}

test("a call carries the token", async () => {
  const { client, seen } = setup(() => "good");
  expect((await client.getMe({})).user?.id).toBe("u1");
  expect(seen).toEqual(["Bearer good"]);
});

test("a call that is refused is tried once more with a new token", async () => {
  const { client, seen } = setup(async ({ refresh }) => (refresh ? "good" : "old"));
  expect((await client.getMe({})).user?.id).toBe("u1");
  expect(seen).toEqual(["Bearer old", "Bearer good"]);
});

test("a call that is refused with a new token as well is not tried again", async () => {
  const { client, seen } = setup(({ refresh }) => (refresh ? "bad" : "old"));
  await expect(client.getMe({})).rejects.toMatchObject({ code: Code.Unauthenticated });
  expect(seen).toEqual(["Bearer old", "Bearer bad"]);
});

test("a call is not tried again with the same token", async () => {
  const { client, seen } = setup(() => "old");
  await expect(client.getMe({})).rejects.toMatchObject({ code: Code.Unauthenticated });
  expect(seen).toEqual(["Bearer old"]);
});

test("an empty token means an anonymous call", async () => {
  const { client, seen } = setup(() => "");
  await expect(client.getMe({})).rejects.toMatchObject({ code: Code.Unauthenticated });
  expect(seen[0]).toBeNull();
});

test("whoever drives a stream can ask for a new token at once", async () => {
  const { client, seen } = setup(({ refresh }) => (refresh ? "good" : "old"));
  await client.getMe({}, { contextValues: createContextValues().set(refreshToken, true) });
  expect(seen).toEqual(["Bearer good"]);
});

test("a source that fails counts as refused, unless it says what else it was", async () => {
  const broken = setup(() => Promise.reject(new Error("signed out")));
  await expect(broken.client.getMe({})).rejects.toMatchObject({
    code: Code.Unauthenticated,
    rawMessage: "no token: signed out",
  });
  const away = setup(() => Promise.reject(new ConnectError("no network", Code.Unavailable)));
  await expect(away.client.getMe({})).rejects.toMatchObject({ code: Code.Unavailable });
});
