import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, it } from "vitest";
import { byId, isLive, see } from "./browser";
import { program } from "./processes";
import { setScene } from "./scene";

const secret = join(tmpdir(), `tcmanager-e2e-secret-${process.pid}`);
writeFileSync(secret, randomBytes(32).toString("hex"), { mode: 0o600 });
afterAll(() => rmSync(secret, { force: true }));

// No development server: whoever comes needs a token.
const scene = setScene(["--jwt-hs256-secret-file", secret]);

async function token(ttl = "1h"): Promise<string> {
  const args = ["token", "--jwt-hs256-secret-file", secret, "--user", "anna", "--name", "Anna", "--ttl", ttl];
  const { stdout } = await promisify(execFile)(program("tcmanager"), args);
  return stdout.trim();
}

it("a bad token is refused in plain words, and a good one lets in", async () => {
  const visitor = await scene.visitor();
  const page = await visitor.open("/");
  await see(byId(page, "sign-in"));
  await page.getByLabel("Token").fill("not a token");
  await page.getByRole("button", { name: "Sign in" }).click();
  await see(page.getByText(/token/i).filter({ hasText: /not|expired|invalid|wrong|refused|sign/i }));
  expect(await byId(page, "sign-in").textContent()).not.toMatch(
    /\[unauthenticated\]|rpc error|undefined|stack/,
  );

  await page.getByLabel("Token").fill(await token());
  await page.getByRole("button", { name: "Sign in" }).click();
  await isLive(page);
  await see(byId(page, "user-menu", { user: "anna" }));

  // Signing out in one tab reaches the others.
  const other = await visitor.open("/");
  await isLive(other);
  await byId(page, "user-menu").click();
  await page.getByText("Sign out").click();
  await see(byId(page, "sign-in"));
  await see(byId(other, "sign-in"));
});

it("a sign-in that runs out leads back to the sign-in page, which says so", async () => {
  const visitor = await scene.visitor();
  const page = await visitor.open("/");
  await page.getByLabel("Token").fill(await token("4s"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await see(byId(page, "user-menu", { user: "anna" }));
  await see(byId(page, "sign-in"));
  await see(page.getByRole("status").filter({ hasText: /sign/i }));
});
