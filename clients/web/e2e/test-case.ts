import type { Page } from "playwright-core";
import { byId, see, until } from "./browser";

/** Makes a test case as a person does, stays on its editor, and returns its path. The page must be signed in. */
export async function writeCase(page: Page, title: string, priority = "Medium"): Promise<string> {
  await page.goto(new URL("/projects/demo/cases", page.url()).href);
  await page.getByRole("button", { name: "New test case" }).click();
  await page.getByLabel("Title").fill(title);
  await page.getByLabel("Priority").selectOption({ label: priority });
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.waitForURL(/\/cases\/[0-9a-f-]+$/);
  await see(byId(page, "field-title"));
  return new URL(page.url()).pathname;
}

/** Waits until a field shows a value. */
export async function valueIs(page: Page, field: string, value: string): Promise<void> {
  await until(`${field} to read ${JSON.stringify(value)}`, async () => {
    return (await byId(page, `field-${field}`).inputValue()) === value;
  });
}
